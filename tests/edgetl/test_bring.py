"""Networks from elsewhere end to end: small random ones, with the command line's own words for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetl import cli
from edgetl_export.foreign.module_file import is_foreign
from edgetl_runtime.bundle import open_bundle

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE_HW = (64, 96)
INPUT = {"size_hw": list(SIZE_HW), "channel_order": "rgb", "mean": [0, 0, 0], "std": [255, 255, 255]}
WEIGHTS = {"source": "drawn at random", "licence": "none"}
GROUND = {"decoder": "segmentation", "name": "ground", "labels": ["other", "road"], "output": "masks"}
BOXES = {"decoder": "yolo", "labels": ["person", "car"], "output": "rows", "activation": "logits"}
SIGN = {"decoder": "classification", "labels": ["stop", "go", "yield"], "output": "signs"}


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One convolution of stride 4, then: masks (dark is road), rows of boxes, signs (red or blue)."""
    constants: dict[str, NDArray[np.generic]] = {
        "weight": np.zeros((6, 3, 4, 4), np.float32),
        "bias": np.array([0, 0, 0.1, 0.1, -3, -1], np.float32),
        "rows_shape": np.array([1, 6, 16 * 24], np.int64),
        "two": np.array([2], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "red_blue": np.array([[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6], np.float32).T,
        "wide": np.array([[[[40.0]], [[40.0]], [[30.0]], [[20.0]], [[1.0]], [[1.0]]]], np.float32),
    }
    weight = np.asarray(constants["weight"])
    weight[0, 0], weight[1, 2] = 1, 1  # red, blue
    weight[4, 0], weight[4, 1] = 0.2, -0.2  # person: red, not green
    weight[5, 1] = -0.2
    nodes = [
        helper.make_node("Conv", ["images", "weight", "bias"], ["maps"], strides=[4, 4], name="conv"),
        helper.make_node("Slice", ["maps", "zero", "two", "one"], ["colours"], name="colours"),
        helper.make_node("Neg", ["colours"], ["masks"], name="masks"),
        helper.make_node("Mul", ["maps", "wide"], ["scaled"], name="scaled"),
        helper.make_node("Reshape", ["scaled", "rows_shape"], ["rows"], name="rows"),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "red_blue"], ["signs"], name="signs"),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, *SIZE_HW])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("masks", "rows", "signs")]
    initializers = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path_factory.mktemp("elsewhere") / "net.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), str(path))
    return path


Spec = Callable[..., Path]


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    def write(*heads: dict[str, Any], **changes: Any) -> Path:
        path = tmp_path / "spec.yaml"
        document = {"name": "elsewhere", "input": INPUT, "weights": WEIGHTS, "heads": list(heads)} | changes
        path.write_text(yaml.safe_dump(document))
        return path

    return write


