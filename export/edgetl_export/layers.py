"""The layers of a graph that a precision is chosen for: convolutions and matrix products with constant weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from edgetl_export.graph import attribute, consumers, downstream, initializers, last_nodes, producers, shapes_of
from edgetl_export.tensorrt.graph import module_of

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
AFFINE = frozenset({"Add", "Div", "Mul", "Sub"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One node: its name, operator and the module it came from, the tensors it reads and makes.

    macs: multiply-accumulates for one frame. decides: whether it makes what decoding reads, comes after that, or is the
    last on its way: where a probe is made of what decoding reads, as of a transformer's queries in order. takes:
    nodes behind it that engines make part of it, as a bias or a factor of its weights, and what they make.
    """

    name: str
    op: str
    module: str
    data: str
    weight: str
    output: str
    macs: int
    decides: bool
    takes: tuple[str, ...] = ()

    @property
    def known_as(self) -> tuple[str, ...]:
        """What an engine may call it: OpenVINO calls what makes an output by that, and some sums by their last term."""
        return (self.name, self.output, *self.takes)


def layers_of(model: ModelProto, probes: Sequence[str]) -> tuple[Layer, ...]:
    """Every heavy layer in graph order; `probes` are the tensors that decoding reads."""
    constants = {i.name: i for i in model.graph.initializer}
    made, shapes, readers = producers(model), shapes_of(model), consumers(model)
    deciding = {id(n) for n in downstream(model, probes)}
    deciding |= {id(made[t]) for t in probes if t in made}
    deciding |= {id(n) for n in last_nodes(model, HEAVY)}
    found = []
    for node in model.graph.node:
        if node.op_type not in HEAVY or len(node.input) < 2 or node.input[1] not in constants:
            continue
        weight = constants[node.input[1]].dims
        output = shapes.get(node.output[0], ())
        found.append(
            Layer(
                name=node.name,
                op=node.op_type,
                module=module_of(node) or _module_of_weight(node.input[1]),
                data=node.input[0],
                weight=node.input[1],
                output=node.output[0],
                macs=_macs(node, tuple(weight), output),
                decides=id(node) in deciding,
                takes=tuple(_takes(node, readers, constants)),
            )
        )
    return tuple(found)


def _takes(node: NodeProto, readers: Mapping[str, Sequence[NodeProto]], constants: Collection[str]) -> Iterator[str]:
    """Sums and products with constants that alone read a layer, one after the other: their names and their results'."""
    while len(found := readers.get(node.output[0], [])) == 1:
        node = found[0]
        if node.op_type not in AFFINE or not any(i in constants for i in node.input):
            return
        yield from (node.name, node.output[0])


def _module_of_weight(name: str) -> str:
    return name.rpartition(".")[0]


def _macs(node: NodeProto, weight: tuple[int, ...], output: tuple[int, ...]) -> int:
    cells = int(np.prod(output)) if output else 0
    if node.op_type == "Conv":
        return cells * int(np.prod(weight[1:]))
    if node.op_type == "ConvTranspose":
        return cells * int(np.prod((weight[0], *weight[2:])))
    inner = weight[1] if node.op_type == "Gemm" and attribute(node, "transB") else weight[0]
    return cells * int(inner)


def weight_axis(node: NodeProto) -> int:
    """The axis of a layer's weights that its output channels lie along."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    return 0 if node.op_type == "Gemm" and attribute(node, "transB") else -1


def weights_of(model: ModelProto, layer: Layer) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The layer's weights as float32."""
    return np.asarray(initializers(model)[layer.weight], np.float32)
