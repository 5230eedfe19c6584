"""Calibration frames by coverage: what is chosen, from how many datasets, and the record of it."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.calibration import calibration_frames, choose_calibration
from edgetl.data import Dataset, MaskLayer, Sample, read_dataset
from edgetl.features.store import cache_directory
from edgetl.shift.source import read_side
from edgetl.strata import LIGHTS, kinds_of_strata
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

SIZE_HW = (64, 96)
PREPROCESS = Preprocess(size_hw=SIZE_HW, mean=(0, 0, 0), std=(1, 1, 1))
DARK, DUSK, DAY, BRIGHT = 20, 55, 100, 180
CLASSES = ("car", "person", "train")


def picture(path: Path, level: int, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    """Blocks about a grey level; every seed is another scene."""
    blocks = np.random.default_rng(seed).integers(level - 15, level + 15, (8, 12), np.uint8)
    cv2.imwrite(str(path), cv2.resize(blocks, size_hw[::-1], interpolation=cv2.INTER_NEAREST))
    return path


def sample(path: Path, *labels: int, height: float = 0.5, level: int = DAY, group: str = "", seed: int = 0) -> Sample:
    """An image with a box of this height (a share of the image's) for each label."""
    boxes = np.array([[0.1, 0.1, 0.4, 0.1 + height]] * len(labels), np.float32).reshape(-1, 4)
    picture(path, level, seed)
    return Sample(path, boxes, np.array(labels, np.int64), np.zeros(len(labels), np.bool_), group or path.stem)


def chosen_names(datasets: list[Dataset], number: int) -> list[str]:
    chosen = choose_calibration(datasets, number, size_hw=SIZE_HW)
    return [s.image.stem for s in chosen.dataset.samples]


@pytest.fixture
def drives(tmp_path: Path) -> Dataset:
    """40 frames of four drives: cars by day, but one at night, one train, one empty road, one with small cars only."""
    samples = [sample(tmp_path / f"{i:02d}.jpg", 0, 0, group=f"drive{i // 10}", seed=i) for i in range(40)]
    samples[7] = sample(tmp_path / "night.jpg", 0, level=DARK, group="drive0", seed=7)
    samples[18] = sample(tmp_path / "train.jpg", 2, group="drive1", seed=18)
    samples[21] = sample(tmp_path / "empty.jpg", group="drive2", seed=21)
    samples[33] = sample(tmp_path / "small.jpg", 0, height=0.1, group="drive3", seed=33)
    return Dataset("drives", CLASSES, tuple(samples))


def test_the_rare_is_chosen(drives: Dataset) -> None:
    chosen = choose_calibration([drives], 8, size_hw=SIZE_HW)
    assert {"night", "train", "empty", "small"} <= {s.image.stem for s in chosen.dataset.samples}
    assert len(chosen.dataset) == 8
    assert chosen.strata == {
        "light: dark": 1,
        "light: dusk": 0,
        "light: day": 7,
        "light: bright": 0,
        "different: groups": 4,
        "class: car": 6,
        "class: person": 0,
        "class: train": 1,
        "objects: small": 1,
        "objects: none": 1,
    }
    assert not any(len(s.labels) for s in chosen.dataset.samples), "labels of several datasets can't stand together"


def test_the_choice_is_the_same_every_time_and_in_order(drives: Dataset) -> None:
    names = chosen_names([drives], 8)
    assert names == chosen_names([drives], 8)
    order = [s.image.stem for s in drives.samples]
    assert names == sorted(names, key=order.index)


@pytest.mark.parametrize("number", [1, 39, 40, 100])
def test_never_more_than_asked_for_and_none_twice(number: int, drives: Dataset) -> None:
    names = chosen_names([drives], number)
    assert len(names) == len(set(names)) == min(number, 40)


def test_bright_frames_are_few_where_the_data_have_others(tmp_path: Path) -> None:
    levels = [BRIGHT, DARK, DUSK, BRIGHT, DAY] * 10
    samples = [sample(tmp_path / f"{i:02d}.jpg", 0, level=level, seed=i) for i, level in enumerate(levels)]
    strata = choose_calibration([Dataset("d", CLASSES, tuple(samples))], 16, size_hw=SIZE_HW).strata
    assert 1 <= strata["light: bright"] <= 4
    assert min(strata[f"light: {name}"] for name in ("dark", "dusk", "day")) >= 4


def test_frames_without_groups_are_spread_over_the_split(tmp_path: Path) -> None:
    samples = [sample(tmp_path / f"{i:02d}.jpg", *[0] * (1 + i % 5), seed=i) for i in range(40)]
    names = chosen_names([Dataset("d", CLASSES, tuple(samples))], 4)
    assert [int(n) // 10 for n in names] == [0, 1, 2, 3]
    assert all(int(n) % 5 == 4 for n in names), "of equals the one with the most objects"


def test_classes_share_the_frames_evenly(tmp_path: Path) -> None:
    labels = [0] * 30 + [1] * 8 + [2] * 2
    samples = [sample(tmp_path / f"{i}.jpg", label, seed=i) for i, label in enumerate(labels)]
    strata = choose_calibration([Dataset("d", CLASSES, tuple(samples))], 12, size_hw=SIZE_HW).strata
    assert strata["class: train"] == 2
    assert strata["class: person"] >= 3


def test_categories_and_masks_are_covered(tmp_path: Path) -> None:
    layer = MaskLayer("lane", ("road", "line"))
    samples = []
    for i in range(20):
        mask = np.zeros(SIZE_HW, np.uint8)
        mask[:2] = i == 13
        cv2.imwrite(str(tmp_path / f"mask{i}.png"), mask)
        own = dataclasses.replace(
            sample(tmp_path / f"{i}.jpg", seed=i), category=int(i == 5), masks=(tmp_path / f"mask{i}.png",)
        )
        samples.append(own)
    dataset = Dataset("d", (), tuple(samples), categories=("clear", "rain"), layers=(layer,))
    chosen = choose_calibration([dataset], 4, size_hw=SIZE_HW)
    assert {"5", "13"} <= {s.image.stem for s in chosen.dataset.samples}
    assert chosen.strata["category: rain"] == chosen.strata["mask lane: line"] == 1
    assert chosen.strata["mask lane: road"] == 4
    assert not any(s.startswith("objects") for s in chosen.strata), "nothing has boxes, so no frame is an empty one"


def test_unlabelled_frames_of_another_dataset_are_taken_in(drives: Dataset, tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for i in range(6):
        picture(tmp_path / "night" / f"n{i}.jpg", DARK, seed=100 + i)
    night = read_side(str(tmp_path / "night"), split="train")
    chosen = choose_calibration([drives, night], 8, size_hw=SIZE_HW)
    found = Counter(s.image.parent.name for s in chosen.dataset.samples)
    assert found["night"] >= 2
    assert chosen.strata[f"data: {night.name}"] == found["night"]
    assert chosen.strata["light: dark"] >= found["night"]
    assert chosen.strata["objects: none"] == 1, "a frame without labels is not an empty one"


def test_a_file_of_two_datasets_counts_once(drives: Dataset) -> None:
    names = chosen_names([drives, dataclasses.replace(drives, name="again")], 80)
    assert len(names) == len(set(names)) == 40


def test_equal_groups_of_two_datasets_are_different(drives: Dataset, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Dataset("b", (), (sample(tmp_path / "b" / "0.jpg", group="drive0", seed=50),))
    assert choose_calibration([drives, other], 41, size_hw=SIZE_HW).strata["different: groups"] == 5


def test_large_datasets_are_thinned_but_not_in_rare_classes(drives: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl.calibration.MOST_LOOKED_AT", 5)
    assert "train" in chosen_names([drives], 4)
    assert len(chosen_names([drives], 40)) < 40 + 1


def test_nothing_to_choose_from_is_refused() -> None:
    chosen = choose_calibration([Dataset("none", CLASSES, ())], 8, size_hw=SIZE_HW)
    with pytest.raises(InputError, match="no calibration frames"):
        calibration_frames(chosen, PREPROCESS)


def test_a_broken_image_is_named(drives: Dataset) -> None:
    drives.samples[3].image.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"03\.jpg: not an image"):
        choose_calibration([drives], 8, size_hw=SIZE_HW)


def test_the_record_says_what_the_frames_are(drives: Dataset) -> None:
    chosen = choose_calibration([drives], 8, size_hw=SIZE_HW)
    frames, record = calibration_frames(chosen, PREPROCESS)
    assert len(frames) == record.frames == 8
    assert all(f.shape == (1, *SIZE_HW, 3) and f.dtype == np.uint8 for f in frames)
    assert record.strata == chosen.strata and record.method == ""
    assert record.sha256 == calibration_frames(chosen, PREPROCESS)[1].sha256
    picture(chosen.dataset.samples[0].image, DAY, seed=999)
    assert record.sha256 != calibration_frames(chosen, PREPROCESS)[1].sha256
    assert record.by_kind()["light"] == "dark 1, dusk 0, day 7, bright 0"


def test_one_scene_is_refused(tmp_path: Path) -> None:
    samples = [sample(tmp_path / f"{i}.jpg", 0, seed=1) for i in range(9)]
    chosen = choose_calibration([Dataset("d", CLASSES, tuple(samples))], 4, size_hw=SIZE_HW)
    with pytest.raises(InputError, match="all 4 calibration frames show one scene"):
        calibration_frames(chosen, PREPROCESS)


@pytest.mark.parametrize(("level", "light"), [(DARK, "dark"), (DUSK, "dusk"), (DAY, "day"), (BRIGHT, "bright")])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_light(level: int, light: str, suffix: str, tmp_path: Path) -> None:
    dataset = Dataset("d", CLASSES, (sample(tmp_path / f"a{suffix}", 0, level=level),))
    strata = choose_calibration([dataset], 1, size_hw=SIZE_HW).strata
    assert [name for name in LIGHTS if strata[f"light: {name}"]] == [light]


@pytest.mark.parametrize(("height", "small"), [(0.24, True), (0.26, False)])
def test_small_is_said_of_the_networks_pixels(height: float, small: bool, tmp_path: Path) -> None:
    """The image has half the network's size, so that 16 network pixels are a quarter of its height."""
    own = sample(tmp_path / "a.png", 0, height=height)
    picture(own.image, DAY, size_hw=(32, 48))
    kind = next(k for k in kinds_of_strata([Dataset("d", CLASSES, (own,))], 1, SIZE_HW) if k.strata == ("small",))
    assert kind.members.tolist() == [[small]]
    ignored = dataclasses.replace(own, ignore=np.ones(1, np.bool_))
    kind = next(k for k in kinds_of_strata([Dataset("d", CLASSES, (ignored,))], 1, SIZE_HW) if k.strata == ("small",))
    assert kind.members.tolist() == [[False]]


@pytest.mark.real_data
def test_real_driving_is_covered_in_seconds(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path))
    train, night = (read_dataset(real_data / "bdd", split) for split in ("train", "night_unlabelled"))
    started = time.process_time()
    chosen = choose_calibration([train, night], 64, size_hw=(352, 640))
    assert time.process_time() - started < 6  # of all cores; about 2 s where nothing else runs
    assert any(cache_directory().rglob("*.npz"))
    assert all(chosen.strata[f"class: {name}"] >= 3 for name in train.classes)
    assert chosen.strata["light: dark"] >= 8
    calibration_frames(chosen, Preprocess(size_hw=(352, 640), mean=(0, 0, 0), std=(1, 1, 1)))
