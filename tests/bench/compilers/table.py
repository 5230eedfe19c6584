"""The comparison as rows: markdown for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file on one engine. scores: by name, in 0..1. seconds, rss_mb: of the tool; None where there was none.

    tensorrt: what TensorRT's parser and builder said of the file. precision: what the engine ran it in.
    """

    tool: str
    engine: str
    precision: str
    p50_ms: float
    p95_ms: float
    scores: dict[str, float]
    seconds: float | None = None
    cpu_s: float | None = None
    rss_mb: float | None = None
    tensorrt: str = ""
    notes: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A tool, or a file on an engine, that gave no row, and why."""

    tool: str
    why: str


def markdown(rows: Sequence[Row], skipped: Sequence[Skipped]) -> str:
    """The table, its notes, and what is not in it; the first row is what the others are compared with."""
    names = list(rows[0].scores) if rows else []
    head = ["tool", "runs on", "precision", "p50 ms", "p95 ms", "speed-up", *names, "tool s", "MB", "TensorRT"]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "---:|" * (len(head) - 4) + "---|"]
    lines += ["| " + " | ".join(_cells(row, rows[0], names)) + " |" for row in rows]
    notes: dict[str, dict[str, None]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note, {})[row.tool] = None
    lines += ["", *(f"- {'; '.join(tools)}: {note}" for note, tools in notes.items())] if notes else []
    lines += ["", *(f"- not in the table: {s.tool}: {s.why}" for s in skipped)] if skipped else []
    return "\n".join(lines) + "\n"


def document(rows: Sequence[Row], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """The same for programs, with speed-up and drop (in points) worked out."""
    baseline = next(iter(rows), None)
    return {
        "baseline": f"{baseline.tool} on {baseline.engine}" if baseline else None,
        "rows": [
            dataclasses.asdict(row)
            | {"speedup": round(baseline.p50_ms / row.p50_ms, 3)}
            | {"drop_points": {n: _finite(drop(row, baseline, n)) for n in row.scores}}
            | {"scores": {n: _finite(v) for n, v in row.scores.items()}}
            for row in rows
            if baseline
        ],
        "skipped": [dataclasses.asdict(s) for s in skipped],
    }


def drop(row: Row, baseline: Row, score: str) -> float:
    """Points lost against the baseline, negative where it gained."""
    return 100 * (baseline.scores[score] - row.scores.get(score, math.nan))


def _cells(row: Row, baseline: Row, names: Sequence[str]) -> list[str]:
    scores = []
    for name in names:
        value = row.scores.get(name, math.nan)
        change = "" if row is baseline else f" ({-drop(row, baseline, name):+.2f})"
        scores.append(f"{value:.4f}{change}" if math.isfinite(value) else "-")
    figures = [f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}", f"{baseline.p50_ms / row.p50_ms:.2f}"]
    cost = [f"{v:.0f}" if v is not None else "-" for v in (row.seconds, row.rss_mb)]
    return [row.tool, row.engine, row.precision, *figures, *scores, *cost, row.tensorrt or "-"]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
