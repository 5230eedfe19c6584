"""`edgetl data convert` as a person uses it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from edgetl.commands import data_convert
from edgetl.data import read_dataset
from edgetl_runtime.errors import InputError


def command(*arguments: object) -> dict[str, Any]:
    """Run `edgetl data convert` with these arguments."""
    parser = argparse.ArgumentParser()
    data_convert.add_arguments(parser)
    return dict(data_convert.run(parser.parse_args([str(a) for a in arguments])))


def test_all_splits_are_converted(coco_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "voc"
    document = command(coco_dir, out, "--to", "voc")
    counts = {"images": 4, "objects": 5}
    assert document == {"out": str(out), "format": "voc", "splits": {"train": counts, "val": counts}, "dropped": {}}
    json.dumps(document)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "train: 4 images, 5 boxes" in captured.err
    back = read_dataset(out, "val")
    assert back.classes == ("car", "person")
    assert [(s.group, s.domain) for s in back.samples][::3] == [("drive0", "day"), ("drive1", "day")]


def test_what_is_left_out_is_asked_for_and_counted(
    coco_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "yolo"
    with pytest.raises(InputError, match="can't hold 2 ignored boxes; leave them out with --drop"):
        command(coco_dir, out, "--to", "yolo")
    assert not out.exists()
    assert capsys.readouterr().err == ""
    document = command(coco_dir, out, "--to", "yolo", "--drop")
    assert document["dropped"] == {"ignored boxes": 2}
    assert "left out: 2 ignored boxes" in capsys.readouterr().err


def test_one_split_by_a_pattern(yolo_dir: Path, tmp_path: Path) -> None:
    document = command(yolo_dir / "data.yaml", tmp_path / "k", "--to", "kitti", "--split", "train", "--from", "yolo",
                       "--group-pattern", "cam")  # fmt: skip
    assert list(document["splits"]) == ["train"]
    assert {s.group for s in read_dataset(tmp_path / "k", "train").samples} == {"cam"}


def test_an_existing_place_is_replaced_only_by_force(coco_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="--force"):
        command(coco_dir, tmp_path / "out", "--to", "coco")
    command(coco_dir, tmp_path / "out", "--to", "coco", "--force")
    assert read_dataset(tmp_path / "out", "train").fingerprint() == read_dataset(coco_dir, "train").fingerprint()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", "zip"), "'zip' can't be written; formats: coco"),
        (("--to", "coco", "--from", "kitti"), "is not of format kitti"),
        (("--to", "coco", "--split", "test"), "no split 'test', there are train, val"),
    ],
)
def test_wrong_usage_is_one_line(coco_dir: Path, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        command(coco_dir, tmp_path / "out", *arguments)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["coco"]
