"""FastestDet's one map: objectness, a box and class probabilities for every cell of 16 x 16 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import Candidates, Picked, SuppressedDecoder, corners, corners_of, top_cells
from edgetl_export.foreign.decoders.decoder import Output, Size, misfit, sigmoid
from edgetl_export.foreign.nodes import Nodes

OBJECT_POWER, CLASS_POWER = 0.6, 0.4
"""A score is objectness to the one power times the class's probability to the other."""


class FastestDet(SuppressedDecoder, frozen=True, kw_only=True, tag_field="decoder", tag="fastestdet"):
    """(1, 5 + C, h, w): objectness (a probability), x, y, width, height, C class probabilities.

    x and y: their tanh is the centre's offset from the cell's corner, in cells. width, height: their sigmoid is the
    share of the input's width and height.
    """

    output: str = ""

    def reads(self) -> tuple[str, ...]:
        return (self.output,)

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        shape, c = outputs[0].shape, len(self.names)
        if len(shape) != 4 or shape[:2] != (1, 5 + c):
            raise misfit("fastestdet", outputs, f"(1, {5 + c}, h, w) for {c} labels")

    def total(self, outputs: Sequence[Output]) -> int:
        return outputs[0].shape[2] * outputs[0].shape[3]

    def stride(self, outputs: Sequence[Output], size_hw: Size) -> int:
        return max(size_hw[1] // outputs[0].shape[3], 1)

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        c, (high, wide) = len(self.names), outputs[0].shape[2:]
        cells = g.reshape(outputs[0].name, 5 + c, high * wide)
        sure = g.add("Pow", g.part_of(cells, 0, 0, 1), g.constant(OBJECT_POWER))
        best = g.add("ReduceMax", g.part_of(cells, 0, 5, 5 + c), g.indices(0), keepdims=1)
        score = g.add("Mul", sure, g.add("Pow", best, g.constant(CLASS_POWER)))
        values, places = top_cells(g, score, count)
        rows = g.add("Transpose", g.add("Gather", cells, places, axis=1), perm=[1, 0])
        classes = g.add("ArgMax", g.part_of(rows, 1, 5, 5 + c), axis=1, keepdims=0)
        grid = np.stack(np.meshgrid(np.arange(wide), np.arange(high)), axis=-1).reshape(-1, 2)
        cell = g.constant([size_hw[1] / wide, size_hw[0] / high])
        offset = g.add("Tanh", g.part_of(rows, 1, 1, 3))
        centre = g.add("Mul", g.add("Add", offset, g.add("Gather", g.constant(grid), places)), cell)
        size = g.add("Mul", g.add("Sigmoid", g.part_of(rows, 1, 3, 5)), g.constant([size_hw[1], size_hw[0]]))
        x, y = g.columns(centre, 2)
        w, h = g.columns(size, 2)
        return Picked(corners(g, (x, y), (w, h)), values, classes)

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        field = arrays[0][0]
        _, high, wide = field.shape
        boxes = np.zeros((high, wide, 4), np.float32)
        for row in range(high):
            for column in range(wide):
                _, x, y, w, h = field[:5, row, column]
                boxes[row, column, 0] = (np.tanh(x) + column) / wide * size_hw[1]
                boxes[row, column, 1] = (np.tanh(y) + row) / high * size_hw[0]
                boxes[row, column, 2:] = sigmoid(np.array([w, h])) * (size_hw[1], size_hw[0])
        scores = field[0] ** OBJECT_POWER * field[5:].max(0) ** CLASS_POWER
        return Candidates(corners_of(boxes.reshape(-1, 4)), scores.ravel(), field[5:].argmax(0).ravel())
