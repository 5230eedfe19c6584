"""A graph against the targets: verdicts, marks by operator, the text and the document."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl_export.lint import TargetLint, lint_json, lint_onnx, mark_of
from edgetl_export.lint_text import lint_text
from edgetl_export.targets import TARGETS
from edgetl_export.tensorrt.check import CANNOT_TELL, Verdict
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Check

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None and importlib.util.find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT for RTX is not installed: pip install 'edgetl[rtx]'",
)
F, I64 = TensorProto.FLOAT, TensorProto.INT64


def with_nms(path: Path) -> Path:
    """A Relu, then a NonMaxSuppression whose output has no fixed size."""
    nodes = [
        helper.make_node("Relu", ["scores"], ["s"], "/head/act/Relu"),
        helper.make_node("NonMaxSuppression", ["boxes", "s", "k", "iou", "low"], ["kept"], "/head/nms/NMS"),
    ]
    inputs = [helper.make_tensor_value_info(n, F, s) for n, s in (("boxes", [1, 20, 4]), ("scores", [1, 3, 20]))]
    constants = {"k": np.array([5]), "iou": np.array([0.5], np.float32), "low": np.array([0.2], np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("kept", I64, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def plain(path: Path) -> Path:
    """A Relu."""
    ends = [helper.make_tensor_value_info(n, F, [1, 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "/act/Relu")], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@needs_rtx
def test_a_graph_that_every_target_takes(tmp_path: Path) -> None:
    report = lint_onnx(plain(tmp_path / "a.onnx"), ("cpu", "rtx", "orin-nano"))
    assert report.ok
    assert [t.verdict for t in report.targets.values()] == ["ok"] * 3
    assert report.targets["cpu"].checked_with == "onnxruntime"
    assert report.targets["orin-nano"].checked_with.endswith("SM86 as a check")
    assert report.targets["rtx"].engine_bytes and report.targets["rtx"].seconds > 0
    text = lint_text(report)
    assert "Relu          1  ok" in text and "cannot" not in text.split("only the device")[0]
    assert "only the device can tell" in text and "run-time memory" in text


@needs_rtx
def test_nms_is_told_apart_by_target(tmp_path: Path) -> None:
    report = lint_onnx(with_nms(tmp_path / "a.onnx"), ("cpu", "rtx", "agx-orin"))
    assert not report.ok
    assert {n: t.verdict for n, t in report.targets.items()} == {
        "cpu": "rewrite", "rtx": "rewrite", "agx-orin": "cannot-tell",
    }  # fmt: skip
    document = lint_json(report)
    json.dumps(document)
    ops = {row["op"]: row for row in document["ops"]}  # type: ignore[attr-defined, index]
    assert ops["NonMaxSuppression"]["targets"] == {"cpu": "rewrite", "rtx": "rewrite", "agx-orin": "cannot-tell"}
    assert ops["Relu"]["targets"] == dict.fromkeys(report.targets, "not-reached")
    assert (ops["Relu"]["count"], ops["Relu"]["modules"]) == (1, ["head.act"])
    (check,) = document["targets"]["rtx"]["checks"]  # type: ignore[index]
    assert (check["code"], check["node"], check["module"]) == ("nms-not-in-rtx", "/head/nms/NMS", "head.nms")
    text = lint_text(report)
    assert text.count("nms-not-in-rtx: ") == 1, "one finding, whichever targets have it"
    assert "in head.nms (rtx; cannot tell for agx-orin)" in text
    assert "cannot tell" in text.splitlines()[4]
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("target", "says"), [(("xavier",), "no target 'xavier'; there are: cpu, rtx"), ((), "no target is named")]
)
def test_targets_that_are_none(target: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        lint_onnx(plain(tmp_path / "a.onnx"), target)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(InputError, match="is not an ONNX model"):
        lint_onnx(path, ("cpu",))


def answer(verdict: Verdict, *checks: Check, compiled: bool = False) -> TargetLint:
    """A target's answer with these findings."""
    return TargetLint(verdict, "", compiled, "", checks, (), 0.0)


DET = Check(code="unsupported-op", op="Det", node="d", advice="Write it out.")
BLIND = Check(code="needs-gpu", op="RoiAlign", node="r", advice=f"{CANNOT_TELL}: build it there.")
SAMPLER = Check(code="grid-sample", op="GridSample", node="g", advice="Compare.")


@pytest.mark.parametrize(
    ("op", "target", "mark"),
    [
        ("Det", answer("rewrite", DET), "rewrite"),
        ("ai.acme::Det", answer("rewrite", DET), "rewrite"),
        ("Conv", answer("rewrite", DET), "not-reached"),
        ("RoiAlign", answer("cannot-tell", BLIND), "cannot-tell"),
        ("GridSample", answer("ok", SAMPLER, compiled=True), "ok"),
        ("Conv", answer("ok", compiled=True), "ok"),
        ("Conv", answer("cannot-tell"), "not-reached"),
        ("Det", answer("rewrite", DET, compiled=True), "rewrite"),
        ("Conv", answer("rewrite", DET, compiled=True), "ok"),
    ],
)
def test_marks(op: str, target: TargetLint, mark: str) -> None:
    assert mark_of(op, target) == mark


@needs_rtx
def test_an_operator_that_no_target_has(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Swirl", "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    onnx.save(model, path)
    report = lint_onnx(path, tuple(TARGETS))
    assert [t.verdict for t in report.targets.values()] == ["rewrite"] * len(TARGETS)
    assert {c.code for t in report.targets.values() for c in t.checks} == {"custom-op"}
    assert {mark_of("com.acme::Swirl", t) for t in report.targets.values()} == {"rewrite"}
