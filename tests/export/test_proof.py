"""Proof of precision: every kind of layer is found under the name that OpenVINO gives it, and what is not is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import NORMAL, SIZE_HW, Constants, conv, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper

from edgetl_export.calibrate import observe, ranges
from edgetl_export.graph import load_model, save_model
from edgetl_export.layers import layers_of
from edgetl_export.passes.fold_input import fold_input
from edgetl_export.passes.quantise import QuantisationPlan, quantise, quantised_inputs
from edgetl_export.proof import Proof, prove
from edgetl_runtime.engines import available_engines
from edgetl_runtime.engines.openvino import OpenVinoEngine

pytestmark = pytest.mark.skipif("openvino" not in available_engines(), reason="needs openvino")
CELLS = SIZE_HW[0] * SIZE_HW[1] // 4
TOKENS = [
    helper.make_node("Reshape", ["x", "flat"], ["rows"], name="rows"),
    helper.make_node("Transpose", ["rows"], ["tokens"], name="tokens", perm=[0, 2, 1]),
]
FLAT: Constants = {"flat": np.array([1, 8, CELLS], np.int64)}
POOLED = [
    helper.make_node("GlobalAveragePool", ["x"], ["pooled"], name="pool"),
    helper.make_node("Flatten", ["pooled"], ["features"], name="flatten"),
]


def up(group: int) -> NodeProto:
    return helper.make_node("ConvTranspose", ["x", "L_w", "L_b"], ["y"], name="L", strides=[2, 2], group=group)


KINDS: dict[str, tuple[list[NodeProto], Constants]] = {
    "Conv": ([conv("L", "x", "y")], weights("L", 8, 8, 3, 3)),
    "depthwise Conv": ([conv("L", "x", "y", group=8)], weights("L", 8, 1, 3, 3)),
    "ConvTranspose": ([up(1)], weights("L", 8, 8, 2, 2)),
    "Gemm": (
        [*POOLED, helper.make_node("Gemm", ["features", "L_w", "L_b"], ["y"], name="L", transB=1)],
        weights("L", 5, 8),
    ),
    "MatMul": ([*TOKENS, helper.make_node("MatMul", ["tokens", "L_w"], ["y"], name="L")], weights("L", 8, 5) | FLAT),
    "MatMul with a bias": (
        [
            *TOKENS,
            helper.make_node("MatMul", ["tokens", "L_w"], ["product"], name="L"),
            helper.make_node("Add", ["product", "offsets"], ["y"], name="bias"),
        ],
        weights("L", 8, 5) | FLAT | {"offsets": np.ones(5, np.float32)},
    ),
    "Conv with a factor": (
        [conv("L", "x", "scaled"), helper.make_node("Div", ["scaled", "half"], ["y"], name="factor")],
        weights("L", 8, 8, 3, 3) | {"half": np.array(0.5, np.float32)},
    ),
}


def network(kind: str, *, last: bool) -> ModelProto:
    """A stem and a layer of this kind, the last of all or with a Sigmoid behind it."""
    nodes, constants = KINDS[kind]
    stem = [conv("stem", "normal", "stem_out", stride=2), helper.make_node("Relu", ["stem_out"], ["x"], name="relu")]
    behind = [] if last else [helper.make_node("Sigmoid", ["y"], ["z"], name="sigmoid")]
    whole = [*frame_nodes(), *stem, *nodes, *behind]
    return fold_input(graph_of(whole, ["y" if last else "z"], {**NORMAL, **weights("stem", 8, 3, 3, 3), **constants}))[
        0
    ]


def loaded(model: ModelProto, path: Path) -> OpenVinoEngine:
    save_model(model, path)
    return OpenVinoEngine(path, precision="int8")


@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_told(kind: str, last: bool, tmp_path: Path) -> None:
    model = network(kind, last=last)
    engine = loaded(model, tmp_path / "float.onnx")
    proof = prove(engine, layers_of(model, ()), ())
    engine.close()
    assert proof == Proof(0, 0, {}), "float, as asked"


def quantised(model: ModelProto, folder: Path) -> OpenVinoEngine:
    """The network with all its layers in INT8."""
    path = folder / "float.onnx"
    save_model(model, path)
    model = load_model(path)
    layers = layers_of(model, ())
    limits = ranges(observe(path, quantised_inputs(model, layers), frames(2), folder), "minmax")
    return loaded(quantise(model, layers, QuantisationPlan("u8s8", {"stem", "L"}, limits)), folder / "int8.onnx")


@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer_is_told_in_int8(kind: str, last: bool, tmp_path: Path) -> None:
    model = network(kind, last=last)
    engine = quantised(model, tmp_path)
    proof = prove(engine, layers_of(model, ()), {"stem", "L"})
    engine.close()
    assert proof == Proof(2, 2, {})


@pytest.mark.parametrize("last", [True, False], ids=["last", "inside"])
def test_a_layer_that_the_engine_left_in_float_is_found(
    last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO 2026.4 has no grouped ConvTranspose in INT8."""
    monkeypatch.setitem(KINDS, "grouped", ([up(8)], {"L_w": KINDS["depthwise Conv"][1]["L_w"], "L_b": np.ones(8, "f")}))
    model = network("grouped", last=last)
    engine = quantised(model, tmp_path)
    proof = prove(engine, layers_of(model, ()), {"stem", "L"})
    engine.close()
    assert proof == Proof(2, 1, {"L": "fp32"}) and not proof.ok


def test_what_is_not_told_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("Conv", last=False)
    engine = loaded(model, tmp_path / "float.onnx")
    told = engine.layer_precisions()
    monkeypatch.setattr(OpenVinoEngine, "layer_precisions", lambda self: {k: v for k, v in told.items() if k != "L"})
    some = prove(engine, layers_of(model, ()), ())
    assert some.ok and str(some) == "precision as asked, of 1 layers it is not told"
    monkeypatch.setattr(OpenVinoEngine, "layer_precisions", lambda self: {})
    none = prove(engine, layers_of(model, ()), ())
    engine.close()
    assert not none.ok and str(none) == "the engine tells no layer's precision"
