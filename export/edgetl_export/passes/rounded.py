"""What an FP16 graph computes, on an engine without FP16: float32, with every result rounded to half.

ONNX Runtime takes an FP16 graph on a CPU, but computes whole chains of nodes in float32 and rounds at their ends alone
(1.32; at every level of optimisation): what overflows in between, and what rounding costs, can't be seen there. Casts
that a graph itself asks for stay.

Casts round as IEEE 754 says, in every engine that keeps them: OpenVINO leaves out those that cancel. Sums round there,
too, in one pass over memory instead of four. They split a number as Dekker and Veltkamp do (Numer. Math. 18, 1971).

Requires: a graph as `to_half` gives it: its types are inferred, inputs and outputs are not FP16.
Ensures: tensors keep their names, and hold what they hold in the FP16 graph, computed in float32 and rounded by every
node: infinite where that overflows. By sums ties go to either side, what is below 6.1e-5 keeps more digits than a half
has, and what overflows is no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.graph import consumers, copy_of, set_initializer, set_nodes, typed_anew, types_of

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

SPLIT = {"half/split": (2.0**13 + 1) * 2.0**99, "half/up": 2.0**99, "half/down": 2.0**-99}
"""Constants that sums round by. float32 has 13 binary digits more than a half, and ends at 2**128: the first product is
infinite from 65528 on (halves are from 65520 on), and infinity less infinity is no number."""


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


def rounded(model: ModelProto, *, by: Literal["casts", "sums"] = "casts") -> ModelProto:
    """The graph in float32, with the roundings of the FP16 graph written out."""
    result, half = widened(model), _half_tensors(model)
    rounding = _casts if by == "casts" else _sums
    if by == "sums":
        for name, value in SPLIT.items():
            set_initializer(result, name, np.array(value, np.float32))
    readers = consumers(result)
    cuts: set[str] = set()
    nodes: list[NodeProto] = []
    for node in result.graph.node:
        nodes.append(node)
        if node.op_type in EXACT or (node.op_type in CHOOSES and node.name not in cuts):
            continue
        for name in [name for name in node.output if name in half]:
            node.output[list(node.output).index(name)] = f"{name}/wide"
            nodes += rounding(node.name, name)
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


def _casts(node: str, name: str) -> list[NodeProto]:
    """What rounds `name/wide`, of this node."""
    half = f"{name}/half"
    return [
        helper.make_node("Cast", [f"{name}/wide"], [half], name=half, to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [name], name=f"{node}/rounded", to=TensorProto.FLOAT),
    ]


def _sums(node: str, name: str) -> list[NodeProto]:
    """The same: a number times 2**13 + 1, less the difference of that and the number, has 11 binary digits left."""
    wide, both, scaled, rest, near = f"{name}/wide", *(f"{name}/{part}" for part in ("both", "scaled", "rest", "near"))
    return [
        helper.make_node("Mul", [wide, "half/split"], [both], name=both),
        helper.make_node("Mul", [wide, "half/up"], [scaled], name=scaled),
        helper.make_node("Sub", [both, scaled], [rest], name=rest),
        helper.make_node("Sub", [both, rest], [near], name=near),
        helper.make_node("Mul", [near, "half/down"], [name], name=f"{node}/rounded"),
    ]
