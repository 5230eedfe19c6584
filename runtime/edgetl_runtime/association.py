"""Which box goes with which: the pairs that overlap, and of these the best ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TINY = 1e-9


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4), x1, y1, x2, y2; 0 where one has no area."""
    left, top, right, bottom = a.T[:, :, None]
    left_b, top_b, right_b, bottom_b = np.ascontiguousarray(b.T)
    both: NDArray[np.float64] = np.minimum(right, right_b)
    both -= np.maximum(left, left_b)
    np.maximum(both, 0, out=both)
    high = np.minimum(bottom, bottom_b)
    high -= np.maximum(top, top_b)
    np.maximum(high, 0, out=high)
    both *= high
    union = np.subtract((right - left) * (bottom - top), both, out=high)
    union += (right_b - left_b) * (bottom_b - top_b)
    np.maximum(union, _TINY, out=union)
    both /= union
    return both


def greedy_pairs(
    rows: NDArray[np.intp], columns: NDArray[np.intp], worth: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pairs that are taken, the one of most worth first; each is used once.

    rows, columns, worth: (P,) each, of the pairs that may be. Of equally good ones the earlier is taken.
    """
    order = np.argsort(-worth, kind="stable")
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    taken: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            taken.append((row, column))
    pairs = np.array(taken, np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
