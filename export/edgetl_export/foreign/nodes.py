"""Writing ONNX nodes one after the other: names are made, constants are kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Attribute = int | float | str | Sequence[int]


class Nodes:
    """Nodes and constants of one part of a graph; everything that it makes is called `part/...`."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """A constant tensor."""
        name = f"{self.part}/constant_{len(self.constants)}"
        array: NDArray[np.generic] = np.array(value, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def indices(self, *values: int) -> str:
        """A constant (N,) int64: axes, a shape, positions."""
        return self.constant(values, np.int64)

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Attribute) -> str:
        """One node of one output, which is called `name`, or after the operator; returns the output's name."""
        return self.several(op, *inputs, outputs=(name,), **attributes)[0]

    def several(self, op: str, *inputs: str, outputs: Sequence[str], **attributes: Attribute) -> tuple[str, ...]:
        """One node of several outputs; an empty name is made up."""
        node = f"{self.part}/{op}_{len(self.nodes)}"
        names = [o or (f"{node}_{i}" if len(outputs) > 1 else node) for i, o in enumerate(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=node, **attributes))
        return tuple(names)

    def reshape(self, tensor: str, *shape: int) -> str:
        """The same values in another shape."""
        return self.add("Reshape", tensor, self.indices(*shape))

    def part_of(self, tensor: str, axis: int, start: int, stop: int) -> str:
        """Positions start to stop - 1 along an axis."""
        return self.add("Slice", tensor, self.indices(start), self.indices(stop), self.indices(axis))

    def columns(self, tensor: str, count: int) -> tuple[str, ...]:
        """(N, count) to `count` tensors (N, 1)."""
        return self.several("Split", tensor, outputs=("",) * count, axis=1, num_outputs=count)

    def cast(self, tensor: str, to: int, name: str = "") -> str:
        """The same values in another type, one of TensorProto's."""
        return self.add("Cast", tensor, name=name, to=to)
