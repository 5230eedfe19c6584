"""Training targets: where centres stand, which box a cell learns, what ignored objects silence."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl.models.detector import STRIDE
from edgetl.training.targets import make_targets

SIZE = (64, 96)


def _make(boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None):  # type: ignore[no-untyped-def]
    return make_targets(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore or [False] * len(labels), np.bool_),
        classes=2,
        size_hw=SIZE,
    )


def test_one_box_has_one_centre_of_its_class() -> None:
    t = _make([[20, 10, 60, 42]], [1])
    assert t.heat.shape == (2, 16, 24)
    assert t.heat[0].max() == 0
    assert np.argwhere(t.heat[1] == 1).tolist() == [[6, 10]]
    np.testing.assert_array_equal(t.box[:, 6, 10], [20, 10, 60, 42])
    assert t.weight[6, 10] > 0
    assert t.objects == 1


def test_the_smaller_box_wins_shared_cells() -> None:
    t = _make([[0, 0, 96, 64], [40, 24, 56, 40]], [0, 0])
    np.testing.assert_array_equal(t.box[:, 8, 12], [40, 24, 56, 40])


def test_an_ignored_object_silences_its_cells_only() -> None:
    t = _make([[8, 8, 24, 24]], [0], [True])
    assert t.objects == 0
    assert t.heat.max() == 0
    assert t.quiet[2:6, 2:6].max() == 0
    assert t.quiet.sum() == t.quiet.size - 16


def test_an_object_in_a_crowd_speaks_where_it_is_learnt() -> None:
    t = _make([[0, 0, 96, 64], [40, 24, 56, 40]], [0, 1], [True, False])
    np.testing.assert_array_equal(t.quiet > 0, t.weight > 0)
    assert 1 <= t.quiet.sum() < 16


def test_a_centre_is_an_ellipse_of_a_bit_more_than_half_the_box() -> None:
    """20x8 cells around column 12 and row 8: it reaches 0.54 of half of each, with a sixth of that as deviation."""
    t = _make([[8, 16, 88, 48]], [0])
    shown = np.argwhere(t.heat[0] > 0)
    assert shown.min(0).tolist() == [6, 7] and shown.max(0).tolist() == [10, 17]
    np.testing.assert_allclose(t.heat[0, 8, 15], np.exp(-(3**2) / (2 * (11 / 6) ** 2)), rtol=1e-5)
    np.testing.assert_allclose(t.heat[0, 9, 12], np.exp(-1 / (2 * (5 / 6) ** 2)), rtol=1e-5)


def test_a_box_weighs_as_the_logarithm_of_its_area_spread_by_its_gaussian() -> None:
    t = _make([[8, 16, 88, 48]], [0])
    np.testing.assert_allclose(t.weight.sum(), np.log(160) + 1, rtol=1e-5)
    np.testing.assert_array_equal(t.weight > 0, t.heat[0] > 0.1)
    np.testing.assert_allclose(t.weight[8, 15] / t.weight[8, 12], t.heat[0, 8, 15], rtol=1e-5)


def test_no_boxes() -> None:
    t = _make([], [])
    assert t.objects == 0
    assert t.weight.sum() == 0


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 90, width=32),
            st.floats(0, 58, width=32),
            st.floats(1, 96, width=32),
            st.floats(1, 64, width=32),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_object_keeps_a_peak_inside_the_map(rows: list[tuple[float, float, float, float]]) -> None:
    corners = [[x, y, min(x + w, 96.0), min(y + h, 64.0)] for x, y, w, h in rows]
    boxes = np.array(corners, np.float32).tolist()
    t = _make(boxes, [0] * len(boxes))
    peaks = t.heat[0] == 1
    assert 1 <= peaks.sum() <= len(boxes)
    for x1, y1, x2, y2 in boxes:
        assert peaks[min(int((y1 + y2) / 2 / STRIDE), 15), min(int((x1 + x2) / 2 / STRIDE), 23)]
    assert np.isfinite(t.weight).all()
    assert (t.weight >= 0).all()
