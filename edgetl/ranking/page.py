"""The ranking as one page: order, how sure it is, accuracy against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgetl.ranking.combine import PRIOR_WEIGHT
from edgetl.ranking.prior import SOURCE
from edgetl_export.report.blocks import (
    Badge,
    Cell,
    KeyFigure,
    KeyFigures,
    Note,
    Num,
    Point,
    ScatterChart,
    Table,
    Text,
    significant,
)
from edgetl_export.report.page import Report, Section

if TYPE_CHECKING:
    from edgetl.ranking.halving import Halving
    from edgetl.ranking.latency import Time
    from edgetl.ranking.rank import Ranked, Skipped


COLUMNS = (
    "network", "weights", "kNN", "95 %", "LogME", "H-score", "prior", "mean rank", "P(best)", "P(> next)", "ms",
    "licence",
)  # fmt: skip


def rank_page(
    ranked: Sequence[Ranked],
    skipped: Sequence[Skipped],
    times: Mapping[str, Time],
    halving: Halving | None,
    *,
    chosen: Ranked | None,
    budget_ms: float | None,
    title: str,
    subtitle: str,
    note: str,
) -> Report:
    """The whole page. times: by backbone. note: what couldn't be measured, shown above the table where not empty."""
    sections = [
        Section(
            "Order",
            [*_key(chosen, times), *([Note(note, "warn")] if note else []), _table(ranked, times, budget_ms, chosen)],
        )
    ]
    points = [_point(r, time.ms, chosen) for r in ranked if (time := times.get(r.candidate.backbone)) and time.ms]
    if points:
        chart = ScatterChart(
            title="Nearest-neighbour accuracy against time",
            x_label="milliseconds a frame on this machine",
            y_label="balanced accuracy of frozen features",
            points=points,
            limit=budget_ms,
            limit_label="" if budget_ms is None else f"budget {budget_ms:g} ms",
            caption="Line: none is both faster and better. Bars: 95 % interval over resampled images.",
        )
        sections.append(Section("Time", [chart]))
    if halving and halving.rungs:
        sections.append(_trials(halving))
    if skipped:
        rows: list[list[Cell]] = [[s.candidate.name, s.why] for s in skipped]
        sections.append(Section("Left out", [Table(columns=["network", "why"], rows=rows)]))
    sections.append(_method())
    return Report(title, subtitle, sections)


def _key(chosen: Ranked | None, times: Mapping[str, Time]) -> list[KeyFigures]:
    if chosen is None:
        return []
    time = times.get(chosen.candidate.backbone)
    figures = [KeyFigure(chosen.candidate.backbone, "take this", f"weights: {chosen.source}", "good")]
    figures.append(KeyFigure(f"{chosen.placed.p_best:.0%}", "how often it is the best", "of resampled data"))
    if time and time.ms:
        figures.append(KeyFigure(f"{significant(time.ms)} ms", "a frame on this machine", time.pair))
    return [KeyFigures(figures)]


def _table(
    ranked: Sequence[Ranked], times: Mapping[str, Time], budget_ms: float | None, chosen: Ranked | None
) -> Table:
    columns = [*COLUMNS] if budget_ms is None else [*COLUMNS[:-1], "in budget", COLUMNS[-1]]
    rows: list[list[Cell]] = []
    for r in ranked:
        time = times.get(r.candidate.backbone)
        above = r.placed.p_above_next
        rows.append(
            [
                r.candidate.backbone,
                r.candidate.weights,
                Num(f"{r.knn:.3f}"),
                Num(f"{r.placed.low[0]:.3f} to {r.placed.high[0]:.3f}"),
                Num(f"{r.logme:.3f}"),
                Num(f"{r.h_score:.3f}"),
                Num(f"{r.prior.top1:.1f}") if r.prior else None,
                Num(f"{r.placed.rank:.2f}"),
                Num(f"{r.placed.p_best:.0%}"),
                None if above is None else Num(f"{above:.0%}"),
                Num(significant(time.ms)) if time and time.ms else None,
                *([] if budget_ms is None else [_inside(time, budget_ms)]),
                r.licence,
            ]
        )
    marked = frozenset(i for i, r in enumerate(ranked) if r is chosen)
    return Table(columns=columns, rows=rows, highlight=marked)


def _inside(time: Time | None, budget_ms: float) -> Badge | None:
    inside = within(time, budget_ms)
    if inside is None:
        return None
    return Badge("yes", "good") if inside else Badge("no", "bad")


def within(time: Time | None, budget_ms: float | None) -> bool | None:
    """Whether a network meets the budget; None where there is no budget or no time."""
    if budget_ms is None or time is None or time.ms is None:
        return None
    return time.ms <= budget_ms


def _point(ranked: Ranked, ms: float, chosen: Ranked | None) -> Point:
    low, high = ranked.placed.low[0], ranked.placed.high[0]
    label = ranked.candidate.backbone + (" (random)" if ranked.candidate.weights == "none" else "")
    return Point(label=label, x=ms, y=ranked.knn, low=low, high=high, highlight=ranked is chosen)


def _trials(halving: Halving) -> Section:
    names = list(halving.order)
    rows: list[list[Cell]] = [
        [n, *(Num(f"{r.values[n]:.3f}") if n in r.values else None for r in halving.rungs)] for n in names
    ]
    columns = ["network", *(f"after {r.steps} steps" for r in halving.rungs)]
    lead = "Short fine-tunes of the best few; the better half goes on with twice the steps."
    return Section("Trials", [Table(columns=columns, rows=rows, highlight=frozenset({0}))], lead)


def _method() -> Section:
    text = Text(
        [
            "Features of the frozen networks at the same places: whole images, objects and background, or pixels. kNN: "
            "balanced accuracy of the nearest neighbours from other images. LogME: evidence of a linear model per "
            "vector. H-score: variance between classes against all variance, above chance. Higher is better.",
            "Mean rank: over the three scores, and the published ImageNet accuracy with a weight of "
            f"{PRIOR_WEIGHT:g} (a weak prior; {SOURCE}). P: share of 200 resamples of the images.",
        ]
    )
    return Section("How it was measured", [text])
