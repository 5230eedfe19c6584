"""Rounds to rows: medians, ratios round by round, the design's limits beside them; for people and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stream.contest import BASELINE, CHOSEN, SAME

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""By contestant, the figures of each round; the rounds of all stand in the same order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the design's limits. found: None where there is nothing to judge by."""

    what: str
    limit: float
    found: float | None
    unit: str

    @property
    def says(self) -> str:
        """met, missed or not known."""
        if self.found is None:
            return "not known"
        return "met" if self.found <= self.limit else "missed"


@dataclass(slots=True)
class Table:
    """One mode's rows. names: title by contestant. skipped: those without a row, and why."""

    title: str
    names: dict[str, str]
    rounds: dict[str, list[dict[str, float]]]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


FILE_COLUMNS = {
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "outside engine ms": "outside_ms",
    "engine ms": "engine_ms",
    "all but engine ms": "rest_ms",
    "CPU ms": "cpu_ms",
    "peak MB": "peak_mb",
    "boxes": "boxes",
}
LIVE_COLUMNS = {
    "age p50 ms": "age_p50_ms",
    "age p99 ms": "age_p99_ms",
    "first half": "age_first_ms",
    "second half": "age_second_ms",
    "engine ms": "engine_ms",
    "results": "results",
    "camera lost": "camera_lost",
    "CPU ms": "cpu_ms",
    "peak MB": "peak_mb",
}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds."""
    names = rounds[0] if rounds else {}
    return {name: statistics.median(r[name] for r in rounds) for name in names}


def ratio(rounds: Rounds, one: str, other: str, figure: str) -> float | None:
    """The median over the rounds of one's figure over the other's in the same round; None without both."""
    pairs = list(zip(rounds.get(one, ()), rounds.get(other, ()), strict=False))
    return statistics.median(a[figure] / b[figure] for a, b in pairs if b[figure]) if pairs else None


def file_verdicts(rounds: Rounds) -> list[Verdict]:
    """The design's limits on every frame of a file."""

    def figure(name: str, key: str) -> float | None:
        return medians(rounds[name])[key] if rounds.get(name) else None

    against = "Ultralytics on ONNX Runtime"
    return [
        Verdict("edgetl, letterbox + decode, p50", 0.9, figure(SAME, "outside_ms"), "ms"),
        Verdict("the same of its choice, p50", 0.9, figure(CHOSEN, "outside_ms"), "ms"),
        Verdict(f"letterbox + decode / pre + post of {against}", 0.2, ratio(rounds, SAME, BASELINE, "outside_ms"), "x"),
        Verdict(f"its choice / {against}, p50", 0.45, ratio(rounds, CHOSEN, BASELINE, "p50_ms"), "x"),
        Verdict(f"its choice / {against}, p99", 0.5, ratio(rounds, CHOSEN, BASELINE, "p99_ms"), "x"),
        Verdict(f"same engine and precision / {against}, p50", 0.9, ratio(rounds, SAME, BASELINE, "p50_ms"), "x"),
        Verdict("edgetl on ONNX Runtime, peak memory", 300.0, figure(SAME, "peak_mb"), "MB"),
        Verdict("its choice, peak memory", 300.0, figure(CHOSEN, "peak_mb"), "MB"),
    ]


def live_verdicts(rounds: Rounds, interval_ms: float) -> list[Verdict]:
    """Age at the 99th percentile less one frame interval and one processing time (its own 99th), of edgetl's rows."""
    found = []
    for name, title in ((SAME, "edgetl on ONNX Runtime"), (CHOSEN, "its choice")):
        if rounds.get(name):
            row = medians(rounds[name])
            limit = row["work_p99_ms"] + interval_ms
            found.append(Verdict(f"{title}, age p99, from the camera's shutter", limit, row["age_p99_ms"], "ms"))
            found.append(Verdict(f"{title}, age p99, from the frame's arrival", limit, row["own_age_p99_ms"], "ms"))
            grown = row["age_second_ms"] - row["age_first_ms"]
            found.append(Verdict(f"{title}, growth of the age", 0.1 * row["age_p50_ms"], grown, "ms"))
    return found


def markdown(table: Table, columns: Mapping[str, str]) -> str:
    """The table, what is not in it, notes, and the limits."""
    head = ["", *columns, "ratio"]
    figure = next(iter(columns.values()))
    lines = [f"### {table.title}", "", "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name, rounds in table.rounds.items():
        row = medians(rounds)
        against = ratio(table.rounds, name, BASELINE, figure)
        cells = [f"{row[key]:.{_digits(row[key])}f}" if key in row else "-" for key in columns.values()]
        lines.append("| " + " | ".join([table.names[name], *cells, f"{against:.2f}" if against else "-"]) + " |")
    lines += [f"| {table.names[name]} | not measured: {why} |" for name, why in table.skipped.items()]
    lines += ["", *(f"- {note}" for note in table.notes)] if table.notes else []
    lines += ["", *(verdict_line(verdict) for verdict in table.verdicts)] if table.verdicts else []
    return "\n".join(lines) + "\n"


def document(table: Table) -> dict[str, Any]:
    """The same for programs."""
    return {
        "rows": [
            {"name": name, "title": table.names[name], **medians(rounds), "rounds": rounds}
            for name, rounds in table.rounds.items()
        ],
        "skipped": [{"name": n, "title": table.names[n], "why": why} for n, why in table.skipped.items()],
        "notes": table.notes,
        "limits": [{**asdict(v), "says": v.says} for v in table.verdicts],
    }


def _digits(value: float) -> int:
    return 2 if abs(value) < 20 else 1 if abs(value) < 100 else 0


def verdict_line(verdict: Verdict) -> str:
    """For people."""
    found = "-" if verdict.found is None else f"{verdict.found:.2f}"
    return f"- {verdict.says.upper():<9} {verdict.what}: {found} {verdict.unit}, limit {verdict.limit:.2f}"
