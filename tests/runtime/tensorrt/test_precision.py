"""What an ONNX file asks of each layer, and whether an engine's inspector says that it got it.

The inspector's documents here are written by hand, after NVIDIA's documentation of TensorRT 8, 10 and 11.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetl_runtime.tensorrt.onnx_file import read_onnx
from edgetl_runtime.tensorrt.precision import Asked, asked_precisions, layer_precisions, layers_of, prove
from edgetl_runtime.tensorrt.protocol import Mismatch

ASKED = {
    "/stem/Conv": Asked("int8", True),
    "/stem/Relu": Asked("fp16", False),
    "/head/Conv": Asked("fp16", True),
    "/head/Softmax": Asked("fp32", False),
    "/head/Add": Asked("fp16", False),
}


def typed_net(path: Path) -> Path:
    """uint8 -> half; an INT8 convolution, one in half, a Gemm that is an FP32 island, a product of activations."""
    half, rng = np.float16, np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "scale": np.array(0.1, half),
        "zero": np.array(0, np.int8),
        "wq": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(4, 0.01, half),
        "w_zero": np.zeros(4, np.int8),
        "w2": rng.normal(size=(4, 4, 3, 3)).astype(half),
        "w3": rng.normal(size=(4, 5)).astype(np.float32),
        "flat": np.array([1, 4], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["x"], "cast", to=TensorProto.FLOAT16),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dequantise"),
        helper.make_node("DequantizeLinear", ["wq", "w_scale", "w_zero"], ["wd"], "dequantise_w", axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["a"], "int8_conv"),
        helper.make_node("Conv", ["a", "w2"], ["b"], "half_conv"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Reshape", ["c", "flat"], ["d"], "flatten"),
        helper.make_node("MatMul", ["d", "d_t"], ["s"], "scores"),
        helper.make_node("Cast", ["d"], ["e"], "island", to=TensorProto.FLOAT),
        helper.make_node("Gemm", ["e", "w3"], ["y"], ""),
    ]
    nodes.insert(8, helper.make_node("Transpose", ["d"], ["d_t"], "turn", perm=[1, 0]))
    ends = [
        helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 3, 16, 16]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5]),
        helper.make_tensor_value_info("s", TensorProto.FLOAT16, [1, 1]),
    ]
    initializers = [numpy_helper.from_array(v, name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)
    return path


def test_what_the_file_asks_for(tmp_path: Path) -> None:
    asked = asked_precisions(read_onnx(typed_net(tmp_path / "a.onnx")))
    heavy = {name: a.precision for name, a in asked.items() if a.heavy}
    assert heavy == {"int8_conv": "int8", "half_conv": "fp16", "scores": "fp16", "node 11": "fp32"}
    assert asked["pool"] == Asked("fp16", False) and asked["island"] == Asked("fp32", False)
    assert asked["quantise"] == Asked("int8", False)


def tensor(datatype: str, *, split: bool = False) -> dict[str, object]:
    """A layer's input or output, of TensorRT 10 or, split, of 11."""
    base: dict[str, object] = {"Name": "t", "Location": "Device", "Dimensions": [1, 8, 16, 16]}
    kind = {"Format": "Row major linear", "DataType": datatype} if split else {"Format/Datatype": datatype}
    return base | kind


def layer(
    name: str,
    datatype: str,
    *nodes: str,
    out: str = "",
    kind: str = "CaskConvolution",
    split: bool = False,
    **more: object,
) -> dict[str, object]:
    """One layer, with metadata for `nodes`."""
    metadata = "\u001e".join(f"[ONNX Layer: {node}]" for node in nodes)
    found: dict[str, object] = {
        "Name": name,
        "LayerType": kind,
        "Inputs": [tensor(datatype, split=split)],
        "Outputs": [tensor(out or datatype, split=split)],
        "TacticName": "sm80_xmma_fprop_implicit_gemm",
        "StreamId": 0,
        "Metadata": metadata,
    }
    return found | more


def reformat(node: str) -> dict[str, object]:
    """The copy that TensorRT puts before a layer."""
    return layer(f"Reformatting CopyNode for Input Tensor 0 to {node}", "Row major linear FP32", kind="Reformat")


GOOD = [
    reformat("/stem/Conv"),
    layer("/stem/Conv + /stem/Relu", "Thirty-two wide channel vectorized row major Int8 format", "/stem/Conv"),
    layer("/head/Conv", "Channel major FP16 format where channel % 8 == 0", "/head/Conv"),
    layer("__myl_Softmax", "Float", "/head/Softmax", kind="kgen"),
]


