"""What the chosen pair gained or lost, class by class."""

from __future__ import annotations

from dataclasses import dataclass

from edgetl_export.report.blocks import Badge, Block, Cell, Change, Note, Num, Table, Text
from edgetl_export.report.lookup import METRIC_NAMES, chosen_key, hop_of, minus
from edgetl_export.report.page import Section
from edgetl_runtime.spec import Hop, Manifest, Scores

SHOWN = 15
LEAST_SHOWN = 0.005
LEAST_SCALE = 0.5
"""Points that fill a bar at least, so that rounding does not look like a loss."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One class: the metric of the reference and of the chosen pair, 0..1, and what it may lose."""

    label: str
    was: float
    now: float | None
    limit: float | None

    @property
    def points(self) -> float:
        """The change in points; a class that has no value any more lost all of it."""
        return 100 * ((self.now or 0.0) - self.was)

    @property
    def matters(self) -> bool:
        """Whether it changed, or has a budget of its own."""
        return abs(self.points) >= LEAST_SHOWN or self.limit is not None


def classes_section(manifest: Manifest) -> list[Section]:
    """A table for each head, greatest loss first; no section where nothing was measured by class."""
    chosen = hop_of(manifest, chosen_key(manifest))
    reference = manifest.hops[0] if manifest.hops else None
    if chosen is None or reference is None:
        return []
    blocks: list[Block] = []
    for head in manifest.heads:
        blocks += _head(manifest, head.name, reference, chosen, reference.hop)
    for name, was in reference.domains.items():
        for head in manifest.heads:
            blocks += _head(manifest, head.name, was, chosen.domains[name], reference.hop, domain=name)
    lead = f"{chosen.hop} against {reference.hop} on the validation set, the greatest loss first."
    return [Section("By class", blocks, lead)] if blocks else []


def _head(
    manifest: Manifest, head: str, reference: Hop | Scores, chosen: Hop | Scores, before_name: str, *, domain: str = ""
) -> list[Block]:
    before, after = reference.classes.get(head, {}), chosen.classes.get(head, {})
    limits = manifest.budget.classes if manifest.budget else {}
    rows = [_Row(k, was, after.get(k), limits.get(k)) for k, was in before.items() if was is not None]
    if not rows:
        return []
    on = f" on {domain}" if domain else ""
    rows.sort(key=lambda row: row.points)
    names = (before_name, "chosen")
    scale = max(LEAST_SCALE, *(abs(row.points) for row in rows))
    shown = rows if len(rows) <= SHOWN else [row for row in rows[:SHOWN] if row.matters]
    rest = [row for row in rows if row not in shown]
    caption = _caption(manifest, head, reference, chosen, domain)
    blocks: list[Block] = [_table(shown, scale, names, caption=caption) if shown else Text([f"{caption}."])]
    if rest:
        blocks.append(_table(rest, scale, names, fold=f"{len(rest)} {'more ' if shown else ''}classes of {head}{on}"))
    unlabelled = [label for label, was in before.items() if was is None]
    if unlabelled:
        blocks.append(Note(f"Not labelled in {domain or 'the validation set'}: {', '.join(unlabelled)}."))
    return blocks


def _caption(manifest: Manifest, head: str, reference: Hop | Scores, chosen: Hop | Scores, domain: str) -> str:
    was, now = reference.heads.get(head, reference.value), chosen.heads.get(head, chosen.value)
    several = len(manifest.heads) > 1
    metric = METRIC_NAMES.get(manifest.hops[0].metric, manifest.hops[0].metric)
    text = f"{head if several else metric}{f' on {domain}' if domain else ''}: "
    text += minus(f"{100 * was:.2f} to {100 * now:.2f}, {100 * (now - was):+.2f} points")
    return text + (f"; it may lose {100 * manifest.budget.head:g}" if manifest.budget else "")


def _table(rows: list[_Row], scale: float, names: tuple[str, str], *, caption: str = "", fold: str = "") -> Table:
    limited = any(row.limit is not None for row in rows)
    cells: list[list[Cell]] = []
    for row in rows:
        now = Num(f"{100 * row.now:.2f}") if row.now is not None else None
        line: list[Cell] = [row.label, Change(row.points, scale), Num(f"{100 * row.was:.2f}"), now]
        if limited:
            line += [None, None] if row.limit is None else [Num(f"{100 * row.limit:g}"), _verdict(row, row.limit)]
        cells.append(line)
    columns = ["class", "change, points", *names, *(["may lose", "budget"] if limited else [])]
    return Table(columns=columns, rows=cells, caption=caption, fold=fold)


def _verdict(row: _Row, limit: float) -> Badge:
    return Badge("within", "good") if row.points >= -100 * limit else Badge("over", "bad")
