"""`edgetl data split` from the command line: what it writes has no leak, and what can't be split is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl import cli
from edgetl.commands.data_split import shares
from edgetl.data import read_dataset
from edgetl.data.leaks import find_leaks


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "data split", ("edgetl.commands.data_split", "split"))


def _split(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object], str]:
    status = cli.main(["data", "split", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out), captured.err


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Two classes of six tracks of three frames, in one folder `all`: the names begin again in every class."""
    root = tmp_path / "signs"
    for name in ("give_way", "stop"):
        (root / "all" / name).mkdir(parents=True)
        for track in range(6):
            noise = np.random.default_rng([track, len(name)]).integers(0, 255, (8, 8, 3)).astype(np.uint8)
            for frame in range(3):
                picture = cv2.resize(noise, (32, 32), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(root / "all" / name / f"{track}_{frame}.png"), cv2.add(picture, frame))
    return root


def test_tracks_stay_whole_and_classes_in_balance(
    capsys: pytest.CaptureFixture[str], signs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, document, text = _split(capsys, signs, out, "--shares", "train=0.67,val=0.33", "--group-pattern", "^[0-9]+")
    assert status == 0, text
    assert document["groups"] == 12 and document["leaks"] == 0 and document["format"] == "folders"
    train, val = (read_dataset(out, s, group_pattern="^[0-9]+") for s in ("train", "val"))
    assert (len(train), len(val)) == (24, 12)
    for part in (train, val):
        assert len({sum(s.category == c for s in part.samples) for c in (0, 1)}) == 1
    assert not find_leaks(train, val)
    assert "warning" not in text


def test_groups_survive_without_the_pattern(capsys: pytest.CaptureFixture[str], signs: Path, tmp_path: Path) -> None:
    _split(capsys, signs, tmp_path / "out", "--group-pattern", "^[0-9]+")
    again = read_dataset(tmp_path / "out", "train")
    assert {s.group for s in again.samples} == {
        f"{again.categories[s.category]}/{s.image.stem[0]}" for s in again.samples
    }


def test_without_groups_it_says_in_one_line_that_it_splits_by_image(
    capsys: pytest.CaptureFixture[str], signs: Path, tmp_path: Path
) -> None:
    status, document, text = _split(capsys, signs, tmp_path / "out")
    assert status == 0 and document["groups"] == 0
    assert sum("no groups are known" in line for line in text.splitlines()) == 1


def test_by_look_keeps_frames_of_one_sign_together(
    capsys: pytest.CaptureFixture[str], signs: Path, tmp_path: Path
) -> None:
    status, _, text = _split(capsys, signs, tmp_path / "out", "--by", "look", "--shares", "train=0.5,val=0.5")
    assert status == 0, text
    train, val = (read_dataset(tmp_path / "out", s) for s in ("train", "val"))
    assert (len(train), len(val)) == (18, 18)
    assert not find_leaks(train, val)


def test_both_splits_of_coco_are_pooled_and_copies_stay_on_one_side(
    capsys: pytest.CaptureFixture[str], coco_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (coco_dir, out, "--shares", "train=0.5,val=0.5")
    status, document, _ = _split(capsys, *arguments)
    assert status == 0
    splits = document["splits"]
    assert isinstance(splits, dict)
    assert {n: c["images"] for n, c in splits.items()} == {"train": 4, "val": 4}
    train, val = read_dataset(out, "train"), read_dataset(out, "val")
    assert not find_leaks(train, val, full=False)  # both splits of the source hold the same files
    first = {s.image.name for s in train.samples}
    assert _split(capsys, *arguments)[0] == 2
    assert _split(capsys, *arguments, "--force")[0] == 0
    assert {s.image.name for s in read_dataset(out, "train").samples} == first
    assert _split(capsys, *arguments, "--from", "val", "--force")[1]["splits"] == {
        "train": {"images": 2, "objects": 3}, "val": {"images": 2, "objects": 2},
    }  # fmt: skip


def test_too_few_groups_are_refused_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], coco_dir: Path, tmp_path: Path
) -> None:
    assert cli.main(["data", "split", str(coco_dir), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "2 groups can't fill 3 splits" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["train", "train=", "=0.5", "train=x", "train=0", "a=0.5,a=0.5", "a=1.5", ""])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected NAME=SHARE"):
        shares(text)
    assert shares("a=0.25, b=0.75") == {"a": 0.25, "b": 0.75}
