"""`edgetl data check` from the command line: findings, exit status, page, and datasets that can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl import cli
from edgetl.commands.data_check import order_of


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "data check", ("edgetl.commands.data_check", "check"))


def _check(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object], str]:
    status = cli.main(["data", "check", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out), captured.err


def _textured(root: Path) -> None:
    """Give every image of the fixture other pixels: as it is, both splits hold the same pictures."""
    for seed, file in enumerate(sorted(root.rglob("*.png"))):
        noise = np.random.default_rng(seed).integers(0, 255, (9, 16, 3)).astype(np.uint8)
        cv2.imwrite(str(file), cv2.resize(noise, (160, 90), interpolation=cv2.INTER_CUBIC))


def test_leaks_end_with_status_one_and_are_named(capsys: pytest.CaptureFixture[str], coco_dir: Path) -> None:
    status, document, text = _check(capsys, coco_dir)
    assert status == document["exit_status"] == 1
    findings = document["findings"]
    assert isinstance(findings, list)
    codes = {f["code"]: f for f in findings}
    assert codes["leak-file"]["severity"] == codes["leak-group"]["severity"] == "error"
    assert codes["leak-file"]["count"] == 4
    assert set(codes["leak-file"]) == {"severity", "code", "split", "text", "remedy", "files", "count"}
    assert "ERROR" in text and "[leak-file]" in text


def test_a_sound_dataset_ends_with_zero_and_a_page(
    capsys: pytest.CaptureFixture[str], coco_dir: Path, tmp_path: Path
) -> None:
    _textured(coco_dir)
    for split in ("train", "val"):
        file = coco_dir / "annotations" / f"{split}.json"
        file.write_text(file.read_text().replace("drive", f"{split}-drive"))
    page = tmp_path / "page.html"
    status, document, text = _check(capsys, coco_dir, "--page", page)
    assert status == 0
    assert document["counts"] == {"error": 0, "warning": 2, "note": 0}, text  # few cars, only ignored people
    splits = document["splits"]
    assert isinstance(splits, dict) and list(splits) == ["train", "val"]
    assert splits["train"]["images"] == 4 and splits["train"]["groups"] == 2
    assert page.read_text().count("data:image/jpeg") == 8
    assert cli.main(["data", "check", str(coco_dir), "--page", str(page)]) == 2
    assert "exists" in capsys.readouterr().err
    assert _check(capsys, coco_dir, "--page", page, "--force")[0] == 0


def test_a_split_whose_labels_are_wrong_is_a_finding_and_the_others_are_checked(
    capsys: pytest.CaptureFixture[str], coco_dir: Path
) -> None:
    file = coco_dir / "annotations" / "val.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"] = [0, 0, 900, 30]
    file.write_text(json.dumps(document))
    status, found, text = _check(capsys, coco_dir)
    assert status == 1
    assert isinstance(found["findings"], list) and isinstance(found["splits"], dict)
    first = found["findings"][0]
    assert (first["code"], first["split"]) == ("labels-unreadable", "val")
    assert "stands outside" in first["text"]
    assert list(found["splits"]) == ["train"]
    assert "Traceback" not in text


def test_wrong_labels_of_several_images_are_all_named(
    capsys: pytest.CaptureFixture[str], coco_dir: Path, tmp_path: Path
) -> None:
    file = coco_dir / "annotations" / "val.json"
    document = json.loads(file.read_text())
    for image in document["images"][:2]:
        next(a for a in document["annotations"] if a["image_id"] == image["id"])["bbox"] = [0, 0, 900, 30]
    file.write_text(json.dumps(document))
    wrong = [image["file_name"].rpartition("/")[2] for image in document["images"][:2]]
    _, found, _ = _check(capsys, coco_dir)
    assert isinstance(found["findings"], list)
    texts = [f["text"] for f in found["findings"] if f["code"] == "labels-unreadable"]
    assert len(texts) == 2 and all(name in text for name, text in zip(wrong, texts, strict=True))
    assert cli.main(["tune", str(coco_dir), "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err.strip()
    assert wrong[0] in line and "(1 other entry is wrong too)" in line and "`edgetl data check` lists all" in line


@pytest.mark.parametrize("arguments", [["gone"], ["--split", "other"], ["--format", "nonsense"], ["--size", "x"]])
def test_wrong_usage_is_one_line_and_status_two(
    capsys: pytest.CaptureFixture[str], coco_dir: Path, arguments: list[str]
) -> None:
    root = [] if arguments == ["gone"] else [str(coco_dir)]
    assert cli.main(["data", "check", *root, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("edgetl: error: ")


def test_only_the_named_split_is_checked(capsys: pytest.CaptureFixture[str], coco_dir: Path) -> None:
    _, document, _ = _check(capsys, coco_dir, "--split", "val")
    assert isinstance(document["splits"], dict) and list(document["splits"]) == ["val"]


def test_training_comes_first() -> None:
    names = ["night", "test", "val2", "train"]
    assert sorted(names, key=order_of) == ["train", "val2", "test", "night"]


def test_lines_of_groups_csv_that_name_no_file_are_told(capsys: pytest.CaptureFixture[str], coco_dir: Path) -> None:
    lines = ["file,group,domain", "images/train/000.png,a,", "images/train/0001.png,a,", "images/val/gone.png,b,"]
    (coco_dir / "groups.csv").write_text("\n".join(lines) + "\n")
    _, document, text = _check(capsys, coco_dir)
    findings = document["findings"]
    assert isinstance(findings, list)
    (found,) = [f for f in findings if f["code"] == "group-line"]
    assert (found["severity"], found["split"], found["count"]) == ("warning", "all", 2)
    assert found["files"] == ["images/train/0001.png", "images/val/gone.png"]
    assert "2 lines of groups.csv name no file: 'images/train/0001.png'" in text
    (coco_dir / "groups.csv").write_text("\n".join(lines[:2]) + "\n")
    assert "group-line" not in _check(capsys, coco_dir)[2]
