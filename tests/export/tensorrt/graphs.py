"""Small ONNX graphs that TensorRT takes, and some that it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, NDArray[np.generic]]
FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Arrays,
    *,
    opset: int = 17,
) -> Path:
    """Write one graph."""
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def value(name: str, dtype: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def weights() -> NDArray[np.float32]:
    """(8, 3, 3, 3) convolution weights, the same each time."""
    return np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)


def camera_net(path: Path, *, cast_first: bool = True, opset: int = 17) -> Path:
    """A uint8 frame (1, 32, 32, 3) through Cast, Transpose and two convolutions; the first two swap on request."""
    cast = helper.make_node("Cast", ["frame" if cast_first else "a"], ["a" if cast_first else "b"], "cast", to=FLOAT)
    names = (["a"], ["b"]) if cast_first else (["frame"], ["a"])
    transpose = helper.make_node("Transpose", *names, "to_planes", perm=[0, 3, 1, 2])
    nodes = [
        *([cast, transpose] if cast_first else [transpose, cast]),
        helper.make_node("Conv", ["b", "w"], ["c"], "/stem/conv/Conv"),
        helper.make_node("Relu", ["c"], ["d"], "/stem/act/Relu"),
        helper.make_node("Conv", ["d", "w2"], ["e"], "/head/conv/Conv"),
    ]
    second = np.random.default_rng(1).normal(size=(4, 8, 3, 3)).astype(np.float32)
    inputs, outputs = [value("frame", UINT8, [1, 32, 32, 3])], [value("e", FLOAT, [1, 4, 28, 28])]
    return save(path, nodes, inputs, outputs, {"w": weights(), "w2": second}, opset=opset)


def quantised_net(path: Path, *, zero_point: int = 0) -> Path:
    """One INT8 Q/DQ convolution whose activations have this zero point."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "quantise"),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dequantise"),
        helper.make_node("DequantizeLinear", ["wq", "w_scale", "w_zero"], ["wd"], "dequantise_w", axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["y"], "conv"),
    ]
    constants: Arrays = {
        "scale": np.float32(0.1),
        "zero": np.int8(zero_point),
        "wq": np.random.default_rng(0).integers(-127, 128, (16, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(16, 0.01, np.float32),
        "w_zero": np.zeros(16, np.int8),
    }
    return save(path, nodes, [value("x", FLOAT, [1, 3, 32, 32])], [value("y", FLOAT, [1, 16, 30, 30])], constants)


def nms_net(path: Path) -> Path:
    """A NonMaxSuppression by itself."""
    nodes = [helper.make_node("NonMaxSuppression", ["boxes", "scores", "k", "iou", "low"], ["kept"], "nms")]
    inputs = [value("boxes", FLOAT, [1, 20, 4]), value("scores", FLOAT, [1, 3, 20])]
    constants: Arrays = {
        "k": np.array([5], np.int64),
        "iou": np.array([0.5], np.float32),
        "low": np.array([0.2], np.float32),
    }
    return save(path, nodes, inputs, [value("kept", INT64, ["n", 3])], constants)


def roi_align_net(path: Path) -> Path:
    """A RoiAlign by itself, which TensorRT can't decide without a GPU."""
    nodes = [helper.make_node("RoiAlign", ["x", "rois", "index"], ["y"], "roi", output_height=2, output_width=2)]
    inputs = [value("x", FLOAT, [1, 3, 20, 20]), value("rois", FLOAT, [2, 4])]
    return save(path, nodes, inputs, [value("y", FLOAT, [2, 3, 2, 2])], {"index": np.zeros(2, np.int64)})


def unsupported_net(path: Path) -> Path:
    """A Det, which the parser does not know."""
    nodes = [helper.make_node("Det", ["x"], ["y"], "det")]
    return save(path, nodes, [value("x", FLOAT, [2, 4, 4])], [value("y", FLOAT, [2])], {})


def dynamic_net(path: Path) -> Path:
    """A convolution over a batch of unknown size."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    inputs, outputs = [value("x", FLOAT, ["n", 3, 32, 32])], [value("y", FLOAT, ["n", 8, 30, 30])]
    return save(path, nodes, inputs, outputs, {"w": weights()})
