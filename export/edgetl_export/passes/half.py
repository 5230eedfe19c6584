"""FP16 written into the graph, as strongly typed engines want it, with FP32 islands where FP16 can't hold the values.

Requires: a float32 graph of opset 18 or later with static shapes, with or without Q/DQ, and the largest magnitude of
every tensor on real frames.
Ensures: every layer before decoding reads and makes FP16, islands, decoding and what is behind the last layers FP32,
Casts between; inputs and outputs keep their types, tensors their names; what graphs inside nodes read stays FP32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgetl_export.graph import (
    consumers,
    copy_of,
    downstream,
    initializers,
    inner_reads,
    last_nodes,
    producers,
    prune,
    set_initializer,
    set_nodes,
    typed_anew,
    types_of,
    watchable,
)
from edgetl_export.layers import HEAVY
from edgetl_export.tensorrt.graph import module_of

LARGEST = 65504.0
"""The largest finite FP16 value (IEEE 754 binary16)."""
MARGIN = 4.0
"""Frames on the road may drive a tensor this much further than those that were seen."""

SUMS = frozenset(
    {
        "GlobalAveragePool",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "ReduceL2",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "RMSNormalization",
        "Softmax",
        "Exp",
        "Pow",
        "CumSum",
    }
)
"""Operators that add up or blow up so much that FP16 loses them even where inputs and results fit."""

FACTORS = frozenset({"Mul", "Div"})
"""Operators that need their constants as they are. Others take one beyond FP16 cut to its end: a mask, a limit."""

FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs by position that stay float32 in a half-precision node."""
SKIPPED = frozenset({"ConstantOfShape", "RandomNormal", "RandomUniform"})
PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""They take the type of what they stand between."""
PAIR_OPSET = 19
"""From here on QuantizeLinear and DequantizeLinear take FP16. What 18 has means the same in 19."""


def to_half(
    model: ModelProto, magnitudes: Mapping[str, float], probes: Sequence[str]
) -> tuple[ModelProto, dict[str, float]]:
    """The typed graph, and the islands: nodes that stay FP32 for their values, with the largest magnitude of each."""
    result = onnx.shape_inference.infer_shapes(copy_of(model), data_prop=True)
    types = types_of(result)
    islands = _islands(result, magnitudes)
    tail = {n.name for n in last_nodes(result, HEAVY) if n.op_type not in HEAVY}
    floats = {n.name for n in downstream(result, probes)} | tail | islands.keys()
    inside = set().union(*(inner_reads(n) for n in result.graph.node))
    fixed = set(watchable(result))
    half = {
        n.name
        for n in result.graph.node
        if n.name not in floats and inside.isdisjoint(n.output) and _convertible(n, types, fixed)
    }
    half |= _half_pairs(result, half)
    _rewrite(result, half, types)
    prune(result)
    return typed_anew(result), islands


def describe_islands(model: ModelProto, islands: Mapping[str, float]) -> str:
    """For a person: which layers stay FP32, and why."""
    if not islands:
        return "no value comes near the limit of FP16"
    nodes = {n.name: n for n in model.graph.node}
    named = [
        f"{nodes[name].op_type} {name!r}{_in_module(nodes[name])} (up to {top:.3g})" for name, top in islands.items()
    ]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f"{len(named)} layers stay FP32, FP16 ends at {LARGEST:.0f}: {', '.join(named[:3])}{more}"


def _in_module(node: NodeProto) -> str:
    module = module_of(node)
    return f" in {module}" if module else ""


def _islands(model: ModelProto, magnitudes: Mapping[str, float]) -> dict[str, float]:
    found, constants = {}, initializers(model)
    for node in model.graph.node:
        top = max((magnitudes.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        factors = [constants[name] for name in node.input if name in constants and node.op_type in FACTORS]
        fixed = max((float(np.abs(v).max(initial=0)) for v in factors if v.dtype == np.float32), default=0.0)
        if top * MARGIN > LARGEST or fixed > LARGEST:
            found[node.name] = max(top, fixed)
    return found


def _convertible(node: NodeProto, types: Mapping[str, int], fixed: Collection[str]) -> bool:
    """Whether the node computes in float32 and may compute in FP16 instead; fixed: the tensors that were watched."""
    if node.op_type in SUMS | SKIPPED | PAIR or any(a.HasField("g") for a in node.attribute):
        return False
    floats = [name for name in node.output if types.get(name) == TensorProto.FLOAT]
    return bool(floats) and all(name in fixed for name in floats)


def _half_pairs(model: ModelProto, half: Collection[str]) -> set[str]:
    """The Q and DQ nodes that are to be half, given the others that are: a Q that reads from one, a DQ that one reads.

    A model that has some is given an opset that knows them.
    """
    made, readers = producers(model), consumers(model)
    found = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            maker = made.get(node.input[0])
            fits = maker is not None and maker.name in half
        else:
            behind = readers.get(node.output[0], ())
            fits = node.op_type == "DequantizeLinear" and any(n.name in half for n in behind)
        if fits:
            found.add(node.name)
    if found:
        opset = next(o for o in model.opset_import if o.domain in ("", "ai.onnx"))
        opset.version = max(opset.version, PAIR_OPSET)
    return found


def _rewrite(model: ModelProto, half: set[str], types: Mapping[str, int]) -> None:
    """Give half nodes FP16 inputs and the others FP32 ones, with as few Casts as that takes."""
    constants = initializers(model)
    outputs = {o.name for o in model.graph.output}
    made_half = {
        name
        for node in model.graph.node
        if node.name in half
        for name in node.output
        if types.get(name) == TensorProto.FLOAT
    }
    ordered: list[NodeProto] = []
    casts: dict[tuple[str, int], str] = {}

    def as_type(name: str, kind: int) -> str:
        """The tensor in this type; made when first asked for."""
        if (name in made_half) == (kind == TensorProto.FLOAT16):
            return inner.get(name, name)
        if name in inner:
            return name
        key = (name, kind)
        if key not in casts:
            casts[key] = f"{name}_{'fp16' if kind == TensorProto.FLOAT16 else 'fp32'}"
            if name in constants:
                value = np.clip(np.asarray(constants[name], np.float32), -LARGEST, LARGEST)
                set_initializer(model, casts[key], value.astype(np.float16))
            else:
                source = inner.get(name, name)
                ordered.append(helper.make_node("Cast", [source], [casts[key]], name=f"{casts[key]}/Cast", to=kind))
        return casts[key]

    inner = {name: f"{name}_inner" for name in made_half if name in outputs}
    for node in model.graph.node:
        is_half = node.name in half
        kept = FLOAT_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name and types.get(name) == TensorProto.FLOAT:
                wanted = TensorProto.FLOAT16 if is_half and index not in kept else TensorProto.FLOAT
                node.input[index] = as_type(name, wanted)
        if is_half and node.op_type == "Cast":
            next(a for a in node.attribute if a.name == "to").i = TensorProto.FLOAT16
        renamed = [name for name in node.output if name in inner]
        for index, name in enumerate(node.output):
            node.output[index] = inner.get(name, name)
        ordered.append(node)
        ordered += [
            helper.make_node("Cast", [inner[name]], [name], name=f"{name}/Cast", to=TensorProto.FLOAT)
            for name in renamed
        ]
    set_nodes(model, ordered)
