"""How well numbers stay with objects: CLEAR MOT (Bernardin and Stiefelhagen, 2008) and IDF1 (Ristani et al., 2016)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.association import greedy_pairs, overlaps

LEAST_OVERLAP = 0.5
"""From here on a box is of an object."""


_Name = tuple[int, int]
"""A clip, and an object or a number in it."""


@dataclass(frozen=True)
class Truth:
    """The objects of one frame. boxes (N, 4) x1, y1, x2, y2; ids (N,); ignore (N,): may be found and need not be."""

    time_s: float
    boxes: NDArray[np.float64]
    ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]


class TrackScore:
    """Adds up frames, each with the truth and the boxes that have a number; `next_clip` before each clip."""

    def __init__(self) -> None:
        self._clip = 0
        self._truths = self._found = self._misses = self._false = self.switches = 0
        self._object_s, self._last_s = 0.0, 0.0
        self._last: dict[int, int] = {}
        self._together: Counter[tuple[_Name, _Name]] = Counter()
        self._objects: Counter[_Name] = Counter()
        self._tracks: Counter[_Name] = Counter()

    def next_clip(self) -> None:
        """Objects and numbers of what follows are others."""
        self._clip += 1
        self._last, self._last_s = {}, 0.0

    def add(self, truth: Truth, boxes: NDArray[np.float64], ids: NDArray[np.int64]) -> None:
        """One frame. boxes (M, 4) and their ids (M,)."""
        worth = overlaps(truth.boxes, boxes)
        worth[worth < LEAST_OVERLAP] = 0
        was = np.array([self._last.get(int(i), -1) for i in truth.ids], np.int64)
        worth[(was[:, None] == ids[None]) & (worth > 0)] += 1  # a pair that goes on is kept
        places = np.nonzero(worth)
        rows, columns = greedy_pairs(*places, worth[places])
        let_be = {c for r, c in zip(rows, columns, strict=True) if truth.ignore[r]}
        asked = int((~truth.ignore).sum())
        kept = [c for c in range(len(ids)) if c not in let_be]
        pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if not truth.ignore[r]]
        self._truths += asked
        self._found += len(kept)
        self._misses += asked - len(pairs)
        self._false += len(kept) - len(pairs)
        self._object_s += asked * (truth.time_s - self._last_s)
        self._last_s = truth.time_s
        for row, column in pairs:
            name, number = int(truth.ids[row]), int(ids[column])
            self.switches += self._last.get(name, number) != number
            self._last[name] = number
        clip = self._clip
        self._objects.update((clip, name) for name in truth.ids[~truth.ignore].tolist())
        self._tracks.update((clip, number) for number in ids[kept].tolist())
        self._together.update(((clip, int(truth.ids[r])), (clip, int(ids[c]))) for r, c in pairs)

    def figures(self) -> dict[str, float]:
        """switches_per_object_minute, idf1, mota (0 to 1), and counts."""
        objects = {name: i for i, name in enumerate(self._objects)}
        tracks = {number: i for i, number in enumerate(self._tracks)}
        shared = np.zeros((len(objects), len(tracks)))
        for (name, number), count in self._together.items():
            if number in tracks:
                shared[objects[name], tracks[number]] = count
        right = sum(shared[r, c] for r, c in best_assignment(shared))
        return {
            "switches": self.switches,
            "switches_per_object_minute": round(60 * self.switches / max(self._object_s, 1e-9), 3),
            "idf1": round(float(2 * right / max(self._truths + self._found, 1)), 4),
            "mota": round(1 - (self._misses + self._false + self.switches) / max(self._truths, 1), 4),
            "objects": len(objects),
            "tracks": len(tracks),
            "object_minutes": round(self._object_s / 60, 2),
        }


def best_assignment(worth: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of rows and columns, each used once, whose worth adds up to the most: Kuhn and Munkres with potentials."""
    size = max(worth.shape)
    cost = np.zeros((size, size))
    cost[: worth.shape[0], : worth.shape[1]] = -worth
    of_row, of_column = np.zeros(size), np.zeros(size + 1)
    row_at = np.full(size + 1, -1)  # the last column is where a search begins
    for start in range(size):
        row_at[size] = start
        column, least = size, np.full(size, np.inf)
        came, done = np.full(size, size), np.zeros(size + 1, bool)
        while row_at[column] >= 0:
            done[column] = True
            row = row_at[column]
            reduced = cost[row] - of_row[row] - of_column[:size]
            better = ~done[:size] & (reduced < least)
            least[better], came[better] = reduced[better], column
            following = int(np.where(done[:size], np.inf, least).argmin())
            step = least[following]
            of_row[row_at[done]] += step
            of_column[done] -= step
            least[~done[:size]] -= step
            column = following
        while column != size:
            row_at[column] = row_at[came[column]]
            column = int(came[column])
    pairs = [(int(row_at[c]), c) for c in range(worth.shape[1])]
    return [(r, c) for r, c in pairs if r < worth.shape[0]]
