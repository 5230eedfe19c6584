"""Deviations of edges: a floor in the network's pixels, shares by label, more for unsure and for large boxes."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_support import mounting

from edgetl_runtime.geometry.edges import CONTACT_SHARES, FLOOR_NETWORK_PX, SHARES, EdgeErrors

LABELS = ("car", "person", "thing")
OPEN = mounting(box_edge_std_px=None, box_edge_std_share=None)


def stds(
    errors: EdgeErrors, tall: list[float], *, score: float = 1.0, label: int = 0, size_hw: tuple[int, int] = (360, 640)
) -> np.ndarray:
    boxes = np.array([[10, 20, 50, 20 + t] for t in tall], np.float32).reshape(-1, 4)
    n = len(boxes)
    return errors.stds_px(boxes, np.full(n, score, np.float32), np.full(n, label), size_hw)


@pytest.mark.parametrize(("size_hw", "ratio"), [((192, 320), 1), ((360, 640), 2), ((1080, 1920), 6), ((720, 1280), 4)])
def test_the_floor_is_of_the_networks_pixels(size_hw: tuple[int, int], ratio: float) -> None:
    errors = EdgeErrors(LABELS, OPEN, (192, 320))
    assert stds(errors, [0], size_hw=size_hw)[0] == pytest.approx(FLOOR_NETWORK_PX * ratio)
    assert EdgeErrors(LABELS, OPEN, None).floor_px(size_hw) == FLOOR_NETWORK_PX


def test_what_a_share_is_worth_depends_on_label_score_and_size() -> None:
    errors = EdgeErrors(LABELS, OPEN, (192, 320))
    car, person, thing = (float(stds(errors, [60], label=k)[0]) for k in range(3))
    assert car < person < thing
    assert person == pytest.approx(np.hypot(SHARES["person"] * 60, 1.4), rel=0.05)
    sure, unsure, least = (float(stds(errors, [60], score=s)[0]) for s in (0.9, 0.3, 0.0))
    assert sure < unsure < least < 60
    small, large = stds(errors, [60, 240])
    assert large / 240 > small / 60 * 1.3


def test_a_mountings_own_values_go_first() -> None:
    errors = EdgeErrors(LABELS, mounting(box_edge_std_px=3.0, box_edge_std_share=0.02), (192, 320))
    for label, score in ((0, 1.0), (2, 0.1)):
        np.testing.assert_allclose(
            stds(errors, [0, 200], score=score, label=label, size_hw=(1080, 1920)), [3.0, np.hypot(3, 4)], rtol=1e-6
        )
    person = float(stds(errors, [200], label=1)[0])
    assert person == pytest.approx(np.hypot(3, 200 * np.hypot(0.02, CONTACT_SHARES["person"])), rel=1e-6)
    only_floor = EdgeErrors(LABELS, mounting(box_edge_std_px=3.0, box_edge_std_share=None), (192, 320))
    assert stds(only_floor, [0])[0] == 3.0 and stds(only_floor, [60], label=1)[0] > stds(only_floor, [60])[0] > 3


@pytest.mark.parametrize("count", [0, 1, 4])
def test_one_for_each_box(count: int) -> None:
    assert stds(EdgeErrors(LABELS, OPEN, (192, 320)), [30.0] * count).shape == (count,)
