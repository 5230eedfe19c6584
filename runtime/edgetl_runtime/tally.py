"""What a whole run found, counted head by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.result import Detections, Mask
from edgetl_runtime.spec import task_of

if TYPE_CHECKING:
    from edgetl_runtime.result import Result
    from edgetl_runtime.spec import Head


class Tally:
    """Adds up results; memory does not grow with their number."""

    def __init__(self, heads: tuple[Head, ...]) -> None:
        self.heads = heads
        self.frames = 0
        self._sums = {h.name: np.zeros(len(h.labels)) for h in heads}

    def add(self, result: Result) -> None:
        """Count one result."""
        self.frames += 1
        for head in self.heads:
            output, sums = result.outputs[head.name], self._sums[head.name]
            if isinstance(output, Detections):
                sums += np.bincount(output.classes, minlength=len(sums))
            elif isinstance(output, Mask):
                sums += output.shares(len(sums))
            elif output.label >= 0:
                sums[output.label] += 1

    def as_json(self) -> dict[str, dict[str, object]]:
        """By head: its task, and by label the boxes, the frames of a category, or the mean share of a mask's area."""
        document: dict[str, dict[str, object]] = {}
        for head in self.heads:
            task, sums = task_of(head), self._sums[head.name]
            if task == "segment":
                key, values = "mean_share", (sums / max(self.frames, 1)).round(4).tolist()
            else:
                key, values = "boxes" if task == "detect" else "frames", sums.astype(int).tolist()
            document[head.name] = {"task": task, key: dict(zip(head.labels, values, strict=True))}
        return document
