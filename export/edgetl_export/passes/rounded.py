"""What an FP16 graph computes, on an engine without FP16: float32, with every result rounded to half.

ONNX Runtime takes an FP16 graph on a CPU, but computes whole chains of nodes in float32 and rounds at their ends alone
(1.32; at every level of optimisation): what overflows in between, and what rounding costs, can't be seen there. Casts
that a graph itself asks for stay.

Requires: a graph as `to_half` gives it: its types are inferred, inputs and outputs are not FP16.
Ensures: tensors keep their names, and hold what they hold in the FP16 graph, computed in float32 and rounded by every
node: infinite where that overflows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.graph import consumers, copy_of, set_nodes, typed_anew, types_of

CHOOSES = frozenset(
    {
        "Abs",
        "Clip",
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Max",
        "MaxPool",
        "Min",
        "Neg",
        "Pad",
        "Relu",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "TopK",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""Operators whose results are among their inputs, but for the sign: those of halves are halves."""
EXACT = frozenset({"Constant", "DequantizeLinear"})
"""Operators whose results are not rounded: constants are halves, and INT8 kernels read the integers themselves."""
CUTS = frozenset({"Clip", "Relu"})
"""Those that never change the order of two values: they read what is not rounded yet, and are rounded themselves, which
gives the same and lets an engine fuse them with what they cut."""


def widened(model: ModelProto) -> ModelProto:
    """The graph in float32; of what FP16 costs it has the rounded constants alone."""
    result = copy_of(model)
    half = _half_tensors(result)
    for constant in result.graph.initializer:
        if constant.name in half:
            constant.CopyFrom(_widened(constant))
    for node in result.graph.node:
        if not half.isdisjoint(node.output):
            _widen(node)
    return typed_anew(result)


def rounded(model: ModelProto) -> ModelProto:
    """The graph in float32, with the roundings of the FP16 graph written out as Casts."""
    result, half = widened(model), _half_tensors(model)
    readers = consumers(result)
    cuts: set[str] = set()
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        nodes.append(node)
        if node.op_type in EXACT or (node.op_type in CHOOSES and node.name not in cuts):
            continue
        for name in [name for name in node.output if name in half]:
            nodes += _rounding(node, name)
            for cut in _cuts(name, readers):
                cut.input[0] = f"{name}/wide"
                cuts.add(cut.name)
    set_nodes(result, nodes)
    return typed_anew(result)


def _half_tensors(model: ModelProto) -> set[str]:
    return {name for name, kind in types_of(model).items() if kind == TensorProto.FLOAT16}


def _widen(node: NodeProto) -> None:
    """Let a node that makes halves make float32, in place."""
    for a in node.attribute:
        if node.op_type == "Cast" and a.name == "to":
            a.i = TensorProto.FLOAT
        elif node.op_type == "Constant" and a.name == "value":
            a.t.CopyFrom(_widened(a.t))


def _widened(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _cuts(name: str, readers: Mapping[str, Sequence[NodeProto]]) -> list[NodeProto]:
    """The nodes that cut the tensor, and make halves of it."""
    return [n for n in readers.get(name, ()) if n.op_type in CUTS and n.input[0] == name]


def _rounding(node: NodeProto, name: str) -> list[NodeProto]:
    """Casts that round a result; the node gives it under another name from now on."""
    wide, half = f"{name}/wide", f"{name}/half"
    node.output[list(node.output).index(name)] = wide
    return [
        helper.make_node("Cast", [wide], [half], name=half, to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [name], name=f"{node.name}/rounded", to=TensorProto.FLOAT),
    ]