@pytest.mark.parametrize(
    "layers",
    [
        GOOD,
        [layer("a", "Int8", "/stem/Conv", "/stem/Relu", out="Half"), layer("b", "Half", "/head/Conv", out="Float")],
        [layer("a", "Int8", "/stem/Conv", split=True), layer("b", "Half", "/head/Conv", split=True)],
        [layer("/stem/Conv + PWN(/stem/Relu)", "Int8"), layer("/head/Conv || /head/Other", "Half")],
        [
            layer("a", "N/A due to dynamic shapes", "/stem/Conv", Weights={"Type": "Int8", "Count": 9}),
            layer("split_k", "Half", "/head/Conv", kind="gemm"),
            layer("reduce", "Float", "/head/Conv", kind="kgen"),
        ],
    ],
)
def test_an_engine_that_got_what_was_asked(layers: list[dict[str, object]]) -> None:
    proof = prove(layers, ASKED)
    assert proof.mismatches == ()
    assert proof.asked == proof.found == {"fp16": 1, "int8": 1}
    assert proof.unknown == 0


def test_a_convolution_that_fell_back_is_named() -> None:
    layers = [layer("/stem/Conv + /stem/Relu", "Half", "/stem/Conv", "/stem/Relu"), *GOOD[2:]]
    proof = prove(layers, ASKED)
    assert proof.mismatches[0] == Mismatch("/stem/Conv + /stem/Relu", ("/stem/Conv",), "int8", "fp16")
    assert proof.found == {"fp16": 2}


def test_a_kernel_that_fell_back_to_fp32_is_named() -> None:
    proof = prove([*GOOD, layer("kgen_3", "Float", "/head/Add", "/stem/Relu", kind="kgen")], ASKED)
    assert proof.mismatches == (Mismatch("kgen_3", ("/head/Add", "/stem/Relu"), "fp16", "fp32"),)
    mixed = layer("kgen_3", "Float", "/head/Add", kind="kgen", out="Half")
    island = layer("kgen_4", "Float", "/head/Add", "/head/Softmax", kind="kgen")
    assert prove([*GOOD, mixed, island], ASKED).mismatches == ()


def test_an_engine_without_int8_is_a_mismatch_though_no_layer_names_its_nodes() -> None:
    layers = [layer("__myl_Fc_0", "Half", kind="gemm")]
    proof = prove(layers, ASKED)
    assert [m.found for m in proof.mismatches] == ["no layer in INT8"]
    assert proof.unknown == 2
    assert prove([layer("__myl_Fc_0", "Int8", kind="gemm")], ASKED).mismatches == ()


def test_an_engine_in_fp32_is_a_mismatch_though_no_layer_names_its_nodes() -> None:
    asked = {name: node for name, node in ASKED.items() if node.precision != "int8"}
    proof = prove([layer("__myl_Fc_0", "Float", kind="gemm")], asked)
    assert [(m.asked, m.found) for m in proof.mismatches] == [("fp16", "every layer in FP32")]
    assert prove([layer("__myl_Fc_0", "Half", kind="gemm"), layer("__myl_Sum", "Float")], asked).mismatches == ()


@pytest.mark.parametrize("layers", [[], [layer("/stem/Conv", "N/A due to dynamic shapes", "/stem/Conv")]])
def test_what_is_not_said_is_unknown_and_no_mismatch(layers: list[dict[str, object]]) -> None:
    proof = prove(layers, ASKED)
    assert (proof.found, proof.unknown, proof.mismatches) == ({}, 2, ())


def test_the_inspectors_documents() -> None:
    old = json.dumps({"Layers": GOOD, "Bindings": ["frame", "y"]})
    new = json.dumps({"Layers": GOOD, "I/O Tensors": [{"Name": "frame", "IOMode": "Input", "DataType": "UInt8"}]})
    assert layers_of(old) == layers_of(new) == GOOD
    assert layers_of(json.dumps({"Layers": ["/stem/Conv", "/head/Conv"], "Bindings": []})) == []
    assert [layers_of(wrong) for wrong in ("", "[]", "{}", '{"Layers": 3}', '{"Layers": [')] == [[]] * 5


def test_every_layers_precision() -> None:
    found = layer_precisions([*GOOD, layer("b", "BF16", split=True), layer("e", "FP8"), layer("n", "N/A")])
    assert list(found.values()) == ["fp32", "int8", "fp16", "fp32", "bf16", "fp8"]
