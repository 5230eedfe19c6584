"""Let convolutions make the parts that a Split would cut their result into.

Blocks of the CSP kind, as YOLO has them, make all channels by one convolution and go on with half of them. An engine
that keeps channels in blocks puts them in rows, cuts, and makes blocks of each part again (ONNX Runtime's ReorderOutput
and ReorderInput; its Split knows no blocks). Two convolutions that read the same make both parts as they are needed.

Requires: weights as initializers; static shapes. Ensures: no Split into whole blocks of channels is all that reads what
an ungrouped Conv makes, by itself or through operators that treat each element alone; each channel is computed as
before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgetl_export.graph import (
    attribute,
    consumers,
    initializers,
    needed_whole,
    producers,
    rewritten_at,
    set_initializer,
    set_nodes,
    shapes_of,
)

BLOCK = 8
"""Channels that engines keep together: a part of other sizes would be padded."""
ALONE = frozenset({"Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Sigmoid", "Tanh"})
"""Operators of one tensor, besides single numbers, that treat each element alone."""
PAIRED = frozenset({"Add", "Mul"})
"""Operators of tensors of one shape, or of one and a single number, that do so."""


def split_early(model: ModelProto) -> tuple[ModelProto, str]:
    """A model whose convolutions make parts, and a note; the same model where no part can be made."""
    of_channels = [n.name for n in model.graph.node if n.op_type == "Split" and attribute(n, "axis") in (1, -3)]
    result, count = rewritten_at(model, of_channels, _found, _split)
    if not count:
        return model, "not applied: no convolution's result is only split into whole blocks of channels"
    return result, f"{count} convolution{'s' if count > 1 else ''} split where the result was"


@dataclass(frozen=True, slots=True)
class _Found:
    """split reads what the first of `nodes`, a Conv, and the others make, in graph order; sizes: of its parts."""

    split: NodeProto
    nodes: list[NodeProto]
    sizes: list[int]


def _found(model: ModelProto, name: str) -> _Found | None:
    made, readers, constants, shapes = producers(model), consumers(model), initializers(model), shapes_of(model)
    split = next(n for n in model.graph.node if n.name == name)
    parts = [shapes.get(part, ()) for part in split.output]
    if any(len(p) != 4 or not p[1] or p[1] % BLOCK for p in parts):
        return None
    region: dict[str, NodeProto] = {}
    waiting = [split.input[0]]
    while waiting:
        node = made.get(waiting.pop())
        if node is None or not _divides(node, constants, shapes):
            return None
        if node.op_type != "Conv":
            waiting += [i for i in node.input if i and i not in constants and i not in region]
        region[node.output[0]] = node
    inside = {n.name for n in (split, *region.values())}
    if needed_whole(model) & region.keys() or any(reader.name not in inside for t in region for reader in readers[t]):
        return None
    nodes = [n for n in model.graph.node if n.name in inside and n.name != name]
    return _Found(split, nodes, [p[1] for p in parts]) if [n.op_type for n in nodes].count("Conv") == 1 else None


def _divides(
    node: NodeProto, constants: Mapping[str, NDArray[np.generic]], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether a part of the node's channels can be had from the same part of what it reads, or of its weights."""
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return False
    if node.op_type == "Conv":
        return attribute(node, "group") in (None, 1) and all(name in constants for name in node.input[1:] if name)
    data = [name for name in node.input if name and name not in constants]
    numbers = [constants[name] for name in node.input if name in constants]
    return (
        ((node.op_type in ALONE and len(data) == 1) or node.op_type in PAIRED)
        and all(value.size == 1 for value in numbers)
        and all(shapes.get(name) == shapes.get(node.output[0]) for name in data)
    )


def _split(model: ModelProto, found: _Found) -> None:
    """Replace the nodes and the Split by a copy of the nodes for each part, in place."""
    constants = initializers(model)
    own = {n.output[0] for n in found.nodes}
    parts: list[NodeProto] = []
    start = 0
    for index, (part, size) in enumerate(zip(found.split.output, found.sizes, strict=True)):
        for node in found.nodes:
            copy = NodeProto.FromString(node.SerializeToString())
            copy.name = f"{node.name}/part{index}"
            last = node.output[0] == found.split.input[0]
            copy.output[0] = part if last else f"{node.output[0]}/part{index}"
            for i, name in enumerate(node.input):
                if name in own:
                    copy.input[i] = f"{name}/part{index}"
                elif node.op_type == "Conv" and i and name:
                    copy.input[i] = f"{copy.name}/{'weight' if i == 1 else 'bias'}"
                    set_initializer(model, copy.input[i], constants[name][start : start + size])
            parts.append(copy)
        start += size
    inside = {n.name for n in (found.split, *found.nodes)}
    first = next(i for i, n in enumerate(model.graph.node) if n.name in inside)
    nodes = list(model.graph.node)
    set_nodes(model, [*nodes[:first], *parts, *(n for n in nodes[first:] if n.name not in inside)])
