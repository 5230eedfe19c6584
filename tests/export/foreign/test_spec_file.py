"""The spec file: read whole, or refused in one line that says what is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgetl_export.foreign.decoders import DECODERS
from edgetl_export.foreign.decoders.ssd import Ssd
from edgetl_export.foreign.decoders.yolo import Yolo
from edgetl_export.foreign.spec_file import read_spec
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

INPUT = {"size_hw": [64, 96], "channel_order": "rgb", "mean": [0, 0, 0], "std": [255, 255, 255]}
WEIGHTS = {"source": "example.org", "licence": "MIT"}
YOLO = {"decoder": "yolo", "labels": ["car", "person"]}


def written(folder: Path, **changes: Any) -> Path:
    document = {"name": "net", "input": INPUT, "weights": WEIGHTS, "heads": [YOLO]} | changes
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in document.items() if v is not None}))
    return path


def test_a_whole_spec(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("car\nperson \n\n")
    head = {"decoder": "yolo", "labels": "names.txt", "threshold": 0.5, "dataset_classes": {"car": ["auto", "van"]}}
    spec = read_spec(written(tmp_path, heads=[head]))
    assert spec.name == "net" and spec.weights.licence == "MIT"
    assert spec.input.preprocess == Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(255.0,) * 3)
    assert spec.heads == (Yolo(labels=("car", "person"), threshold=0.5, dataset_classes={"car": ("auto", "van")}),)


def test_anchors_from_a_file(tmp_path: Path) -> None:
    anchors = np.random.default_rng(0).uniform(size=(6, 4))
    np.save(tmp_path / "anchors.npy", anchors)
    ssd = {"decoder": "ssd", "labels": ["car"], "boxes": "b", "scores": "s", "anchors": "anchors.npy"}
    (head,) = read_spec(written(tmp_path, heads=[ssd])).heads
    assert isinstance(head, Ssd)
    np.testing.assert_array_equal(head.anchors, anchors)


def test_every_decoder_has_its_name() -> None:
    assert {name: kind.__struct_config__.tag for name, kind in DECODERS.items()} == {name: name for name in DECODERS}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sizes": 3}, r"the spec has the unknown key 'sizes'; keys: name, input, heads, weights, outputs"),
        ({"input": {**INPUT, "channels": "rgb"}}, r"input has the unknown key 'channels'.*keys: name, size_hw, layout"),
        ({"input": {**INPUT, "means": 1}}, r"unknown key 'means', perhaps 'mean' is meant"),
        ({"input": {k: v for k, v in INPUT.items() if k != "mean"}}, "input lacks 'mean'; keys: name, size_hw"),
        ({"weights": {**WEIGHTS, "license": "MIT"}}, "weights has the unknown key 'license', perhaps 'licence'"),
        ({"weights": None}, "the spec lacks 'weights'"),
        ({"heads": [{**YOLO, "nms": 1}]}, r"head 1 \(yolo\) has the unknown key 'nms'.*keys: decoder, .*nms_iou"),
        (
            {"heads": [YOLO, {"decoder": "yolov9"}]},
            "head 2 has the unknown decoder 'yolov9'; decoders: classification,",
        ),
        ({"heads": [{"labels": ["a"]}]}, "head 1 must name its decoder; decoders: classification,"),
        ({"heads": ["yolo"]}, "head 1 must name its decoder"),
        ({"heads": []}, "heads"),
        ({"heads": [{"decoder": "yolo"}]}, r"head 1 \(yolo\) lacks 'labels'"),
        ({"heads": [{**YOLO, "labels": []}]}, "labels are empty"),
        ({"heads": [{**YOLO, "labels": ["a", "a"]}]}, "different names, found 'a' twice"),
        ({"heads": [{**YOLO, "labels": "gone.txt"}]}, "gone.txt is not readable"),
        ({"heads": [{**YOLO, "thresholds": {"tram": 0.5}}]}, "'tram' is not a label; labels are car, person"),
        ({"heads": [{**YOLO, "dataset_classes": {"tram": ["x"]}}]}, "'tram' is not a label"),
        ({"heads": [{**YOLO, "dataset_classes": {"car": ["x"], "person": ["y", "x"]}}]}, "'x' can stand for one label"),
        ({"heads": [{**YOLO, "labels": ["car", "per\nson"]}]}, r"a label must be one line, found 'per\\nson'"),
        ({"heads": [{**YOLO, "threshold": 0}]}, "threshold"),
        ({"heads": [{**YOLO, "metric": "map"}]}, "metric"),
        ({"input": {**INPUT, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}, "multiply them by 255"),
        ({"input": {**INPUT, "std": [255, 255, 0]}}, "std must be above zero"),
        ({"input": {**INPUT, "mean": [0, 0, float("nan")]}}, "mean and std must be finite numbers"),
        ({"input": {**INPUT, "std": [255, 255, float("inf")]}}, "mean and std must be finite numbers"),
        ({"input": {**INPUT, "resize": "stretch"}}, "resize"),
        ({"input": {**INPUT, "size_hw": [64]}}, "size_hw"),
        ({"input": 3}, "input"),
    ],
)
def test_a_wrong_spec_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line) as caught:
        read_spec(written(tmp_path, **changes))
    text = str(caught.value)
    assert "\n" not in text and ("spec.yaml" in text or "gone.txt" in text)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"a: [", "not readable as YAML"), (b"\xff\xfe\x00", "not readable"), (b"- a\n", "expected `key: value` lines")],
)
def test_no_spec_at_all(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=line):
        read_spec(path)
    with pytest.raises(InputError, match="No such file"):
        read_spec(tmp_path / "other.yaml")


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_wrong_anchors(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        np.save(tmp_path / "a.npy", np.zeros((3, 5)))
    else:
        (tmp_path / "a.npy").write_bytes(content)
    ssd = {"decoder": "ssd", "labels": ["car"], "boxes": "b", "scores": "s", "anchors": "a.npy"}
    with pytest.raises(InputError, match=r"anchors: .*a\.npy"):
        read_spec(written(tmp_path, heads=[ssd]))


@pytest.mark.parametrize(
    "value",
    ["2001-99-99", "0x_", "9" * 5000, "!!int x", "!!timestamp x", "!!bool x", "&a [*a]", "[" * 40 + "]" * 40, "\x07"],
)
def test_values_that_yaml_stumbles_over_are_one_line(tmp_path: Path, value: str) -> None:
    (tmp_path / "net.yaml").write_text(f"name: {value}\n")
    with pytest.raises(InputError, match="not readable as YAML") as refused:
        read_spec(tmp_path / "net.yaml")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600


@pytest.mark.parametrize("labels", ["/dev/zero", "a\x00b", "."])
def test_labels_from_what_is_no_file(tmp_path: Path, labels: str) -> None:
    """A device that never ends is no more than a wrong file."""
    with pytest.raises(InputError, match="labels: "):
        read_spec(written(tmp_path, heads=[{**YOLO, "labels": labels}]))


def test_anchors_that_are_an_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "anchors.npz", a=np.ones((4, 4)))
    ssd = {"decoder": "ssd", "labels": ["x"], "boxes": "b", "scores": "s", "anchors": "anchors.npz"}
    with pytest.raises(InputError, match=r"not readable as \.npy"):
        read_spec(written(tmp_path, heads=[ssd]))
