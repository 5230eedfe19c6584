"""Reading the two sides, and the network that looks at them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import Dataset
from edgetl.shift.source import Eye, groups_of, look, read_side, spread
from edgetl_runtime.errors import InputError

EYE = Eye(None, "tf_efficientnet_lite0", "none", (32, 64))


def plain(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((32, 64, 3), 20 * i, np.uint8))
    return folder


def test_a_split_is_named_behind_a_colon(yolo_dir: Path) -> None:
    assert read_side(str(yolo_dir), split="train").name == "yolo/train"
    assert read_side(f"{yolo_dir}:val", split="train").name == "yolo/val"
    with pytest.raises(InputError, match="no split 'night'"):
        read_side(f"{yolo_dir}:night", split="train")


def test_a_folder_of_plain_images(tmp_path: Path) -> None:
    folder = plain(tmp_path / "frames", ["a_1.png", "a_2.png", "b_1.png"])
    (folder / "notes.txt").write_text("no image")
    dataset = read_side(str(folder), split="train")
    assert [s.group for s in dataset.samples] == ["a_1", "a_2", "b_1"] and dataset.classes == ()
    grouped = read_side(str(folder), split="train", group_pattern="^[a-z]+")
    assert [s.group for s in grouped.samples] == ["a", "a", "b"]
    with pytest.raises(InputError, match="regular expression"):
        read_side(str(folder), split="train", group_pattern="(")


def test_a_colon_in_a_path_that_exists_is_no_split(tmp_path: Path) -> None:
    folder = plain(tmp_path / "12:30", ["a.png"])
    assert len(read_side(str(folder), split="train")) == 1


@pytest.mark.parametrize("text", ["nowhere", "nowhere:val"])
def test_what_is_not_there_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no such dataset directory"):
        read_side(str(tmp_path / text), split="train")


def test_groups_are_shared_within_a_directory_only(tmp_path: Path) -> None:
    a, b = plain(tmp_path / "a", ["1.png", "2.png"]), plain(tmp_path / "b", ["1.png"])
    first, second = read_side(str(a), split=""), read_side(str(b), split="")
    ours, theirs = groups_of(str(a), str(b), first, second, shared=False)
    assert not set(ours) & set(theirs)
    assert groups_of(f"{a}:x", f"{a}:y", first, second, shared=False) == (["1", "2"], ["1"])
    assert groups_of(str(a), str(b), first, second, shared=True) == (["1", "2"], ["1"])


def test_spread_takes_every_image_once(tmp_path: Path) -> None:
    dataset = read_side(str(plain(tmp_path / "a", [f"{i}.png" for i in range(9)])), split="")
    assert len(spread(dataset, 4)) == 4 and len(spread(dataset, 100)) == 9
    twice = Dataset("twice", (), dataset.samples + dataset.samples)
    assert len(spread(twice, 100)) == 9


def test_a_backbone_sees_means_and_deviations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    dataset = read_side(str(plain(tmp_path / "a", ["1.png", "2.png", "3.png"])), split="")
    seen = look(EYE, dataset)
    assert [level.shape for level in seen.levels] == [(3, 48), (3, 80), (3, 224), (3, 640)]
    np.testing.assert_array_equal(seen.embedding, seen.levels[-1][:, :320])
    assert "none weights" in EYE.name


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    dataset = read_side(str(plain(tmp_path / "a", ["1.png"])), split="")
    with pytest.raises(InputError, match="no such checkpoint"):
        look(Eye(tmp_path / "a", "", "", (32, 64)), dataset)
