"""FP16 in the graph: what becomes half, what stays, and that inputs and outputs keep their types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import (
    NORMAL,
    PROBES,
    SURE,
    Constants,
    conv,
    either,
    folded,
    frame_nodes,
    frames,
    graph_of,
    residual_net,
    weights,
)
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgetl_export.calibrate import magnitudes, observe, ranges
from edgetl_export.graph import float_tensors, load_model, save_model
from edgetl_export.layers import layers_of
from edgetl_export.parity import record, rms_error
from edgetl_export.passes.half import describe_islands, to_half
from edgetl_export.passes.quantise import QuantisationPlan, quantise, quantised_inputs
from edgetl_export.passes.rounded import rounded
from edgetl_export.tensorrt.check import check_onnx
from edgetl_runtime.engines import load_engine


def largest(path: Path, folder: Path) -> dict[str, float]:
    return magnitudes(path, float_tensors(load_model(path)), frames(), folder)


def types(model: ModelProto) -> dict[str, int]:
    return {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}


@pytest.fixture
def half(tmp_path: Path) -> ModelProto:
    path = folded(tmp_path / "net.onnx")
    model, islands = to_half(load_model(path), largest(path, tmp_path), PROBES)
    assert islands == {} and describe_islands(model, islands) == "no value comes near the limit of FP16"
    save_model(model, tmp_path / "half.onnx")
    return model


def test_layers_are_half_decoding_and_the_outside_are_not(half: ModelProto) -> None:
    found = types(half)
    for name in ("stem_out", "deep_out", "sum", "both", "x3"):
        assert found[name] == TensorProto.FLOAT16, name
    assert {found[o.name] for o in half.graph.output} == {TensorProto.FLOAT}
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    sigmoid = next(n for n in half.graph.node if n.op_type == "Sigmoid")
    assert sigmoid.input[0] == "heat" and found["heat"] == TensorProto.FLOAT
    kinds = {i.data_type for i in half.graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    onnx.checker.check_model(half, full_check=True)


def test_one_cast_at_either_end(half: ModelProto) -> None:
    assert sum(n.op_type == "Cast" for n in half.graph.node) == 2


def difference(folder: Path, before: str, after: str) -> float:
    rows = []
    save_model(rounded(load_model(folder / f"{after}.onnx")), folder / "rounded.onnx")
    for name in (before, "rounded"):
        engine = load_engine("onnxruntime", folder / f"{name}.onnx", precision="fp32")
        rows.append(record(lambda f, e=engine: e.infer({"frame": f}), frames(), PROBES))  # type: ignore[misc]
        engine.close()
    return rms_error(*rows)


def test_what_it_computes(half: ModelProto, tmp_path: Path) -> None:
    assert 0 < difference(tmp_path, "net", "half") < 2e-3


def test_an_island_in_the_middle(tmp_path: Path) -> None:
    path = folded(tmp_path / "net.onnx")
    found = largest(path, tmp_path)
    found["deep_out"] = 1e6
    model, islands = to_half(load_model(path), found, PROBES)
    assert islands == {"deep": 1e6, "relu2": 1e6}
    kinds = types(model)
    assert kinds["deep_out"] == kinds["x2"] == TensorProto.FLOAT
    assert kinds["x1"] == kinds["back_out"] == TensorProto.FLOAT16
    assert sum(n.op_type == "Cast" for n in model.graph.node) == 4
    assert "2 layers stay FP32" in describe_islands(load_model(path), islands)


def test_sums_stay_float(tmp_path: Path) -> None:
    """A mean over a whole map overflows half in some engines although its result fits."""
    model = residual_net()
    model.graph.node.append(onnx.helper.make_node("GlobalAveragePool", ["x3"], ["pooled"], name="pool"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None))
    half, _ = to_half(model, {}, PROBES)
    kinds = types(half)
    pool = next(n for n in half.graph.node if n.op_type == "GlobalAveragePool")
    assert pool.input[0] == "x3_fp32" and kinds["pooled"] == TensorProto.FLOAT


def node(op: str, inputs: str, output: str) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output)


INFINITE = np.zeros((1, 8, 64, 96), np.float32)
INFINITE[0, 0, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("middle", "constants", "kept"),
    [
        ([either("x", "y")], SURE, []),
        (
            [node("Mul", "x small", "s"), node("Mul", "s big", "y")],
            {"small": np.array(1e-3, np.float32), "big": np.array(2e5, np.float32)},
            ["y"],
        ),
        (
            [node("Add", "x inf", "s"), node("Sigmoid", "s", "y")],
            {"inf": INFINITE},
            ["s", "y"],
        ),
    ],
    ids=["read inside a node", "a factor beyond FP16", "a value that is not finite"],
)
def test_what_has_to_stay_float(tmp_path: Path, middle: list[NodeProto], constants: Constants, kept: list[str]) -> None:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), *middle, conv("b", "y", "z"), conv("h", "z", "heat")]
    held = {**NORMAL, **weights("a", 8, 3, 3, 3), **weights("b", 8, 8, 3, 3), **weights("h", 2, 8, 3, 3), **constants}
    save_model(graph_of(nodes, ["heat"], held), tmp_path / "net.onnx")
    model, islands = to_half(load_model(tmp_path / "net.onnx"), largest(tmp_path / "net.onnx", tmp_path), PROBES)
    save_model(model, tmp_path / "half.onnx")
    assert list(islands) == kept and types(model)["z"] == TensorProto.FLOAT16
    assert 0 < difference(tmp_path, "net", "half") < 2e-3


def int8_half(folder: Path, **largest_of: float) -> tuple[ModelProto, ModelProto]:
    """A symmetric INT8 graph, and what becomes of it."""
    path = folded(folder / "net.onnx")
    model = load_model(path)
    layers = [layer for layer in layers_of(model, PROBES) if not layer.decides]
    observed = observe(path, quantised_inputs(model, layers), frames(6, seed=3), folder)
    plan = QuantisationPlan("s8s8", frozenset(layer.name for layer in layers), ranges(observed, "minmax"))
    int8 = quantise(model, layers_of(model, PROBES), plan)
    save_model(int8, folder / "int8.onnx")
    return int8, to_half(load_model(folder / "int8.onnx"), largest(path, folder) | largest_of, PROBES)[0]


def test_decoding_is_behind_the_last_layer_where_a_probe_is_made_of_what_it_reads(tmp_path: Path) -> None:
    """As of a transformer's queries, which parity compares in order: boxes in pixels have no place in FP16."""
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        conv("h", "x", "raw"),
        node("Neg", "raw", "steady"),
        node("Sigmoid", "raw", "share"),
        node("Mul", "share size", "boxes"),
    ]
    held = {**NORMAL, **weights("a", 8, 3, 3, 3), **weights("h", 2, 8, 3, 3), "size": np.array(640, np.float32)}
    save_model(graph_of(nodes, ["boxes", "steady"], held), tmp_path / "net.onnx")
    model = load_model(tmp_path / "net.onnx")
    assert [layer.name for layer in layers_of(model, ["steady"]) if layer.decides] == ["h"]
    half, _ = to_half(model, {}, ["steady"])
    kinds = types(half)
    assert (kinds["x"], kinds["raw"]) == (TensorProto.FLOAT16, TensorProto.FLOAT16)
    assert [kinds[name] for name in ("share", "boxes", "steady")] == [TensorProto.FLOAT] * 3


