"""Intersection over union against a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl.data import VOID
from edgetl.metrics.segmentation import confusion, mean_iou
from edgetl_runtime.errors import InputError


def plain_ious(truth: np.ndarray, found: np.ndarray, classes: int) -> list[float]:
    """Class by class, pixel by pixel; NaN for a class that neither shows."""
    ious = []
    for c in range(classes):
        both = either = 0
        for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True):
            if t == VOID:
                continue
            both += t == c and f == c
            either += c in {t, f}
        ious.append(both / either if either else float("nan"))
    return ious


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_mean_iou_equals_a_plain_loop(seed: int, classes: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([*range(classes), VOID], (height, width)).astype(np.uint8)
    found = rng.integers(0, classes, (height, width)).astype(np.uint8)
    counts = confusion(truth, found, classes)
    value, ious, accuracy = mean_iou(counts)
    wanted = plain_ious(truth, found, classes)
    np.testing.assert_allclose(ious, wanted)
    known = truth != VOID
    if known.any():
        assert value == pytest.approx(np.nanmean(wanted))
        assert accuracy == pytest.approx((truth == found)[known].mean())
    else:
        assert np.isnan(value) and np.isnan(accuracy)


def test_rows_are_the_truth() -> None:
    truth = np.array([[0, 0, 1, VOID]], np.uint8)
    found = np.array([[0, 1, 1, 1]], np.uint8)
    assert confusion(truth, found, 2).tolist() == [[1, 1], [0, 1]]


def test_frames_add_up_before_they_are_divided() -> None:
    """A frame with one pixel of a class weighs one pixel, not as much as a frame full of it."""
    few = confusion(np.array([[0, 0, 0, 1]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8), 2)
    many = confusion(np.array([[1, 1, 1, 1]], np.uint8), np.array([[1, 1, 1, 1]], np.uint8), 2)
    value, ious, _ = mean_iou(few + many)
    assert ious == pytest.approx([3 / 4, 4 / 5]) and value == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_all_right_and_all_wrong() -> None:
    mask = np.array([[0, 1], [2, 1]], np.uint8)
    assert mean_iou(confusion(mask, mask, 3))[0] == 1
    assert mean_iou(confusion(mask, (mask + 1) % 3, 3))[0] == 0


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(InputError, match=r"4x2 pixels.*3x2"):
        confusion(np.zeros((2, 4), np.uint8), np.zeros((2, 3), np.uint8), 2)
