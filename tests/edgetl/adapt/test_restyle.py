"""Another domain's light: histograms that match, labels that stay."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.adapt.restyle import dark_share, matched_histograms, restyled
from edgetl.data import Dataset, Sample, read_dataset, read_image
from edgetl_runtime.errors import InputError


def noise(seed: int, low: int, high: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (*size, 3), np.uint8)


def cumulated(image: np.ndarray, channel: int) -> np.ndarray:
    return np.cumsum(np.bincount(image[..., channel].ravel(), minlength=256)) / image[..., channel].size


def test_histograms_match_channel_by_channel() -> None:
    image = noise(0, 40, 220)
    style = np.stack([noise(1, 0, 60)[..., 0], noise(2, 100, 140)[..., 0], noise(3, 0, 255)[..., 0]], axis=-1)
    found = matched_histograms(image, style, 1.0)
    for channel in range(3):
        assert np.abs(cumulated(found, channel) - cumulated(style, channel)).max() < 0.05
        assert np.abs(cumulated(image, channel) - cumulated(style, channel)).max() > 0.1


def test_the_share_leads_from_one_to_the_other() -> None:
    image, style = noise(0, 150, 250), noise(1, 0, 50)
    assert np.array_equal(matched_histograms(image, style, 0.0), image)
    means = [matched_histograms(image, style, s).mean() for s in (0.0, 0.5, 1.0)]
    assert means[0] > means[1] > means[2]
    assert means[1] == pytest.approx((means[0] + means[2]) / 2, abs=1)
    assert means[2] == pytest.approx(style.mean(), abs=2)


def test_brighter_stays_brighter() -> None:
    """A table for each channel is monotone: no edge is turned inside out."""
    image = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (4, 1, 3))
    found = matched_histograms(image, noise(5, 30, 90), 0.8)
    assert (np.diff(found[0].astype(int), axis=0) >= 0).all()


def test_the_same_style_changes_almost_nothing() -> None:
    image = noise(7, 0, 255)
    found = matched_histograms(image, image, 1.0)
    assert np.abs(found.astype(int) - image).max() <= 1


@pytest.mark.parametrize("value", [0, 255])
def test_a_style_of_one_colour(value: int) -> None:
    flat = np.full((8, 8, 3), value, np.uint8)
    assert np.abs(matched_histograms(noise(1, 20, 200), flat, 1.0).astype(int) - value).max() <= 1


def test_a_dataset_keeps_its_labels(scenes: Path, tmp_path: Path) -> None:
    data = read_dataset(scenes, "train")
    dark = tmp_path / "dark.png"
    cv2.imwrite(str(dark), noise(9, 0, 30))
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    night = Dataset("night", (), (Sample(dark, *empty, "n"),))
    (tmp_path / "out").mkdir()
    found = restyled(data, night, tmp_path / "out", seed=0)
    assert len(found) == len(data) and found.classes == data.classes and found.layers == data.layers
    for new, old in zip(found.samples, data.samples, strict=True):
        assert new.image.parent == tmp_path / "out" and new.image != old.image
        assert new.masks == old.masks and np.array_equal(new.boxes, old.boxes) and new.group == old.group
        assert read_image(new.image).shape == read_image(old.image).shape
        assert read_image(new.image).mean() < 0.75 * read_image(old.image).mean()
    (tmp_path / "again").mkdir()
    again = restyled(data, night, tmp_path / "again", seed=0)
    assert all(a.image.read_bytes() == b.image.read_bytes() for a, b in zip(found.samples, again.samples, strict=True))


def test_styles_are_drawn_from_all_there_are(tmp_path: Path) -> None:
    """Grey frames in the light of a dark picture and of a bright one."""
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    for name, level in (("dark", 0), ("grey", 128), ("bright", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8, 3), level, np.uint8))
    grey, dark, bright = (Sample(tmp_path / f"{n}.png", *empty, n) for n in ("grey", "dark", "bright"))
    found = restyled(Dataset("d", (), (grey,) * 12), Dataset("s", (), (dark, bright)), tmp_path, seed=0)
    means = [read_image(s.image).mean() for s in found.samples]
    assert min(means) < 70 and max(means) > 185
    assert len({round(m) for m in means}) > 4, "and in shares that differ"


def test_an_image_that_can_not_be_written_is_said(scenes: Path, tmp_path: Path) -> None:
    data = read_dataset(scenes, "train")
    with pytest.raises(InputError, match=r"000000\.jpg: can't be written; free some space"):
        restyled(data, data, tmp_path / "gone", seed=0)


def test_the_share_of_dark_images(tmp_path: Path) -> None:
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    samples = []
    for i, level in enumerate((0, 40, 69, 71, 200)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((30, 40, 3), level, np.uint8))
        samples.append(Sample(tmp_path / f"{i}.png", *empty, str(i)))
    assert dark_share(Dataset("d", (), tuple(samples))) == pytest.approx(0.6)
    assert dark_share(Dataset("d", (), tuple(samples[3:]))) == 0
