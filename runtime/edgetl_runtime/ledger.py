"""The latency ledger: percentiles of every stage, of the whole run and of its last seconds, in a fixed memory."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

STAGES = ("wait", "letterbox", "infer", "decode", "track", "place", "publish", "annotate", "total", "age")
"""wait: for a frame; total: from having it to having delivered it everywhere; age: capture to publish."""

LONGEST_WINDOW_S = 60

_LOWEST_MS = 1e-3
_GROWTH = 1.02  # a bucket's geometric middle is within 1 % of everything in it
_BUCKETS = 1100  # up to 48 minutes
_SCALE = 1.0 / math.log(_GROWTH)
_PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}
# One slice for each second of the longest window, one for the second that runs, one that is being emptied, which
# therefore no reader looks at.
_SLICES = LONGEST_WINDOW_S + 2
_MERGED = 10  # buckets to a bar: 22 % wide
_NEVER = -1


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram to draw: bar i counts durations from first_ms * growth**i to the next. No bar where nothing was."""

    first_ms: float
    growth: float
    counts: tuple[int, ...]


class Histogram:
    """Counts of durations in logarithmic buckets: percentiles within 1 % from 1 us on, exact maximum and sum.

    Counts once for the whole run and once for the second that runs, so that a window is a sum of slices. Memory is
    allocated at the start and never grows, 0.3 MB. One thread adds, without a lock; any thread reads, and may miss
    what is being added at that moment. clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self.max_ms = 0.0
        self.sum_ms = 0.0
        self._clock = clock
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._slices = np.zeros((_SLICES, _BUCKETS), np.uint32)
        self._maxima = np.zeros(_SLICES)
        self._seconds = np.full(_SLICES, _NEVER, np.int64)  # which second each slice holds
        # An element of a memoryview takes a fifth of the time that an element of an array takes.
        self._whole = self._counts.data
        self._rows = [row.data for row in self._slices]
        self._second, self._slot = _NEVER, 0
        self._row = self._rows[0]
        self._slice_max_ms = 0.0

    def add(self, ms: float) -> None:
        """Count one duration; below zero counts as zero."""
        index = min(int(math.log(ms / _LOWEST_MS) * _SCALE), _BUCKETS - 1) if ms > _LOWEST_MS else 0
        second = int(self._clock())
        if second != self._second:
            self._turn(second)
        self._whole[index] += 1
        self._row[index] += 1
        self.count += 1
        self.sum_ms += max(ms, 0.0)
        if ms > self._slice_max_ms:
            self._slice_max_ms = self._maxima[self._slot] = ms
            self.max_ms = max(self.max_ms, ms)

    @property
    def counts(self) -> NDArray[np.int64]:
        """A copy of the whole run's buckets."""
        counts: NDArray[np.int64] = self._counts.copy()
        return counts

    def percentile(self, q: float) -> float:
        """The smallest duration that at least q percent do not exceed, in ms; 0 where nothing was counted."""
        return _percentiles(self._counts, self.max_ms, (q,))[0]

    def snapshot(self) -> dict[str, float]:
        """Of the whole run: p50_ms, p95_ms, p99_ms, p999_ms and max_ms, rounded to a microsecond, and count."""
        return _figures(self._counts.copy(), self.max_ms)

    def window(self, seconds: int) -> dict[str, float]:
        """The same of the last seconds and the part of one that runs; raises ValueError outside 1 to 60."""
        return _figures(*self._last(seconds))

    def bars(self, seconds: int) -> Bars:
        """The last seconds as bars; raises ValueError outside 1 to 60."""
        counts, _ = self._last(seconds)
        merged = counts.reshape(-1, _MERGED).sum(1)
        filled = np.flatnonzero(merged)
        first, end = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
        return Bars(_LOWEST_MS * _GROWTH ** (first * _MERGED), _GROWTH**_MERGED, tuple(merged[first:end].tolist()))

    def _turn(self, second: int) -> None:
        """Begin a new second in the slice that has been out of every window for longest.

        Its second is written last, so that a reader finds the slice empty or not at all.
        """
        slot = second % _SLICES
        self._seconds[slot] = _NEVER
        self._slices[slot] = 0
        self._maxima[slot] = self._slice_max_ms = 0.0
        self._seconds[slot] = second
        self._row, self._slot, self._second = self._rows[slot], slot, second

    def _last(self, seconds: int) -> tuple[NDArray[np.int64], float]:
        if not 1 <= seconds <= LONGEST_WINDOW_S:
            raise ValueError(f"a window must be from 1 to {LONGEST_WINDOW_S} seconds, found {seconds}")
        picked = np.flatnonzero(self._seconds >= int(self._clock()) - seconds)
        counts: NDArray[np.int64] = self._slices[picked].sum(0, dtype=np.int64)
        return counts, float(self._maxima[picked].max(initial=0.0))


