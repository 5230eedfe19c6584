"""Close-ups: what stays, what changes and how far, and that whole frames are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data.dataset import Sample
from edgetl.training.augment import AugmentConfig, whole_view
from edgetl.training.close_up import BRIGHTEST, DARKEST, LARGEST_PX, is_close_up, seen_again

PLAIN = AugmentConfig(
    brightness=0, contrast=0, saturation=0, balance=0, blur=0, motion=0, noise=0, night=0, fog=0, jpeg=0, turn_deg=0,
    shift=0, size=0,
)  # fmt: skip


def noise(level: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    return np.random.default_rng(1).integers(level // 2, level + level // 2, (*size, 3)).astype(np.uint8)


def views(image: np.ndarray, count: int = 200) -> list[np.ndarray]:
    return [seen_again(image, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("size", [(32, 32), (48, 20), (1, 1), (3, 160)])
def test_a_view_has_the_picture_s_shape_and_leaves_it_alone(size: tuple[int, int]) -> None:
    image = noise(100, size)
    kept = image.copy()
    for view in views(image, 30):
        assert view.shape == image.shape and view.dtype == np.uint8
    assert np.array_equal(image, kept)


def test_one_seed_one_view() -> None:
    image = noise(100)
    again = seen_again(image, np.random.default_rng(3))
    assert np.array_equal(again, seen_again(image, np.random.default_rng(3)))
    assert not np.array_equal(again, seen_again(image, np.random.default_rng(4)))


@pytest.mark.parametrize("level", [20, 100, 160])
def test_light_goes_both_ways_and_no_further_than_cameras_see(level: int) -> None:
    means = [float(v.mean()) for v in views(noise(level))]
    assert DARKEST - 1 <= min(means) < 0.8 * level and 1.15 * level < max(means) <= BRIGHTEST + 1


def test_most_views_are_sharp_and_some_have_fewer_pixels() -> None:
    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=1)).mean() / max(image.mean(), 1))

    image = noise(60)
    left = np.array([detail(v) / detail(image) for v in views(image)])
    assert 0.5 < (left > 0.9).mean() < 0.75 and 0.25 < (left < 0.5).mean() < 0.45


@pytest.mark.parametrize(("size", "close"), [((32, 32), True), ((LARGEST_PX, 40), True), ((40, LARGEST_PX + 1), False)])
def test_small_pictures_are_close_ups(size: tuple[int, int], close: bool) -> None:
    assert is_close_up(size) is close


@pytest.mark.parametrize(("side", "alike"), [(32, False), (192, True)])
def test_whole_frames_keep_their_distance_and_light(tmp_path: Path, side: int, alike: bool) -> None:
    """Black and white stay what they are under any gamma, which is the one chance that PLAIN leaves."""
    image = np.zeros((side, side, 3), np.uint8)
    image[side // 4 : side // 2, side // 4 :] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    sample = Sample(tmp_path / "a.png", *nothing, group="", category=0)
    same = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        view = whole_view(sample, network_hw=(side, side), config=PLAIN, rng=rng)
        same += int(np.abs(view.image.astype(int) - image).max() <= 1)
    assert (same == 8) is alike
