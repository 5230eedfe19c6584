"""Every step of the way, from the trained network to an engine."""

from __future__ import annotations

from collections.abc import Sequence

from edgetl_export.report.blocks import Badge, Cell, Lines, Num, Table
from edgetl_export.report.lookup import chosen_key, key_of, minus, passing_trials
from edgetl_export.report.page import Section
from edgetl_runtime.spec import Hop, Manifest


def hops_section(manifest: Manifest) -> Section:
    """The hop table; what a search only tried on its way is folded away."""
    tried = passing_trials(manifest)
    main = [hop for hop in manifest.hops if hop.hop not in tried]
    others = [hop for hop in manifest.hops if hop.hop in tried]
    tables = [_table(manifest, main)]
    if others:
        tables.append(_table(manifest, others, fold=f"{len(others)} more graphs that the search tried"))
    lead = "Every step from the trained network to a running engine, compared with the first by tensor and by metric."
    return Section("Every hop", tables, lead)


def _table(manifest: Manifest, hops: Sequence[Hop], *, fold: str = "") -> Table:
    several = [h.name for h in manifest.heads if any(h.name in hop.heads for hop in manifest.hops)]
    metric = manifest.hops[0].metric if manifest.hops else "metric"
    rows: list[list[Cell]] = []
    for hop in hops:
        error = Num(f"{hop.max_rel_error:.1e}" if hop.max_rel_error else "0")
        heads = [Num(f"{100 * hop.heads[name]:.2f}") if name in hop.heads else None for name in several]
        numbers = [Num(f"{100 * hop.value:.2f}"), *heads, error, Num(f"{hop.cosine:.6f}")]
        found = Lines([part for part in minus(hop.note).split("; ") if part])
        rows.append([hop.hop, _verdict(manifest, hop), *numbers, found])
    return Table(
        columns=["hop", "gate", metric, *several, "max rel. error", "cosine", "what was found"],
        rows=rows,
        highlight=frozenset(i for i, hop in enumerate(hops) if hop.hop == chosen_key(manifest)),
        fold=fold,
    )


def _verdict(manifest: Manifest, hop: Hop) -> Badge:
    """A variant over the budget is not shipped; a step of the chain that does not hold is a failure."""
    if hop.passed:
        return Badge("passed", "good")
    variants = {key_of(row) for row in manifest.latencies}
    variants |= {name for result in manifest.targets.values() for name in result.graphs}
    return Badge("over budget", "warn") if hop.hop in variants else Badge("failed", "bad")
