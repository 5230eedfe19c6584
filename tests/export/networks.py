"""Small networks that take a camera frame, for the tests of the compiler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.passes.fold_input import fold_input

SIZE_HW = (64, 96)
PROBES = ("heat",)
Constants = dict[str, NDArray[np.generic]]


def graph_of(nodes: Sequence[NodeProto], outputs: Sequence[str], constants: Constants) -> ModelProto:
    """A checked graph whose input is one frame."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)


def conv(name: str, source: str, result: str, *, pad: int = 1, stride: int = 1, group: int = 1) -> NodeProto:
    """A convolution whose weights are called NAME_w and NAME_b."""
    return helper.make_node(
        "Conv",
        [source, f"{name}_w", f"{name}_b"],
        [result],
        name=name,
        pads=[pad] * 4,
        strides=[stride] * 2,
        group=group,
    )


def either(source: str, result: str) -> NodeProto:
    """If "sure", the source, else its negative: what reads it stands in the graphs inside the node."""
    branches = {
        key: helper.make_graph(
            [helper.make_node(op, [source], [f"{result}_{key}"], name=f"{result}_{key}")],
            key,
            [],
            [helper.make_tensor_value_info(f"{result}_{key}", TensorProto.FLOAT, None)],
        )
        for key, op in (("then_branch", "Identity"), ("else_branch", "Neg"))
    }
    return helper.make_node("If", ["sure"], [result], name=result, **branches)


SURE: Constants = {"sure": np.array(True)}


def weights(name: str, *shape: int, seed: int = 0, scale: float = 0.3) -> Constants:
    """Random weights and bias of a convolution."""
    rng = np.random.default_rng([seed, *name.encode()])
    return {
        f"{name}_w": rng.normal(0, scale, shape).astype(np.float32),
        f"{name}_b": rng.normal(0, 0.1, shape[0]).astype(np.float32),
    }


def frame_nodes() -> list[NodeProto]:
    """Frame -> planes -> (x - 127) / 128, as "normal"."""
    return [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2], name="planes"),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], name="sub"),
        helper.make_node("Div", ["centred", "std"], ["normal"], name="div"),
    ]


NORMAL: Constants = {"mean": np.array(127, np.float32), "std": np.array(128, np.float32)}


def silu_net() -> ModelProto:
    """`residual_net` whose ReLUs are SiLUs."""
    model = residual_net()
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Relu":
            (source,), (result,), name = node.input, node.output, node.name
            nodes.append(helper.make_node("Sigmoid", [source], [f"{result}_gate"], name=f"{name}_gate"))
            nodes.append(helper.make_node("Mul", [source, f"{result}_gate"], [result], name=name))
        else:
            nodes.append(node)
    outputs = [output.name for output in model.graph.output]
    return graph_of(nodes, outputs, {i.name: numpy_helper.to_array(i) for i in model.graph.initializer})


def residual_net(*, pad: int = 1) -> ModelProto:
    """A stem, a residual block with a depthwise convolution, a concatenation, a head "heat", and its sigmoid."""
    nodes = [
        *frame_nodes(),
        conv("stem", "normal", "stem_out", stride=2, pad=pad),
        helper.make_node("Relu", ["stem_out"], ["x0"], name="relu0"),
        conv("wide", "x0", "wide_out", pad=0),
        helper.make_node("Relu", ["wide_out"], ["x1"], name="relu1"),
        conv("deep", "x1", "deep_out", group=16),
        helper.make_node("Relu", ["deep_out"], ["x2"], name="relu2"),
        conv("back", "x2", "back_out", pad=0),
        helper.make_node("Add", ["x0", "back_out"], ["sum"], name="add"),
        conv("left", "sum", "left_out"),
        conv("right", "sum", "right_out"),
        helper.make_node("Concat", ["left_out", "right_out"], ["both"], name="concat", axis=1),
        conv("mix", "both", "mix_out"),
        helper.make_node("Relu", ["mix_out"], ["x3"], name="relu3"),
        conv("head", "x3", "heat"),
        helper.make_node("Sigmoid", ["heat"], ["scores"], name="sigmoid"),
    ]
    constants: Constants = {
        **NORMAL,
        **weights("stem", 8, 3, 3, 3),
        **weights("wide", 16, 8, 1, 1),
        **weights("deep", 16, 1, 3, 3),
        **weights("back", 8, 16, 1, 1),
        **weights("left", 4, 8, 3, 3),
        **weights("right", 4, 8, 3, 3),
        **weights("mix", 8, 8, 3, 3),
        **weights("head", 2, 8, 3, 3),
    }
    return graph_of(nodes, ["scores", "heat"], constants)


def folded(path: Path, *, pad: int = 1, silu: bool = False) -> Path:
    """`residual_net`, or `silu_net`, after the input was folded, on disk."""
    onnx.save(fold_input(silu_net() if silu else residual_net(pad=pad))[0], path)
    return path


def frames(count: int = 4, *, seed: int = 1) -> list[NDArray[np.uint8]]:
    """Noise of different brightness."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, min(120 + 30 * i, 256), (1, *SIZE_HW, 3), np.uint8) for i in range(count)]
