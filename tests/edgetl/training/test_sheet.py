"""The contact sheet: every kind of label is drawn, and wrong input is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import VOID, Dataset, MaskLayer, Sample
from edgetl.training.augment import AugmentConfig, View
from edgetl.training.sheet import contact_sheet, draw_view, mask_colours
from edgetl_runtime.errors import InputError

LAYERS = (MaskLayer("ground", ("background", "road")), MaskLayer("scene", tuple("abcdefghijk")))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three grey frames with a box, a category and a mask in the first of two layers."""
    samples = []
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((90, 160, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / f"{i}m.png"), np.eye(90, 160, dtype=np.uint8))
        box = np.array([[0.3, 0.3, 0.6, 0.6]], np.float32)
        masks = (tmp_path / f"{i}m.png", None)
        one = np.array([0])
        samples.append(Sample(tmp_path / f"{i}.png", box, one, one > 0, "g", category=i % 2, masks=masks))
    return Dataset("d", ("car",), tuple(samples), categories=("dry", "wet"), layers=LAYERS)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("whole", [False, True])
def test_a_sheet_has_a_tile_for_each_view_and_repeats(dataset: Dataset, n: int, whole: bool) -> None:
    sheets = [
        contact_sheet(dataset, n, AugmentConfig(), crop_hw=(96, 96), network_hw=(96, 160), whole=whole)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*sheets)
    height, width = (192, 320) if whole else (192, 192)
    assert sheets[0].dtype == np.uint8
    assert sheets[0].shape[0] * sheets[0].shape[1] >= n * height * width
    assert sheets[0].shape[0] > height
    assert sheets[0].shape[1] >= width


def test_boxes_masks_and_void_are_drawn_as_they_are(dataset: Dataset) -> None:
    image = np.full((130, 160, 3), 100, np.uint8)
    mask = np.full((130, 160), VOID, np.uint8)
    mask[:, 40:80], mask[:, 80:120] = 0, 1
    boxes = np.array([[125, 10, 140, 30], [141, 10, 155, 30]], np.float32)
    view = View(image, boxes, np.array([0, 0]), np.array([False, True]), -1, (mask, mask))
    drawn = draw_view(view, dataset)
    assert (drawn[:, 5:35] == 100).all()
    assert (drawn[:, 45:75] == 100).all(), "background has a tint"
    assert (drawn[:, 85:115] != 100).any(axis=2).all()
    assert tuple(drawn[20, 125]) == (0, 159, 230)
    assert tuple(drawn[20, 141]) == (150, 150, 150)
    assert (image == 100).all()
    second = draw_view(view, dataset, layer=1)
    assert (second[:, 45:75] != 100).any(axis=2).all()


def test_mask_colours_differ() -> None:
    colours = mask_colours(19).astype(int)
    apart = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(19)
    assert apart.min() > 20
    assert mask_colours(0).shape == (0, 3)


def test_nothing_to_show_is_an_error(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="0 samples"):
        contact_sheet(dataset.only([]), 4, AugmentConfig(), crop_hw=(96, 96), network_hw=(96, 160))
