"""Decide at the low resolution what a last transposed convolution would only spread out.

A transposed convolution whose windows do not overlap is a 1x1 convolution and a DepthToSpace (sub-pixel convolution,
arXiv:1609.05158). Engines pad a tensor's channels to whole vectors, so that one with two maps at full resolution costs
as much as one with sixteen; with the four cells of a window as channels, nothing is padded. Activations and decoding
that treat each cell alone are done before the DepthToSpace, which then moves bytes instead of floats.

Requires: static shapes; weights as initializers. Ensures: no transposed convolution of fewer than FEW channels whose
kernel is its stride is followed by what could be computed before spreading; outputs equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgetl_export.graph import (
    attribute,
    consumers,
    copy_of,
    initializers,
    inner_reads,
    prune,
    set_initializer,
    set_nodes,
    shapes_of,
    types_of,
)

FEW = 8
"""Channels that fill a vector: with so many a transposed convolution is left as it is."""
ALONE = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Neg", "Relu", "Sigmoid", "Tanh"})
"""Operators of one tensor, besides constants, that treat each element alone."""
PAIRED = frozenset({"Add", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Sub"})
"""Operators of two tensors of one shape, or of one and a single number."""
MOVED = ALONE | PAIRED | {"Cast", "PRelu", "Split"}
SPREAD = frozenset({TensorProto.FLOAT, TensorProto.UINT8})
"""What DepthToSpace moves on every engine."""


def shuffle_late(model: ModelProto) -> tuple[ModelProto, str]:
    """A model that spreads as late as it can, and a note; the same model where there is nothing to do."""
    result = copy_of(model)
    readers = consumers(result)
    kinds = types_of(onnx.shape_inference.infer_shapes(result, data_prop=True))
    low = _Low(initializers(result), shapes_of(result), kinds)
    starts = [
        node.name
        for node in result.graph.node
        if _without_overlap(node, low) and any(n.op_type in MOVED for n in readers.get(node.output[0], []))
    ]
    if not starts:
        return model, "not applied: no transposed convolution of few channels without overlap is followed by decoding"
    for node in result.graph.node:
        if node.name in starts:
            low.start(node)
        elif not low.follow(node):
            low.spread([*node.input, *sorted(inner_reads(node))])
            low.nodes.append(node)
    low.spread([o.name for o in result.graph.output])
    set_nodes(result, low.nodes)
    for name, value in low.made.items():
        set_initializer(result, name, value)
    prune(result)
    which = "a transposed convolution" if len(starts) == 1 else f"{len(starts)} transposed convolutions"
    return result, f"what follows {which} is computed before spreading"


def _without_overlap(node: NodeProto, low: _Low) -> bool:
    """Whether it is a 1x1 convolution and a DepthToSpace, and has few channels."""
    if node.op_type != "ConvTranspose" or any(name not in low.constants for name in node.input[1:] if name):
        return False
    _, channels, *kernel = low.constants[node.input[1]].shape
    usual = {"pads": [0] * 4, "output_padding": [0] * 2, "dilations": [1] * 2, "group": 1, "auto_pad": b"NOTSET"}
    return (
        channels < FEW
        and len(kernel) == 2
        and 1 < kernel[0] == kernel[1]
        and attribute(node, "strides") == kernel
        and attribute(node, "output_shape") is None
        and all(attribute(node, key) in (None, value) for key, value in usual.items())
        and 0 not in low.shapes.get(node.output[0], (0,))
    )


@dataclass(frozen=True, slots=True)
class _Low:
    """The new nodes and constants. factor: by how much each tensor that is there at the low resolution, as NAME/low,
    is to be spread; origin: the node that made it at the full one.
    """

    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, int]
    nodes: list[NodeProto] = field(default_factory=list)
    made: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    factor: dict[str, int] = field(default_factory=dict)
    origin: dict[str, NodeProto] = field(default_factory=dict)
    _whole: set[str] = field(default_factory=set)

    def start(self, node: NodeProto) -> None:
        """Make a transposed convolution a 1x1 one; the cells of a window are channels beside each other."""
        self.spread(node.input)
        weight = self.constants[node.input[1]]
        size = weight.shape[2]
        given = [name for name in node.input[1:] if name]
        names = [f"{node.name}/low_{part}" for part in ("weight", "bias")][: len(given)]
        self.made[names[0]] = weight.transpose(1, 2, 3, 0).reshape(-1, len(weight), 1, 1)
        if len(names) > 1:
            self.made[names[1]] = np.repeat(self.constants[node.input[2]], size**2)
        conv = helper.make_node("Conv", [node.input[0], *names], [f"{node.output[0]}/low"], name=node.name)
        conv.metadata_props.extend(node.metadata_props)
        self._add(conv, node, size)

    def follow(self, node: NodeProto) -> bool:
        """Compute a node at the low resolution, where that gives the same."""
        data = [name for name in node.input if name and name not in self.constants]
        factors = {self.factor.get(name, 0) for name in data}
        if node.op_type not in MOVED or len(factors) != 1 or 0 in factors:
            return False
        (size,) = factors
        constants = self._constants(node, size)
        if constants is None or len({self.shapes[name] for name in data}) != 1:
            return False
        copy = NodeProto.FromString(node.SerializeToString())
        copy.name = f"{node.name}/low"
        for i, name in enumerate(node.input):
            if name in data:
                copy.input[i] = f"{name}/low"
            elif i in constants:
                copy.input[i] = f"{copy.name}_{i}"
                self.made[copy.input[i]] = constants[i]
        for i, name in enumerate(node.output):
            copy.output[i] = f"{name}/low"
        self._add(copy, node, size)
        return True

    def _add(self, node: NodeProto, origin: NodeProto, size: int) -> None:
        self.nodes.append(node)
        for name in origin.output:
            self.factor[name], self.origin[name] = size, origin

    def _constants(self, node: NodeProto, size: int) -> dict[int, NDArray[np.generic]] | None:
        """Constants that are others at the low resolution, by place; None where the node is none for it."""
        held = {i: self.constants[name] for i, name in enumerate(node.input) if name in self.constants}
        if node.op_type == "Split":
            even = attribute(node, "num_outputs") is not None
            even &= self.shapes[node.input[0]][1] % len(node.output) == 0
            own = attribute(node, "axis") in (1, -3) and (even or bool(held))
            return {i: value * size**2 for i, value in held.items()} if own else None
        if all(value.size == 1 for value in held.values()):
            return {}
        channels = self.shapes[node.output[0]][1]
        if node.op_type == "PRelu" and held[1].shape[-3:] == (channels, 1, 1):
            return {1: np.repeat(held[1], size**2, axis=-3)}
        return None

    def spread(self, names: Iterable[str]) -> None:
        """Make tensors there at the full resolution; one that can't be moved is computed again."""
        for name in names:
            if name not in self.factor or name in self._whole:
                continue
            origin = self.origin[name]
            if self.kinds.get(name) in SPREAD:
                self._whole.add(name)
                size = self.factor[name]
                shuffle = helper.make_node(
                    "DepthToSpace", [f"{name}/low"], [name], name=f"{name}/spread", blocksize=size, mode="CRD"
                )
                self.nodes.append(shuffle)
            else:
                self.spread(origin.input)
                self._whole.update(origin.output)
                self.nodes.append(origin)