def _percentiles(counts: NDArray[np.int64], max_ms: float, wanted: tuple[float, ...]) -> list[float]:
    reached = np.cumsum(counts)
    total = int(reached[-1])
    if not total:
        return [0.0] * len(wanted)
    ranks = [max(math.ceil(total * q / 100), 1) for q in wanted]
    places = np.searchsorted(reached, ranks).tolist()
    return [min(_LOWEST_MS * math.exp((place + 0.5) / _SCALE), max_ms) for place in places]


def _figures(counts: NDArray[np.int64], max_ms: float) -> dict[str, float]:
    values = _percentiles(counts, max_ms, tuple(_PERCENTILES.values()))
    named = dict(zip(_PERCENTILES, values, strict=True)) | {"max_ms": max_ms}
    return {name: round(value, 3) for name, value in named.items()} | {"count": int(counts.sum())}


class Ledger:
    """One histogram for each stage. One thread adds, any thread reads; see Histogram."""

    def __init__(self, stages: tuple[str, ...] = STAGES, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.histograms = {stage: Histogram(clock) for stage in stages}

    def add(self, stage: str, ms: float) -> None:
        """Count one duration of a stage."""
        self.histograms[stage].add(ms)

    def add_all(self, stages_ms: Mapping[str, float]) -> None:
        """Count one duration for each stage named."""
        for stage, ms in stages_ms.items():
            self.histograms[stage].add(ms)

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Stage name to p50_ms, p95_ms, p99_ms, p999_ms, max_ms, count of the whole run; stages that never ran are
        left out."""
        return {stage: h.snapshot() for stage, h in self.histograms.items() if h.count}

    def window(self, seconds: int) -> dict[str, dict[str, float]]:
        """The same of the last seconds, 60 at the most; stages that did not run in them are left out."""
        windows = {stage: h.window(seconds) for stage, h in self.histograms.items()}
        return {stage: row for stage, row in windows.items() if row["count"]}

    def table(self) -> str:
        """The whole run for people; see `table`."""
        return table(self.snapshot())


def merged(ledgers: Iterable[Ledger]) -> dict[str, dict[str, float]]:
    """`Ledger.snapshot` of several ledgers together, as if one had counted everything."""
    stages: dict[str, list[Histogram]] = {}
    for ledger in ledgers:
        for stage, histogram in ledger.histograms.items():
            if histogram.count:
                stages.setdefault(stage, []).append(histogram)
    return {stage: merged_histograms(histograms) for stage, histograms in stages.items()}


def merged_histograms(histograms: Sequence[Histogram]) -> dict[str, float]:
    """`Histogram.snapshot` of several together."""
    counts = np.zeros(_BUCKETS, np.int64)
    for histogram in histograms:
        counts += histogram.counts
    return _figures(counts, max((h.max_ms for h in histograms), default=0.0))


def table(stages: Mapping[str, Mapping[str, float]]) -> str:
    """A ledger's snapshot as text: one line for each stage, in milliseconds."""
    lines = [f"{'stage':<10} {'frames':>8} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'max ms':>9}"]
    for stage, row in stages.items():
        figures = " ".join(f"{row[name]:9.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        lines.append(f"{stage:<10} {int(row['count']):>8} {figures}")
    return "\n".join(lines)
