"""DETR (arXiv:2005.12872) and its family: queries with boxes and class scores, each object found once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import BoxDecoder, Candidates, Picked, corners, corners_of, top_cells
from edgetl_export.foreign.decoders.decoder import Output, Size, misfit, sigmoid, softmax
from edgetl_export.foreign.decoders.pairs import all_pairs, top_pairs
from edgetl_export.foreign.nodes import Nodes


class Detr(BoxDecoder, frozen=True, kw_only=True, tag_field="decoder", tag="detr"):
    """logits (1, Q, C), boxes (1, Q, 4): centre x, y, width, height as shares of the input.

    activation: `sigmoid` scores every class of every query (Deformable DETR, RT-DETR, D-FINE); `softmax` expects
    (1, Q, C + 1) with "no object" last, and gives each query its best class (DETR); `probabilities` is `sigmoid` that
    the network has applied itself.
    """

    logits: str
    boxes: str
    activation: Literal["sigmoid", "softmax", "probabilities"] = "sigmoid"

    def reads(self) -> tuple[str, ...]:
        return (self.logits, self.boxes)

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        logits, boxes = outputs[0].shape, outputs[1].shape
        columns = len(self.names) + (self.activation == "softmax")
        queries = logits[1] if len(logits) == 3 else 0
        if logits != (1, queries, columns) or boxes != (1, queries, 4):
            nothing = " and `no object`" if self.activation == "softmax" else ""
            many = f"{len(self.names)} labels{nothing}"
            raise misfit("detr", outputs, f"logits (1, Q, {columns}) and boxes (1, Q, 4) for {many}")

    def total(self, outputs: Sequence[Output]) -> int:
        queries = outputs[0].shape[1]
        return queries if self.activation == "softmax" else queries * len(self.names)

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        queries, classes = outputs[0].shape[1], len(self.names)
        if self.activation == "softmax":
            sure = g.part_of(g.add("Softmax", outputs[0].name, axis=2), 2, 0, classes)
            values, places = top_cells(g, g.add("ReduceMax", sure, g.indices(2), keepdims=0), count)
            picked = g.reshape(g.add("Gather", sure, places, axis=1), count, classes)
            label = g.add("ArgMax", picked, axis=1, keepdims=0)
        else:
            values, places, label = top_pairs(g, outputs[0].name, queries, classes, count)
            if self.activation == "sigmoid":
                values = g.add("Sigmoid", values)
        rows = g.reshape(g.add("Gather", outputs[1].name, places, axis=1), count, 4)
        x, y, w, h = g.columns(rows, 4)
        whole = g.constant([size_hw[1], size_hw[0]] * 2)
        return Picked(g.add("Mul", corners(g, (x, y), (w, h)), whole), values, label)

    def unsteady(self) -> tuple[int, ...]:
        """Both: RT-DETR, D-FINE and Deformable DETR pick their queries by a TopK; those of DETR have their places."""
        return () if self.activation == "softmax" else (0, 1)

    def steady_nodes(self, g: Nodes, outputs: Sequence[Output], names: Mapping[int, str]) -> None:
        """Each column in falling order, weighted by the query's best score.

        Rounding swaps queries of nearly equal scores in that TopK, which sorting undoes, and sometimes swaps the last
        of them, of next to no score, for another.
        """
        if not names:
            return
        weight = g.add("ReduceMax", outputs[0].name, g.indices(2), keepdims=1)
        if self.activation == "sigmoid":
            weight = g.add("Sigmoid", weight)
        count = g.indices(outputs[0].shape[1])
        for place, name in names.items():
            g.several("TopK", g.add("Mul", outputs[place].name, weight), count, outputs=(name, ""), axis=1)

    def steady(self, arrays: Sequence[NDArray[np.float32]]) -> Mapping[int, NDArray[np.float32]]:
        weight = arrays[0].max(2, keepdims=True)
        if self.activation == "sigmoid":
            weight = sigmoid(weight)
        return {place: np.sort(arrays[place] * weight, 1)[:, ::-1] for place in self.unsteady()}

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        logits, (height, width) = arrays[0][0], size_hw
        boxes = corners_of(arrays[1][0]) * np.array([width, height, width, height], np.float32)
        if self.activation == "softmax":
            scores = softmax(logits, 1)[:, :-1]
            return Candidates(boxes, scores.max(1), scores.argmax(1))
        return all_pairs(boxes, sigmoid(logits) if self.activation == "sigmoid" else logits)
