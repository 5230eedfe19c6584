"""Augmentation: boxes follow the pixels, signs are not mirrored, one seed gives one crop."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import Sample
from edgetl.training.augment import AugmentConfig, augmented_view, sided_classes

PLAIN = AugmentConfig(brightness=0, contrast=0, blur=0, noise=0, pad_value=0)


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A black image with one pure red rectangle."""
    image = np.zeros((180, 320, 3), np.uint8)
    image[60:120, 100:200] = (0, 0, 255)
    path = tmp_path / "frame.png"
    cv2.imwrite(str(path), image)
    box = np.array([[100 / 320, 60 / 180, 200 / 320, 120 / 180]], np.float32)
    return Sample(path, box, np.array([0]), np.array([False]), "g")


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_the_pixels(sample: Sample, seed: int) -> None:
    view = augmented_view(
        sample,
        crop_hw=(128, 192),
        network_hw=(192, 320),
        sided=frozenset(),
        config=PLAIN,
        rng=np.random.default_rng(seed),
    )
    assert view.image.shape == (128, 192, 3)
    red = np.argwhere(view.image[:, :, 2] > 100)
    if not len(red):
        assert len(view.boxes) == 0 or view.ignore.all()
        return
    (top, left), (bottom, right) = red.min(axis=0), red.max(axis=0) + 1
    np.testing.assert_allclose(view.boxes[0], [left, top, right, bottom], atol=1.6)


def test_a_readable_sign_is_never_mirrored(sample: Sample) -> None:
    always = AugmentConfig(mirror=1.0, zoom=(1.0, 1.0))
    for seed in range(6):
        views = [
            augmented_view(
                sample,
                crop_hw=(192, 320),
                network_hw=(192, 320),
                sided=sided,
                config=always,
                rng=np.random.default_rng(seed),
            )
            for sided in (frozenset(), frozenset({0}))
        ]
        mirrored, kept = (v.boxes[0].mean() for v in views)
        assert views[1].boxes[0, 0] < views[0].boxes[0, 0]
        assert mirrored != kept


def test_one_seed_one_crop(sample: Sample) -> None:
    def make(seed: int) -> np.ndarray:
        return augmented_view(
            sample,
            crop_hw=(96, 96),
            network_hw=(192, 320),
            sided=frozenset(),
            config=AugmentConfig(),
            rng=np.random.default_rng(seed),
        ).image

    np.testing.assert_array_equal(make(3), make(3))
    assert not np.array_equal(make(3), make(4))


def test_sided_classes_by_name() -> None:
    assert sided_classes(("car", "traffic sign", "Left arrow")) == frozenset({1, 2})