def int8_layers(model: ModelProto) -> list[str]:
    """Convolutions whose data and weights come straight from DequantizeLinear."""
    made = {o: n.op_type for n in model.graph.node for o in n.output}
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    return [n.name for n in convs if [made.get(i) for i in n.input[:2]] == ["DequantizeLinear"] * 2]


def test_int8_with_the_rest_in_half(tmp_path: Path) -> None:
    """No Cast stands between a convolution and its INT8 operands: TensorRT would not take it for an INT8 layer then."""
    int8, half = int8_half(tmp_path)
    save_model(half, tmp_path / "half.onnx")
    kinds = types(half)
    assert half.opset_import[0].version == 19
    assert int8_layers(half) == int8_layers(int8) and len(int8_layers(half)) == 6
    assert {kinds[n.output[0]] for n in half.graph.node if n.op_type == "Conv"} == {TensorProto.FLOAT16}
    assert sum(n.op_type == "Cast" for n in half.graph.node) == 2
    assert difference(tmp_path, "int8", "half") < 0.02


def test_int8_beside_an_island(tmp_path: Path) -> None:
    _, half = int8_half(tmp_path, deep_out=1e6)
    kinds = types(half)
    assert kinds["deep_out"] == TensorProto.FLOAT and kinds["back_out"] == TensorProto.FLOAT16
    assert "deep" in int8_layers(half)
    onnx.checker.check_model(half, full_check=True)


def test_tensorrt_takes_int8_with_the_rest_in_half(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    _, half = int8_half(tmp_path)
    save_model(half, tmp_path / "half.onnx")
    found = check_onnx(tmp_path / "half.onnx", target="orin-nano")
    assert found.ok, found.diagnostics
    assert found.layer_precisions.keys() == {"int8", "fp16"}
