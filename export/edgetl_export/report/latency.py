"""Latency of every pair, alone and against the metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgetl_export.report.blocks import (
    Badge,
    Bar,
    BarChart,
    Block,
    Cell,
    Lines,
    Num,
    Point,
    ScatterChart,
    Table,
)
from edgetl_export.report.lookup import chosen_key, hop_of, key_of, metric_name, passing_trials
from edgetl_export.report.page import Section
from edgetl_export.report.scatter import front
from edgetl_runtime.bench import BASELINE
from edgetl_runtime.spec import Latency, Manifest

OVER = "over budget"


def latency_section(manifest: Manifest, left_out: Sequence[str]) -> Section:
    """Pareto chart, bars with p99, and all figures; what a search only tried on its way is folded away."""
    tried = passing_trials(manifest)
    ordered = sorted(manifest.latencies, key=lambda row: row.p50_ms)
    main = [row for row in ordered if key_of(row) not in tried]
    others = [row for row in ordered if key_of(row) in tried]
    bars = [_bar(manifest, row) for row in main]
    chart = BarChart(
        title="Time of one frame",
        unit="ms",
        bars=bars,
        caption="bar p50, whisker p99",
        value_name="p50",
        whisker_name="p99",
        numbers=False,
    )
    blocks: list[Block] = [*_pareto(manifest, ordered, tried), chart]
    blocks.append(_table(manifest, main, caption=f"Speed is against {BASELINE}."))
    if others:
        blocks.append(_table(manifest, others, fold=f"{len(others)} more pairs that the search tried"))
    if left_out:
        blocks.append(Table(columns=["not measured here", "why"], rows=[_reason(text) for text in left_out]))
    lead = f"Measured in turns on {manifest.provenance.machine}, the chosen pair in colour."
    return Section("Latency", blocks, lead)


def _pareto(manifest: Manifest, rows: Sequence[Latency], tried: frozenset[str]) -> list[ScatterChart]:
    """Time against metric, if any pair has both."""
    pairs = [(row, hop) for row in rows if (hop := hop_of(manifest, key_of(row))) and math.isfinite(hop.value)]
    if not pairs:
        return []
    points = [
        Point(
            label=key_of(row),
            x=row.p50_ms,
            y=100 * hop.value,
            highlight=hop.hop == chosen_key(manifest),
            named=hop.hop not in tried,
            refused=not hop.passed,
        )
        for row, hop in pairs
    ]
    best = {points[i].label for i in front(points)}
    reference = manifest.hops[0]
    floor, label = None, ""
    if manifest.budget is not None:
        floor = 100 * (reference.value - manifest.budget.head)
        label = f"{reference.hop} less {100 * manifest.budget.head:g} points"
    over = [p.label for p in points if p.refused]
    caption = f"Line: none is both faster and better ({', '.join(p.label for p in points if p.label in best)})."
    alone = len(manifest.heads) == 1 and not (manifest.budget and manifest.budget.classes)
    caption += f" Hollow: over the budget{'' if alone else ' of a head or a class'}." if over else ""
    caption += " Small dots without a name: what the search tried, in the table below." if tried else ""
    return [
        ScatterChart(
            title="Metric against time",
            x_label="p50 of one frame, ms",
            y_label=metric_name(reference),
            points=points,
            caption=caption,
            floor=floor,
            floor_label=label,
            refused_label=OVER,
        )
    ]


def _bar(manifest: Manifest, row: Latency) -> Bar:
    hop = hop_of(manifest, key_of(row))
    return Bar(
        label=key_of(row),
        value=row.p50_ms,
        whisker=row.p99_ms,
        note="" if hop is None or hop.passed else OVER,
        highlight=key_of(row) == chosen_key(manifest),
    )


def _table(manifest: Manifest, rows: Sequence[Latency], *, caption: str = "", fold: str = "") -> Table:
    baseline = next((row for row in manifest.latencies if key_of(row) == BASELINE), None)
    metric = manifest.hops[0].metric if manifest.hops else "metric"
    cells: list[list[Cell]] = []
    for row in rows:
        hop = hop_of(manifest, key_of(row))
        times = [Num(f"{v:.2f}") for v in (row.p50_ms, row.p95_ms, row.p99_ms)]
        speed = Num(f"{baseline.p50_ms / row.p50_ms:.2f}×") if baseline and row.p50_ms > 0 else None
        points = Num(f"{100 * hop.value:.2f}") if hop else None
        verdict = None if hop is None else Badge("within", "good") if hop.passed else Badge(OVER, "warn")
        cells.append([key_of(row), *times, speed, points, verdict, row.runs])
    return Table(
        columns=["engine / variant", "p50 ms", "p95 ms", "p99 ms", "speed", metric, "budget", "runs"],
        rows=cells,
        highlight=frozenset(i for i, row in enumerate(rows) if key_of(row) == chosen_key(manifest)),
        caption=caption,
        fold=fold,
    )


def _reason(text: str) -> list[Cell]:
    """`name: why` in two cells."""
    name, _, why = text.partition(": ")
    return [name, Lines(why.split("; "))] if why else [text, None]
