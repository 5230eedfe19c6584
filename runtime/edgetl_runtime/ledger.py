"""The latency ledger: percentiles of every stage, always on, in a fixed amount of memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGES = ("wait", "letterbox", "infer", "decode", "publish", "annotate", "total", "age")
"""wait: for a frame; total: from having it to having delivered it everywhere; age: capture to publish."""

_LOWEST_MS = 1e-3
_GROWTH = 1.02  # a bucket's geometric middle is within 1 % of everything in it
_BUCKETS = 1100  # up to 48 minutes
_SCALE = 1.0 / math.log(_GROWTH)


class Histogram:
    """Counts of durations in logarithmic buckets: percentiles within 1 % from 1 us on, exact maximum.

    Memory is one int64 array, whatever the number of samples.
    """

    def __init__(self) -> None:
        self.count = 0
        self.max_ms = 0.0
        self._counts = np.zeros(_BUCKETS, np.int64)

    def add(self, ms: float) -> None:
        """Count one duration; below zero counts as zero."""
        index = int(math.log(ms / _LOWEST_MS) * _SCALE) if ms > _LOWEST_MS else 0
        self._counts[min(index, _BUCKETS - 1)] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, ms)

    def percentile(self, q: float) -> float:
        """The smallest duration that at least q percent do not exceed, in ms; 0 where nothing was counted."""
        if not self.count:
            return 0.0
        rank = max(math.ceil(self.count * q / 100), 1)
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle = _LOWEST_MS * math.exp((index + 0.5) / _SCALE)
        return min(middle, self.max_ms)

    def snapshot(self) -> dict[str, float]:
        """p50_ms, p95_ms, p99_ms and max_ms, rounded to a microsecond, and count."""
        values = {f"p{q}_ms": self.percentile(q) for q in (50, 95, 99)} | {"max_ms": self.max_ms}
        return {name: round(value, 3) for name, value in values.items()} | {"count": self.count}


class Ledger:
    """One histogram for each stage."""

    def __init__(self, stages: tuple[str, ...] = STAGES) -> None:
        self.histograms = {stage: Histogram() for stage in stages}

    def add(self, stage: str, ms: float) -> None:
        """Count one duration of a stage."""
        self.histograms[stage].add(ms)

    def add_all(self, stages_ms: Mapping[str, float]) -> None:
        """Count one duration for each stage named."""
        for stage, ms in stages_ms.items():
            self.histograms[stage].add(ms)

    def snapshot(self) -> dict[str, dict[str, float]]:
        """Stage name to p50_ms, p95_ms, p99_ms, max_ms, count; stages that never ran are left out."""
        return {stage: h.snapshot() for stage, h in self.histograms.items() if h.count}

    def table(self) -> str:
        """The same for people; see `table`."""
        return table(self.snapshot())


def table(stages: Mapping[str, Mapping[str, float]]) -> str:
    """A ledger's snapshot as text: one line for each stage, in milliseconds."""
    lines = [f"{'stage':<10} {'frames':>8} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'max ms':>9}"]
    for stage, row in stages.items():
        figures = " ".join(f"{row[name]:9.2f}" for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        lines.append(f"{stage:<10} {int(row['count']):>8} {figures}")
    return "\n".join(lines)