def export(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    words = [str(a) for a in ("export", *arguments, "--json", "--targets", "cpu", "--max-drop", 100)]
    status = cli.main(words)
    captured = capsys.readouterr()
    return status, json.loads(captured.out or "{}"), captured.err


def test_masks_and_boxes_by_the_datasets_labels(
    network: Path, spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    status, document, text = export(capsys, network, "--spec", spec(GROUND, BOXES), "--data", scenes, "--out", out)
    assert status == 0, text
    assert document["hops"][0]["hop"] == "onnxruntime" and document["hops"][0]["metric"] == "mean"
    assert set(document["hops"][0]["heads"]) == {"ground", "detect"}
    manifest = open_bundle(out).manifest
    assert manifest.name == "elsewhere" and manifest.domain is None
    assert manifest.provenance.weights == "drawn at random" and manifest.provenance.weights_licence == "none"
    assert manifest.provenance.architecture == "ONNX file net.onnx with segmentation, yolo"
    assert [t.name for t in manifest.outputs] == ["mask_ground", "boxes", "scores", "classes"]
    for command in (
        ["verify", out, "--data", scenes, "--max-drop", 100],
        ["evaluate", out, scenes],
        ["inspect", out],
        ["bench", out, "--runs", 3],
        ["run", out, scenes / "images" / "val", "--jsonl", tmp_path / "r.jsonl"],
    ):
        assert cli.main([str(c) for c in command]) == 0, capsys.readouterr().err
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert len(lines) == 4 and set(json.loads(lines[0])["masks"]) == {"ground"}
    assert "net.onnx" in (out / "report.html").read_text()


def test_the_budget_is_held_on_further_splits(
    network: Path, spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, arguments = tmp_path / "b", (network, "--spec", spec(GROUND), "--data", scenes)
    status, document, text = export(capsys, *arguments, "--out", out, "--also-val", "train")
    assert status == 0 and "on train" in text, text
    manifest = open_bundle(out).manifest
    for hop in manifest.hops:
        assert set(hop.domains) == ({"train"} if hop.classes else set())
    reference = manifest.hops[0].domains["train"]
    assert 0 < reference.value != manifest.hops[0].value and set(reference.classes["ground"]) == {"other", "road"}
    assert document["hops"][0]["domains"]["train"]["value"] == reference.value
    assert cli.main(["evaluate", str(out), str(scenes), "--split", "train", "--variant", "fp32", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == pytest.approx(reference.value, abs=1e-6)
    for twice in ("val", "train"):
        status, _, text = export(
            capsys, *arguments, "--out", tmp_path / "c", "--also-val", "train", "--also-val", twice
        )
        assert status == 2 and f"--also-val {twice}: the budget is held on it already" in text
    status, _, text = export(capsys, *arguments, "--out", tmp_path / "c", "--also-val", "night")
    assert status == 2 and "night" in text and not (tmp_path / "c").exists()


def test_trials_by_labels_are_not_those_by_agreement(
    network: Path, spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {}
    for metric in ("labels", "agreement"):
        arguments = (network, "--spec", spec(GROUND | {"metric": metric}), "--data", scenes, "--out", tmp_path / metric)
        status, document, text = export(capsys, *arguments)
        assert status == 0, text
        values[metric] = {hop["hop"]: hop["value"] for hop in document["hops"]}
    assert values["labels"]["onnxruntime/fp32"] < 0.9
    assert values["agreement"]["onnxruntime/fp32"] == pytest.approx(1, abs=0.02)


def test_names_of_the_dataset_travel_in_the_bundle(
    network: Path, spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network says vehicle, the data car; nobody is a cyclist, and person is left out of the metric."""
    head = {**BOXES, "labels": ["cyclist", "vehicle"], "dataset_classes": {"vehicle": ["car"]}}
    out = tmp_path / "b"
    status, document, text = export(capsys, network, "--spec", spec(head), "--data", scenes, "--out", out)
    assert status == 0, text
    assert "left out of the metric, no label stands for them: person" in text
    assert document["hops"][0]["metric"] == "ap50"
    assert open_bundle(out).manifest.dataset_classes == {"detect": {"vehicle": ("car",)}}
    assert cli.main(["evaluate", str(out), str(scenes), "--json"]) == 0
    per_class = json.loads(capsys.readouterr().out)["per_class"]
    assert set(per_class) == {"cyclist", "vehicle"} and per_class["cyclist"] is None
    assert cli.main(["evaluate", str(out), str(scenes), "--merge", "all=vehicle,cyclist"]) == 0
    assert cli.main(["evaluate", str(out), str(scenes), "--merge", "all=car"]) == 2
    assert "classes are: cyclist, vehicle" in capsys.readouterr().err


def test_categories_of_which_the_data_has_some(
    network: Path, spec: Spec, signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Red is stop, blue is go: right wherever channels are in their order; `yield` never occurs."""
    out = tmp_path / "b"
    status, document, text = export(capsys, network, "--spec", spec(SIGN), "--data", signs, "--out", out)
    assert status == 0, text
    assert document["hops"][0] | {"metric": "accuracy", "value": 1.0} == document["hops"][0]
    swapped = spec(SIGN, input={**INPUT, "channel_order": "bgr"})
    status, document, _ = export(capsys, network, "--spec", swapped, "--data", signs, "--out", out, "--force")
    assert status == 0 and document["hops"][0]["value"] == 0.0


def test_plain_images_and_agreement(
    network: Path, spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(5):
        picture = np.random.default_rng(i).integers(0, 256, (9, 16, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{i}.png"), cv2.resize(picture, (160, 90), interpolation=cv2.INTER_NEAREST))
    heads = [{**head, "metric": "agreement"} for head in (GROUND, SIGN, {**BOXES, "threshold": 0.02})]
    out = tmp_path / "b"
    status, document, text = export(capsys, network, "--spec", spec(*heads), "--data", pictures, "--out", out)
    assert status == 0, text
    first = document["hops"][0]
    assert first["metric"] == "agreement" and first["heads"] == pytest.approx(
        {"ground": 1.0, "classify": 1.0, "detect": 1.0}
    )
    assert next(h for h in document["hops"] if h["hop"] == "onnxruntime/fp32")["value"] == pytest.approx(1.0, abs=1e-3)
    arguments = (network, "--spec", spec(*heads), "--data", pictures, "--out", tmp_path / "c")
    status, _, text = export(capsys, *arguments, "--also-val", "night")
    assert status == 2 and "--also-val night" in text and "no splits" in text, "the same images are no further split"


def test_labels_for_one_head_and_agreement_for_another(
    network: Path, spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    both = spec(GROUND, {**SIGN, "metric": "agreement"})
    status, document, text = export(capsys, network, "--spec", both, "--data", scenes, "--out", out)
    assert status == 0, text
    assert document["hops"][0]["metric"] == "mean+agreement"
    assert document["hops"][0]["heads"]["classify"] == 1.0 > document["hops"][0]["heads"]["ground"]


MODULE = """
import torch
from torch import nn

def build_model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3, 2, 1))
"""


def test_a_torch_module(spec: Spec, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    head = {**GROUND, "output": "", "metric": "agreement"}
    arguments = (f"{tmp_path / 'net.py'}:build_model", "--spec", spec(head), "--data", scenes)
    status, document, text = export(capsys, *arguments, "--out", tmp_path / "b", "--name", "mine")
    assert status == 0, text
    assert document["hops"][0]["hop"] == "torch" and document["hops"][0]["value"] == 1.0
    assert open_bundle(tmp_path / "b").manifest.name == "mine"


@pytest.mark.parametrize(
    ("model", "given", "line"),
    [
        ("net.onnx", False, "net.onnx is a network from elsewhere; give --spec"),
        ("net.py:build", False, "net.py:build is a network from elsewhere; give --spec"),
        ("runs/mine", True, "--spec is for model.onnx and module.py:function, not for runs/mine; leave --spec out"),
    ],
)
def test_spec_and_model_belong_together(
    model: str, given: bool, line: str, spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--spec", spec(GROUND)) if given else ()
    status, _, text = export(capsys, model, *more, "--data", tmp_path, "--out", tmp_path / "b")
    assert status == 2 and line in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("heads", "data", "line"),
    [
        ([GROUND], "", "a network from elsewhere has no data on record; give --data"),
        ([SIGN], "scenes", "scenes/val has no labels for the head classify (stop, go, yield); map its classes"),
        ([{**GROUND, "name": "lanes"}], "scenes", "no labels for the head lanes (other, road)"),
        ([{**BOXES, "labels": ["tram", "bus"]}], "scenes", "classes that the network doesn't know: car, person"),
        (
            [{**GROUND, "output": "logits"}],
            "scenes",
            "net.onnx has no output 'logits'; it has masks (1, 2, 16, 24), rows",
        ),
        ([{**GROUND, "labels": ["a", "b", "c"]}], "scenes", "the decoder segmentation reads (1, 3, h, w) for 3 labels"),
        ([GROUND], "nowhere", "no such dataset directory"),
        (
            [{**BOXES, "metric": "agreement", "threshold": 1}],
            "scenes",
            "nothing to judge the head detect by in 4 images",
        ),
        (
            [{**BOXES, "dataset_classes": {"person": ["bike"]}, "labels": ["person", "x"]}],
            "scenes",
            "no labels for the head",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    network: Path,
    heads: list[dict[str, Any]],
    data: str,
    line: str,
    spec: Spec,
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ("--data", scenes if data == "scenes" else tmp_path / data) if data else ()
    status, _, text = export(capsys, network, "--spec", spec(*heads), *where, "--out", tmp_path / "b")
    assert status == 2 and line in text and "Traceback" not in text
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("model", "foreign"),
    [
        ("a.onnx", True), ("a/B.ONNX", True), ("a.py:f", True), ("d/a.py:f", True),
        ("a.py", False), ("a.py:", False), ("runs/mine", False), ("best.pt", False), ("runs/a:b", False),
    ],
)  # fmt: skip
def test_what_is_from_elsewhere(model: str, foreign: bool) -> None:
    assert is_foreign(model) is foreign
