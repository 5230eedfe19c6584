"""The layout of YOLOX (arXiv:2107.08430), and of YOLOv5: boxes, objectness and class scores, one row for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import Candidates, Picked, SuppressedDecoder, corners, corners_of, top_cells
from edgetl_export.foreign.decoders.decoder import Activation, Output, Size, misfit, sigmoid
from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.spec import Positive


class Yolox(SuppressedDecoder, frozen=True, kw_only=True, tag_field="decoder", tag="yolox"):
    """(1, N, 5 + C): centre x, y, width, height, objectness, C class scores; a score is objectness times class.

    decoded: the boxes are in pixels of the input already; else x and y are offsets from their cell and width and
    height are logarithms, all in units of the cell's stride. activation: of objectness and class scores.
    """

    output: str = ""
    decoded: bool = False
    strides: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)] = (8, 16, 32)
    activation: Activation = "probabilities"

    def reads(self) -> tuple[str, ...]:
        return (self.output,)

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        shape, c = outputs[0].shape, len(self.names)
        if len(shape) != 3 or shape[0] != 1 or shape[2] != 5 + c:
            raise misfit("yolox", outputs, f"(1, N, {5 + c}) for {c} labels")
        cells = sum((size_hw[0] // s) * (size_hw[1] // s) for s in self.strides)
        if not self.decoded and shape[1] != cells:
            where = f"strides {', '.join(map(str, self.strides))} of {size_hw[0]}x{size_hw[1]} pixels"
            raise misfit("yolox", outputs, f"{cells} cells for {where}")

    def total(self, outputs: Sequence[Output]) -> int:
        return outputs[0].shape[1]

    def stride(self, outputs: Sequence[Output], size_hw: Size) -> int:
        return min(self.strides)

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        width = 5 + len(self.names)
        sure = g.part_of(outputs[0].name, 2, 4, width)
        if self.activation == "logits":
            sure = g.add("Sigmoid", sure)
        classes = g.add("ReduceMax", g.part_of(sure, 2, 1, width - 4), g.indices(2), keepdims=0)
        objects = g.reshape(g.part_of(sure, 2, 0, 1), 1, self.total(outputs))
        values, places = top_cells(g, g.add("Mul", objects, classes), count)
        rows = g.reshape(g.add("Gather", outputs[0].name, places, axis=1), count, width)
        label = g.add("ArgMax", g.part_of(rows, 1, 5, width), axis=1, keepdims=0)
        centre, size = g.part_of(rows, 1, 0, 2), g.part_of(rows, 1, 2, 4)
        if not self.decoded:
            cells, strides = _grid(size_hw, self.strides)
            step = g.add("Gather", g.constant(strides), places)
            centre = g.add("Mul", g.add("Add", centre, g.add("Gather", g.constant(cells), places)), step)
            size = g.add("Mul", g.add("Exp", size), step)
        x, y = g.columns(centre, 2)
        w, h = g.columns(size, 2)
        return Picked(corners(g, (x, y), (w, h)), values, label)

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        rows = arrays[0][0]
        sure = rows[:, 4:] if self.activation == "probabilities" else sigmoid(rows[:, 4:])
        scores = sure[:, :1] * sure[:, 1:]
        boxes = rows[:, :4].copy()
        if not self.decoded:
            first = 0
            for stride in self.strides:
                high, wide = size_hw[0] // stride, size_hw[1] // stride
                for cell in range(high * wide):
                    x, y, w, h = boxes[first + cell]
                    left, top = cell % wide, cell // wide
                    boxes[first + cell] = (
                        (x + left) * stride,
                        (y + top) * stride,
                        np.exp(w) * stride,
                        np.exp(h) * stride,
                    )
                first += high * wide
        return Candidates(corners_of(boxes), scores.max(1), scores.argmax(1))


def _grid(size_hw: Size, strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (N, 2) and stride (N, 1) of every cell, level by level, row by row."""
    cells, steps = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size_hw[0] // stride, : size_hw[1] // stride].reshape(2, -1)
        cells.append(np.stack([columns, rows], axis=1))
        steps.append(np.full((len(rows), 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)
