"""Data sets and clips on disk, and the command that writes them."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edgetl.commands import data_render
from edgetl.roadworld import CLASSES, write, write_clip, write_dataset
from edgetl.roadworld.write import FEW_IMAGES
from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import read_calibration

SMALL = (96, 160)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small night scenes, one of them for validation."""
    out = tmp_path_factory.mktemp("rw") / "night"
    done = write_dataset(out, images=5, domain="night", size_hw=SMALL, seed=4)
    assert done.images == 5
    return out


def test_the_layout_is_complete(dataset: Path) -> None:
    files = sorted(str(f.relative_to(dataset)) for f in dataset.rglob("*") if f.is_file())
    pictures = [f"{s}/{k:06d}" for s, n in (("train", 4), ("val", 1)) for k in range(n)]
    wanted = ["README.txt", "annotations/train.json", "annotations/val.json"]
    wanted += [f"images/{p}.jpg" for p in pictures]
    wanted += [f"masks/{m}/{p}.png" for m in ("classes", "drivable", "lanes") for p in pictures]
    wanted += [f"masks/{m}/classes.txt" for m in ("classes", "drivable", "lanes")]
    assert files == sorted(wanted)
    assert [p.name for p in dataset.parent.iterdir()] == ["night"]
    mask = cv2.imread(str(dataset / "masks/classes/val/000000.png"), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == SMALL
    assert "traffic sign" in (dataset / "README.txt").read_text()


def test_pycocotools_reads_the_annotations(dataset: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    api = coco.COCO(str(dataset / "annotations/train.json"))
    assert [c["name"] for c in api.loadCats(api.getCatIds())] == list(CLASSES)
    assert api.dataset["info"]["domain"] == "night"
    for image in api.loadImgs(api.getImgIds()):
        picture = cv2.imread(str(dataset / image["file_name"]))
        assert picture is not None
        assert picture.shape == (*SMALL, 3)
        for a in api.loadAnns(api.getAnnIds(image["id"])):
            x, y, w, h = a["bbox"]
            assert 0 <= x < x + w <= SMALL[1]
            assert 0 <= y < y + h <= SMALL[0]
            assert 0 < a["area"] <= w * h
            assert {"distance_m", "visible", "object_id", "iscrowd"} <= set(a)
    groups = [i["group"] for i in api.dataset["images"]]
    assert len(set(groups)) == 4


@pytest.mark.parametrize(
    "values",
    [
        {"images": -1},
        {"images": 0},
        {"val_fraction": 1.5},
        {"domain": "snow"},
        {"size_hw": (2, 2)},
        {"seed": -3},
        {"workers": -1},
    ],
)
def test_wrong_values_write_nothing(tmp_path: Path, values: dict[str, object]) -> None:
    arguments: dict[str, object] = {"images": 2, "domain": "day", "size_hw": SMALL} | values
    with pytest.raises(InputError):
        write_dataset(tmp_path / "x", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_an_existing_place_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="--force"):
        write_dataset(out, images=1, domain="day", size_hw=SMALL)
    assert (out / "mine.txt").read_text() == "keep"
    write_dataset(out, images=1, domain="day", size_hw=SMALL, force=True)
    assert not (out / "mine.txt").exists()
    assert (out / "images/train/000000.jpg").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / "mine.txt").write_text("keep")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"set: can't be written \(No space left"):
        write_dataset(out, images=2, domain="day", size_hw=SMALL, force=True)
    assert (out / "mine.txt").read_text() == "keep"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    calls: list[int] = []
    done = [
        write_dataset(
            tmp_path / str(n), images=FEW_IMAGES, domain="rain", size_hw=(64, 64), workers=n,
            on_image=lambda: calls.append(1),
        )
        for n in (1, 2)
    ]  # fmt: skip
    assert len(calls) == 2 * FEW_IMAGES
    assert dataclasses.replace(done[0], path=tmp_path) == dataclasses.replace(done[1], path=tmp_path)
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert len(one) == 4 * FEW_IMAGES + 6
    assert one == two


def test_an_interrupt_ends_the_workers(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(
            tmp_path / "set", images=FEW_IMAGES, domain="day", size_hw=(64, 64), workers=2, on_image=interrupt
        )
    assert not multiprocessing.active_children()
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import pathlib, resource, sys
from edgetl.roadworld import write_dataset
from edgetl_runtime.errors import InputError

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    try:
        write_dataset(pathlib.Path(sys.argv[1]), images=40, domain="day", size_hw=(64, 64), workers=2)
    except InputError as error:
        sys.exit(str(error))
"""
"""No file may grow beyond 200 bytes, here and in the workers: to them the disk is full."""


def test_a_full_disk_in_a_worker_is_one_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FULL_DISK)
    ended = subprocess.run(
        [sys.executable, "-B", str(script), str(tmp_path / "set")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "set: can't be written (File too large)" in ended.stderr.splitlines()[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_a_worker_that_dies_is_one_error(tmp_path: Path) -> None:
    def kill() -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(InputError, match="ended early"):
        write_dataset(tmp_path / "set", images=400, domain="day", size_hw=(64, 64), workers=2, on_image=kill)
    assert not list(tmp_path.iterdir())


def test_a_clip_has_its_labels_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "drive.mp4"
    calls: list[int] = []
    done = write_clip(out, seconds=0.3, fps=10, size_hw=SMALL, domain="rain", seed=2, on_frame=lambda: calls.append(1))
    assert (done.images, len(calls)) == (3, 3)
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    lines = [json.loads(line) for line in write.labels_path(out).read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    assert lines[0]["camera"]["matrix"][0][2] == SMALL[1] / 2
    assert {o["label"] for line in lines for o in line["objects"]} <= set(CLASSES)
    with pytest.raises(InputError, match="--force"):
        write_clip(out, seconds=0.1, fps=10, size_hw=SMALL, domain="day", seed=2)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["drive.mp4", "drive.mp4.calibration.yaml", "drive.mp4.labels.jsonl"]
    camera = read_calibration(write.calibration_path(out))
    assert camera.size_hw == SMALL and camera.matrix[2] == SMALL[1] / 2 - 0.5
    assert all(len(o["touches_m"]) in (0, 4) and o["size_lwh_m"] for line in lines for o in line["objects"])


def command(*arguments: str) -> dict[str, object]:
    """Run `edgetl data render` with these arguments."""
    parser = argparse.ArgumentParser()
    data_render.add_arguments(parser)
    return data_render.run(parser.parse_args(arguments))


def test_the_command_renders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    document = command(str(out), "--images", "2", "--domain", "fog", "--size", "160x96")
    assert document["images"] == 2
    assert document["size_hw"] == [96, 160]
    json.dumps(document)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 pictures" in captured.err


def test_the_command_refuses_wrong_input(tmp_path: Path) -> None:
    for arguments in (
        ("x", "--images", "2", "--size", "big"),
        ("x", "--images", "2", "--domain", "snow"),
        ("x", "--clip", "1"),
        ("x.mp4", "--clip", "-1"),
        ("x.mp4", "--clip", "nan"),
    ):
        with pytest.raises(InputError):
            command(str(tmp_path / arguments[0]), *arguments[1:])
    assert not list(tmp_path.iterdir())
