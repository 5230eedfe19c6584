"""Close-ups: what stays, what changes and how far, and that whole frames are left alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data.dataset import Sample
from edgetl.training import close_up
from edgetl.training.augment import AugmentConfig, whole_view
from edgetl.training.close_up import BRIGHTEST, DARKEST, FARTHEST, LARGEST_PX, LONGEST, is_close_up, seen_again

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


CHANCES = {"SHADOW": 0.2, "MOTION": 0.12, "FAR": 0.3}


def alone(monkeypatch: pytest.MonkeyPatch, name: str, chance: float) -> None:
    """Of all effects only this one, with this chance."""
    monkeypatch.setattr(close_up, "EXPOSURE", 0.0)
    for other in CHANCES:
        monkeypatch.setattr(close_up, other, chance if other == name else 0.0)


@pytest.mark.parametrize("name", CHANCES)
def test_each_effect_has_its_chance(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    alone(monkeypatch, name, CHANCES[name])
    image = noise(100)
    changed = [not np.array_equal(v, image) for v in views(image, 600)]
    assert np.mean(changed) == pytest.approx(CHANCES[name], abs=0.05)


def test_a_shadow_darkens_one_side_and_leaves_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, "SHADOW", 1.0)
    left = []
    for view in views(np.full((40, 40, 3), 200, np.uint8), 60):
        assert view.max() == 200 and np.ptp(view, axis=2).max() == 0
        left.append(view.min() / 200)
        assert 0.02 < (view > 180).mean() < 0.98, "the edge runs through the picture"
    assert 0.29 < min(left) < 0.4 and 0.6 < max(left) < 0.71


def test_motion_is_no_longer_than_a_seventh_of_the_height(monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, "MOTION", 1.0)
    dot = np.zeros((65, 65, 3), np.uint8)
    dot[32, 32] = 255
    reach = [np.abs(np.argwhere(v[..., 0] > 4) - 32).max() for v in views(dot, 60)]
    assert 3 <= max(reach) <= LONGEST * 65 / 2 + 1


def test_what_is_far_has_at_least_half_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripes of four pixels stay stripes at half the size, and are grey at a third."""
    alone(monkeypatch, "FAR", 1.0)
    stripes = np.zeros((48, 48, 3), np.uint8)
    stripes[:, np.arange(48) % 8 < 4] = 200
    contrast = [float(v.std()) / float(stripes.std()) for v in views(stripes, 60)]
    assert min(contrast) > 0.6 and FARTHEST == 2


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
