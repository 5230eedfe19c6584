"""The layout of YOLOv8 and YOLO11: decoded boxes and class scores, one column for each cell, no objectness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import Candidates, Picked, SuppressedDecoder, corners, corners_of, top_cells
from edgetl_export.foreign.decoders.decoder import Activation, Output, Size, misfit, sigmoid
from edgetl_export.foreign.nodes import Nodes


class Yolo(SuppressedDecoder, frozen=True, kw_only=True, tag_field="decoder", tag="yolo"):
    """(1, 4 + C, N), or (1, N, 4 + C): centre x, y, width, height in pixels of the input, then C class scores.

    activation: of the scores; the usual exporters write probabilities.
    """

    output: str = ""
    activation: Activation = "probabilities"

    def reads(self) -> tuple[str, ...]:
        return (self.output,)

    def _axis(self, shape: tuple[int, ...]) -> int:
        """The axis of the 4 + C values, 0 where there is none."""
        wanted = 4 + len(self.names)
        return next((a for a in (1, 2) if len(shape) == 3 and shape[0] == 1 and shape[a] == wanted), 0)

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        if not self._axis(outputs[0].shape):
            c = len(self.names)
            raise misfit("yolo", outputs, f"(1, {4 + c}, N) or (1, N, {4 + c}) for {c} labels")

    def total(self, outputs: Sequence[Output]) -> int:
        return outputs[0].shape[3 - self._axis(outputs[0].shape)]

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        axis = self._axis(outputs[0].shape)
        scores = g.part_of(outputs[0].name, axis, 4, 4 + len(self.names))
        values, places = top_cells(g, g.add("ReduceMax", scores, g.indices(axis), keepdims=0), count)
        if self.activation == "logits":
            values = g.add("Sigmoid", values)
        rows = g.add("Gather", outputs[0].name, places, axis=3 - axis)
        if axis == 1:
            rows = g.add("Transpose", rows, perm=[0, 2, 1])
        rows = g.reshape(rows, count, 4 + len(self.names))
        classes = g.add("ArgMax", g.part_of(rows, 1, 4, 4 + len(self.names)), axis=1, keepdims=0)
        x, y, width, height = g.columns(g.part_of(rows, 1, 0, 4), 4)
        return Picked(corners(g, (x, y), (width, height)), values, classes)

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        rows = arrays[0][0] if self._axis(arrays[0].shape) == 2 else arrays[0][0].T
        scores = rows[:, 4:] if self.activation == "probabilities" else sigmoid(rows[:, 4:])
        return Candidates(corners_of(rows[:, :4]), scores.max(1), scores.argmax(1))
