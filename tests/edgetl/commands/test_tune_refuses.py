"""What edgetl tune refuses in one line, leaving nothing behind; and odd input that it takes."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgetl.commands import tune as command
from edgetl.data import read_image
from edgetl_runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("--size", "96x64", "--batch", "2", "--epochs", "1", "--probe-epochs", "1", "--val-images", "4")


def call(data: Path, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(a) for a in (data, *SMALL, *arguments)]))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run with boxes and masks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("tune") / "first"
    call(scenes, "--task", "detect,segment", "--weights", "none", "--out", out)
    torch.set_num_threads(before)
    return out


REFUSED = {
    "a task without labels": (
        ("--task", "classify"),
        "no labels for the task 'classify'; it has labels for: detect, segment",
    ),
    "an unknown task": (("--task", "depth"), "wrong setting: .*'depth'"),
    "an unknown layer": (("--task", "segment", "--layers", "rails"), "no layer of masks 'rails', it has ground"),
    "a surgical recipe without blocks": (("--recipe", "surgical"), "surgical"),
    "a probe of nothing": (("--recipe", "probe", "--weights", "none"), "random ones teach nothing"),
    "a size too small": (
        ("--task", "segment", "--backbone", "inception_v3", "--weights", "none", "--size", "64x64"),
        r"inception_v3 can't take frames of 64x64 .*give a larger --size",
    ),
    "no teacher there": (("--teacher", "nowhere.pt"), r"nowhere\.pt: no such checkpoint"),
    "no start there": (("--start", "nowhere.pt"), r"nowhere\.pt: no such checkpoint"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_is_refused_leaves_nothing(scenes: Path, tmp_path: Path, case: str) -> None:
    arguments, says = REFUSED[case]
    with pytest.raises(InputError, match=says):
        call(scenes, *arguments, "--out", tmp_path / "run")
    assert list(tmp_path.iterdir()) == [], "an empty run directory would be in the way of the next try"


def test_splits_that_leak_are_refused(coco_dir: Path, scenes: Path, tmp_path: Path) -> None:
    """By group, as COCO states it; by group, as file names tell it; by file, where a split is its own judge."""
    arguments = ("--weights", "none", "--out", tmp_path / "run")
    for data, flags, says in (
        (coco_dir, (), r"4 of 4 images of coco/val leak from coco/train .*group drive0 is in both"),
        (scenes, ("--group-pattern", "^0"), r"4 of 4 images of scenes/val leak .*group 0 is in both"),
        (scenes, ("--val", "train"), r"6 of 6 images of scenes/train leak .*is the same file as"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            call(data, *arguments, *flags)
        assert "--allow-leaks" in caught.value.remedy
    assert not (tmp_path / "run").exists()


def test_a_teacher_and_a_start_of_other_heads_are_refused(scenes: Path, first: Path, tmp_path: Path) -> None:
    for flag in ("--teacher", "--start"):
        with pytest.raises(InputError, match="detect: car, person; ground: other, road"):
            call(scenes, "--task", "segment", "--weights", "none", flag, first, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_splits_with_different_classes_are_refused(signs: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(signs, tmp_path / "data"))
    shutil.copytree(data / "val" / "go", data / "val" / "yield")
    with pytest.raises(InputError, match=r"categories of .* differ: only data/val has yield"):
        call(data, "--task", "classify", "--out", tmp_path / "run")


def test_one_category_is_refused(signs: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(signs, tmp_path / "data"))
    for split in ("train", "val"):
        shutil.rmtree(data / split / "go")
    with pytest.raises(InputError, match="would know only stop"):
        call(data, "--task", "classify", "--out", tmp_path / "run")


@pytest.mark.parametrize("limit", [1, 3])
def test_a_handful_of_images_is_enough(scenes: Path, tmp_path: Path, limit: int) -> None:
    document = call(
        scenes,
        "--task",
        "detect,segment",
        "--limit",
        limit,
        "--batch",
        4,
        "--weights",
        "none",
        "--out",
        tmp_path / "run",
    )
    assert (document["train_images"], document["steps"]) == (limit, 1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> float:
    """What a run on the pictures as they are reaches."""
    value = call(scenes, "--task", "segment", "--recipe", "probe", "--out", tmp_path_factory.mktemp("p") / "run")[
        "value"
    ]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("kind", ["grey", "16 bits", "16 bits grey", "alpha"])
def test_pictures_of_other_kinds(scenes: Path, plain: float, tmp_path: Path, kind: str) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    for path in data.glob("images/*/*.png"):
        picture: np.ndarray = read_image(path)
        if "grey" in kind:
            picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        if "16" in kind:
            picture = picture.astype(np.uint16) * 257
        if kind == "alpha":
            picture = np.dstack([picture, np.full(picture.shape[:2], 100, np.uint8)])
        cv2.imwrite(str(path), picture)
    value = call(data, "--task", "segment", "--recipe", "probe", "--out", tmp_path / "run")["value"]
    if "grey" in kind:
        assert 0 < value <= 1
    else:
        assert value == plain, "16 bits and an alpha channel change no pixel"


def test_a_mask_of_another_size_than_its_image_is_named(scenes: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    path = next(iter(sorted((data / "masks" / "ground" / "val").iterdir())))
    cv2.imwrite(str(path), np.zeros((45, 80), np.uint8))
    with pytest.raises(InputError, match=rf"{path.name}.*80x45"):
        call(data, "--task", "segment", "--weights", "none", "--out", tmp_path / "run")


def test_masks_that_are_void_everywhere_have_nothing_to_score(scenes: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    for path in (data / "masks" / "ground" / "val").iterdir():
        cv2.imwrite(str(path), np.full((90, 160), 255, np.uint8))
    with pytest.raises(InputError, match=r"scenes/val: nothing in its 4 images can be scored|data/val: nothing"):
        call(data, "--task", "segment", "--weights", "none", "--out", tmp_path / "run")
