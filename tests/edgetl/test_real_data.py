"""The whole way on real driving pictures: read, tune, export, verify, evaluate, run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetl import cli
from edgetl.data import read_dataset, read_image

pytestmark = pytest.mark.real_data

CLASSES = (
    "bike",
    "bus",
    "car",
    "motor",
    "person",
    "rider",
    "traffic light",
    "traffic sign",
    "train",
    "truck",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine take a hundred times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("split", "images"), [("train", 1000), ("val", 250), ("night_val", 250)])
def test_every_split_is_read(real_data: Path, split: str, images: int) -> None:
    dataset = read_dataset(real_data / "bdd", split)
    assert dataset.classes == CLASSES
    assert len(dataset) == images
    assert len({s.image for s in dataset.samples}) == images
    boxes = np.concatenate([s.boxes for s in dataset.samples])
    labels = np.concatenate([s.labels for s in dataset.samples])
    assert len(boxes) > 10 * images, "driving scenes are fuller than that"
    assert boxes.min() >= 0 and boxes.max() <= 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert np.bincount(labels, minlength=len(CLASSES)).argmax() == CLASSES.index("car")
    image = read_image(dataset.samples[-1].image)
    assert image.ndim == 3 and image.shape[2] == 3 and image.shape[0] < image.shape[1]


def test_splits_share_no_picture(real_data: Path) -> None:
    names = [{s.image.name for s in read_dataset(real_data / "bdd", n).samples} for n in ("train", "val", "night_val")]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]


def edgetl(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """One command that must succeed; its document."""
    status = cli.main([*(str(a) for a in arguments), "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    sys.stderr.write(captured.err)
    document: dict[str, Any] = json.loads(captured.out)
    return document


@pytest.mark.slow
def test_from_pictures_to_a_running_bundle(real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run, bundle = real_data / "bdd", tmp_path / "run", tmp_path / "bdd.bundle"
    tune = ("--size", "160x96", "--limit", 24, "--epochs", 1, "--probe-epochs", 1, "--batch", 4, "--val-images", 8)
    tuned = edgetl(capsys, "tune", data, "--out", run, *tune)
    assert (tuned["train_images"], tuned["steps"]) == (24, 6)

    few = ("--val-images", 12, "--calibration", 12, "--targets", "cpu", "--max-drop", 100)
    exported = edgetl(capsys, "export", run, "--out", bundle, *few)
    assert "known: it gives the same bits for 8 frames now" in capsys.readouterr().err, "not what tune left"
    assert exported["targets"]["cpu"]["deployable"]
    assert all(h["max_rel_error"] < 1e-3 for h in exported["hops"][:3])
    assert edgetl(capsys, "verify", bundle)["ok"]

    scoring = ("--merge", "vehicle=car,bus,truck", "--min-height", 16, "--limit", 12)
    by_torch = edgetl(capsys, "evaluate", run, data, *scoring)
    by_engine = edgetl(capsys, "evaluate", bundle, data, *scoring, "--engine", "onnxruntime", "--variant", "fp32")
    for found in (by_torch, by_engine):
        assert list(found["per_class"]) == ["vehicle"] and found["images"] == 12
        assert 0 <= found["value"] <= 1
    assert by_engine["value"] == pytest.approx(by_torch["value"], abs=0.005)

    video = min((real_data / "videos").glob("*.mp4"), key=lambda p: p.stat().st_size)
    lines = tmp_path / "results.jsonl"
    ran = edgetl(capsys, "run", bundle, video, "--max-frames", 20, "--jsonl", lines, "--threshold", 0.01)
    assert (ran["processed"], ran["failed"]) == (20, 0)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [r["frame_id"] for r in rows] == list(range(20))
