"""Where every class of every box is a candidate of its own: the best pairs of box and class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.boxes import Candidates, top_cells
from edgetl_export.foreign.nodes import Nodes


def top_pairs(g: Nodes, scores: str, boxes: int, classes: int, count: int) -> tuple[str, str, str]:
    """Scores, box indices and class indices, each (K,), of the best pairs of scores (1, N, C)."""
    values, places = top_cells(g, g.reshape(scores, 1, boxes * classes), count)
    width = g.constant(classes, np.int64)
    row = g.add("Div", places, width)
    return values, row, g.add("Sub", places, g.add("Mul", row, width))


def all_pairs(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Candidates:
    """Boxes (N, 4) and scores (N, C) as N * C candidates."""
    count, classes = scores.shape
    rows, labels = np.divmod(np.arange(count * classes), classes)
    return Candidates(boxes[rows], scores.ravel(), labels)
