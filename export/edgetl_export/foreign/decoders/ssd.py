"""SSD (arXiv:1512.02325) and its kin: offsets from anchors, and scores for every class of every anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import Candidates, Picked, SuppressedDecoder, corners, corners_of
from edgetl_export.foreign.decoders.decoder import Activation, Output, Size, misfit, softmax
from edgetl_export.foreign.decoders.pairs import all_pairs, top_pairs
from edgetl_export.foreign.nodes import Nodes

Anchor = tuple[float, float, float, float]
Anchors = Annotated[tuple[Anchor, ...], msgspec.Meta(min_length=1)]


class Ssd(SuppressedDecoder, frozen=True, kw_only=True, tag_field="decoder", tag="ssd"):
    """boxes (1, N, 4) and scores (1, N, C), or (1, N, C + 1) with a background class.

    anchors: N rows of centre x, y, width, height as shares of the input, or a .npy file of them beside the spec; boxes
    are then offsets from these, divided by `variances`. Without anchors, boxes are x1, y1, x2, y2 as shares of the
    input. background: where its score stands. activation: logits go through a softmax.
    """

    boxes: str
    scores: str
    anchors: Anchors | str | None = None
    variances: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    background: Literal["first", "last", "none"] = "first"
    activation: Activation = "logits"

    def reads(self) -> tuple[str, ...]:
        return (self.boxes, self.scores)

    @property
    def _columns(self) -> int:
        return len(self.names) + (self.background != "none")

    @property
    def _first(self) -> int:
        return int(self.background == "first")

    def _priors(self) -> NDArray[np.float32] | None:
        if isinstance(self.anchors, str):
            raise TypeError(f"the anchors in {self.anchors} have not been read")
        return None if self.anchors is None else np.array(self.anchors, np.float32)

    def check(self, outputs: Sequence[Output], size_hw: Size) -> None:
        boxes, scores = outputs[0].shape, outputs[1].shape
        n = boxes[1] if len(boxes) == 3 else 0
        if boxes != (1, n, 4) or scores != (1, n, self._columns):
            many = f"{len(self.names)} labels" + (" and the background" if self.background != "none" else "")
            raise misfit("ssd", outputs, f"boxes (1, N, 4) and scores (1, N, {self._columns}) for {many}")
        priors = self._priors()
        if priors is not None and len(priors) != n:
            raise misfit("ssd", outputs, f"one box for each of {len(priors)} anchors")

    def total(self, outputs: Sequence[Output]) -> int:
        return outputs[0].shape[1] * len(self.names)

    def pick(self, g: Nodes, outputs: Sequence[Output], size_hw: Size, count: int) -> Picked:
        scores = outputs[1].name
        if self.activation == "logits":
            scores = g.add("Softmax", scores, axis=2)
        if self.background != "none":
            scores = g.part_of(scores, 2, self._first, self._first + len(self.names))
        n = outputs[0].shape[1]
        values, places, classes = top_pairs(g, scores, n, len(self.names), count)
        rows = g.reshape(g.add("Gather", outputs[0].name, places, axis=1), count, 4)
        whole = g.constant([size_hw[1], size_hw[0]] * 2)
        priors = self._priors()
        if priors is None:
            return Picked(g.add("Mul", rows, whole), values, classes)
        anchor = g.add("Gather", g.constant(priors), places)
        rows = g.add("Mul", rows, g.constant(self.variances))
        near, extent = g.part_of(anchor, 1, 0, 2), g.part_of(anchor, 1, 2, 4)
        centre = g.add("Add", g.add("Mul", g.part_of(rows, 1, 0, 2), extent), near)
        size = g.add("Mul", g.add("Exp", g.part_of(rows, 1, 2, 4)), extent)
        x, y = g.columns(centre, 2)
        w, h = g.columns(size, 2)
        return Picked(g.add("Mul", corners(g, (x, y), (w, h)), whole), values, classes)

    def candidates(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Candidates:
        boxes, scores = arrays[0][0], arrays[1][0]
        if self.activation == "logits":
            scores = softmax(scores, 1)
        scores = {"first": scores[:, 1:], "last": scores[:, :-1], "none": scores}[self.background]
        priors = self._priors()
        if priors is not None:
            offsets = boxes * np.array(self.variances, np.float32)
            centre = priors[:, :2] + offsets[:, :2] * priors[:, 2:]
            boxes = corners_of(np.concatenate([centre, priors[:, 2:] * np.exp(offsets[:, 2:])], axis=1))
        height, width = size_hw
        return all_pairs(boxes * np.array([width, height, width, height], np.float32), scores)
