"""edgetl evaluate on a network of two heads, in torch and compiled; and the bundle's way to the vehicle."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from edgetl.cli import COMMANDS
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def call(name: str, *arguments: object) -> dict[str, Any]:
    module = importlib.import_module(COMMANDS[name][0])
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    document = module.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document, default=str)
    return dict(document)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> tuple[Path, Path]:
    """A run with boxes and masks, and its bundle."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("evaluate")
    small = ("--size", "96x64", "--batch", 2, "--epochs", 3, "--probe-epochs", 2)
    call("tune", scenes, "--task", "detect,segment", "--mask-stride", 4, *small, "--out", root / "run")
    options = ("--targets", "cpu", "--calibration", 4, "--max-drop", 100)
    call("export", root / "run", "--out", root / "two.bundle", *options)
    torch.set_num_threads(before)
    return root / "run", root / "two.bundle"


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_every_head_is_scored(
    made: tuple[Path, Path], scenes: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = call("evaluate", made[kind == "bundle"], scenes)
    assert (document["task"], document["metric"], document["images"]) == ("several", "mean", 4)
    detect, ground = document["heads"]["detect"], document["heads"]["ground"]
    assert (detect["task"], detect["metric"]) == ("detect", "ap50") and set(detect["per_class"]) == {"car", "person"}
    assert (ground["task"], ground["metric"]) == ("segment", "miou") and set(ground["per_class"]) == {"other", "road"}
    assert 0 <= ground["pixel_accuracy"] <= 1 and ground["value"] == ground["miou"]
    assert document["value"] == pytest.approx((detect["value"] + ground["value"]) / 2)
    shown = capsys.readouterr()
    assert shown.out == "" and "ground: miou" in shown.err and "detect: ap50" in shown.err


def test_torch_and_the_bundle_agree(made: tuple[Path, Path], scenes: Path) -> None:
    """Measured as fp32; INT8 on a network that hardly learnt may differ."""
    one = call("evaluate", made[0], scenes)["heads"]
    two = call("evaluate", made[1], scenes, "--variant", "fp32", "--engine", "onnxruntime")["heads"]
    for name in ("detect", "ground"):
        assert two[name]["value"] == pytest.approx(one[name]["value"], abs=0.01)


def test_data_with_some_of_the_labels_scores_some_of_the_heads(
    made: tuple[Path, Path], scenes: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(scenes, tmp_path / "data"))
    shutil.rmtree(data / "masks")
    document = call("evaluate", made[0], data, "--metric", "ap")
    assert (document["task"], document["metric"]) == ("detect", "ap") and "heads" not in document
    assert document["value"] == document["ap"] <= document["ap50"]
    masks = Path(shutil.copytree(scenes, tmp_path / "masks"))
    shutil.rmtree(masks / "annotations")
    assert call("evaluate", made[0], masks, "--limit", 2)["metric"] == "miou"


def test_data_of_another_kind_is_refused(made: tuple[Path, Path], signs: Path) -> None:
    with pytest.raises(InputError, match=r"no labelled object, mask or category .*detect \(car, person\); ground"):
        call("evaluate", made[0], signs)


def test_the_bundle_knows_its_heads_and_what_scores_mean(made: tuple[Path, Path]) -> None:
    manifest = open_bundle(made[1]).manifest
    assert [(h.name, h.outputs) for h in manifest.heads] == [
        ("detect", ("boxes", "scores", "classes")),
        ("ground", ("mask_ground",)),
    ]
    assert [(o.name, o.shape) for o in manifest.outputs] == [
        ("boxes", (1, 100, 4)), ("scores", (1, 100)), ("classes", (1, 100)), ("mask_ground", (1, 16, 24)),
        ("embedding", (1, 320)),
    ]  # fmt: skip
    assert set(manifest.reliability) == {"detect"}
    assert all(set(h.heads) == {"detect", "ground"} for h in manifest.hops)
    for name in ("labels.detect.txt", "labels.ground.txt"):
        assert (made[1] / name).is_file()


def test_the_bundle_runs_on_images(made: tuple[Path, Path], scenes: Path, tmp_path: Path) -> None:
    document = call("run", made[1], scenes / "images" / "val", "--jsonl", tmp_path / "out.jsonl")
    assert (document["processed"], document["failed"], document["dropped"]) == (4, 0, 0)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert call("verify", made[1], "--data", scenes)["ok"] is True


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "classify"])
@pytest.mark.parametrize(
    ("backbone", "size"), [("resnet18", "96x64"), ("resnet50", "96x64"), ("vgg16", "96x64"), ("inception_v3", "96x96")]
)
def test_classic_backbones_go_the_whole_way(
    scenes: Path, signs: Path, tmp_path: Path, backbone: str, size: str, task: str
) -> None:
    data, images = (scenes, scenes / "images" / "val") if task == "detect" else (signs, signs / "val" / "go")
    small = ("--backbone", backbone, "--weights", "none", "--size", size, "--batch", 2, "--epochs", 1, "--limit", 4)
    call("tune", data, "--task", task, *small, "--out", tmp_path / "run")
    options = ("--targets", "cpu", "--calibration", 2, "--max-drop", 100)
    exported = call("export", tmp_path / "run", "--out", tmp_path / "x.bundle", *options)
    assert {h["hop"] for h in exported["hops"]} >= {"torch", "onnx", "fold-input", "onnxruntime/int8"}
    document = call("run", tmp_path / "x.bundle", images)
    assert document["failed"] == 0 and document["processed"] >= 3
