"""What every target says of every graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from onnx import TensorProto, helper, save

from edgetl_export.budget import Measured
from edgetl_export.candidates import Candidate, Pair
from edgetl_export.target_results import for_devices, state_of, target_results
from edgetl_export.tensorrt.check import check_graphs, check_onnx
from edgetl_export.typed import Typed
from edgetl_runtime.spec import Chosen, Hop
from edgetl_runtime.tensorrt.protocol import Kind


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("ok", "compiled"),
        ("parse", "refused"),
        ("build", "refused"),
        ("invalid-model", "refused"),
        ("cannot-tell", "cannot tell"),
        ("missing-package", "cannot tell"),
        ("timeout", "cannot tell"),
        ("crash", "cannot tell"),
    ],
)
def test_only_what_compiled_is_called_so(kind: Kind, state: str) -> None:
    assert state_of(kind) == state


def test_every_kind_has_a_state() -> None:
    assert {state_of(kind) for kind in get_args(Kind)} == {"compiled", "refused", "cannot tell"}


def graph(path: Path) -> Path:
    """A graph that every compiler takes."""
    shape = [1, 3, 8, 8]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "tiny", info[:1], info[1:])
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def candidate(variant: str, file: Path, *, passed: bool) -> Candidate:
    """A graph for TensorRT that was judged."""
    pair = Pair(variant=variant, precision="fp16", engine="onnxruntime", probe_file=file, file=file)
    hop = Hop(hop=variant, metric="ap50", value=0.5, max_rel_error=0.0, cosine=1.0, passed=passed)
    return Candidate(pair, Measured({"detect": 0.5}), hop)


def test_every_graph_of_every_target_has_an_answer(tmp_path: Path) -> None:
    file = graph(tmp_path / "model.onnx")
    judged = [candidate("trt-fp16", file, passed=True), candidate("trt-int8", file, passed=False)]
    checks = check_graphs({"trt-fp32": file, "trt-fp16": file, "trt-int8": file}, ["cpu", "thor"])
    chosen = Chosen(variant="int8", engine="openvino", reason="")
    results = target_results(Typed(judged, (), checks), ["cpu", "thor"], chosen, tmp_path)
    assert results["cpu"].graphs == {} and results["cpu"].deployable
    thor = results["thor"]
    assert list(thor.graphs) == ["trt-fp32", "trt-fp16", "trt-int8"] and thor.graphs["trt-int8"] == "over budget"
    here = thor.graphs["trt-fp32"]
    assert here == thor.graphs["trt-fp16"] and here in ("compiled", "cannot tell")
    assert thor.variant == ("trt-fp16" if here == "compiled" else "trt-fp32")


def test_what_a_target_prefers_and_what_is_not_for_it(tmp_path: Path) -> None:
    """A PC's engine is FP16 until its GPU has timed both; TensorRT 8 is older than the INT8 graph's opset."""
    names = ["rtx", "orin-nano", "drive-orin"]
    file = graph(tmp_path / "model.onnx")
    judged = [candidate(variant, file, passed=True) for variant in ("trt-fp16", "trt-int8")]
    answer = check_onnx(file, target="cpu")
    checks = {
        v: dict.fromkeys(names, replace(answer, ok=True, kind="ok")) for v in ("trt-fp32", "trt-fp16", "trt-int8")
    }
    chosen = Chosen(variant="int8", engine="openvino", reason="")
    results = target_results(Typed(judged, (), checks), names, chosen, tmp_path)
    assert {name: result.variant for name, result in results.items()} == {
        "rtx": "trt-fp16",
        "orin-nano": "trt-int8",
        "drive-orin": "trt-fp16",
    }
    assert list(results["drive-orin"].graphs) == ["trt-fp32", "trt-fp16"]
    assert list(results["rtx"].graphs) == ["trt-fp32", "trt-fp16", "trt-int8"]


def test_fp32_is_what_is_left_and_ships_only_then(tmp_path: Path) -> None:
    """A target falls back on the float graph; where it gets another, its device builds no FP32."""
    file = graph(tmp_path / "model.onnx")
    answer = replace(check_onnx(file, target="cpu"), ok=True, kind="ok")
    checks = {v: {"thor": answer} for v in ("trt-fp32", "trt-fp16")}
    chosen = Chosen(variant="int8", engine="openvino", reason="")
    late = candidate("trt-fp32", file, passed=True)
    late = replace(late, pair=replace(late.pair, precision="fp32"))
    for passed, expected in ((False, ["trt-fp32"]), (True, ["trt-fp16"])):
        judged = [late, candidate("trt-fp16", file, passed=passed)]
        results = target_results(Typed(judged, (), checks), ["thor"], chosen, tmp_path)
        assert [results["thor"].variant] == expected
        assert [c.pair.variant for c in for_devices(judged, results)] == expected
