"""How the layers in INT8 were found: by which ranges, and what each layer costs."""

from __future__ import annotations

from edgetl_export.report.blocks import Bar, BarChart, Block, Cell, Code, Facts, Num, Table, Text, number, significant
from edgetl_export.report.lookup import chosen_key, chosen_trial, key_of
from edgetl_export.report.page import Section
from edgetl_runtime.spec import Manifest, Search, SearchTrial, Sensitivity

SHOWN = 20
LABEL_CHARS = 22
IN_FLOAT = "left in float"


def quantisation_section(manifest: Manifest) -> list[Section]:
    """Calibrators, layers and their sensitivity; no section where INT8 was not tried."""
    search = manifest.search
    if search is None or not search.calibrators:
        return []
    trial = chosen_trial(manifest)
    blocks: list[Block] = [Facts(_facts(manifest, search, trial)), _calibrators(search, trial)]
    if search.sensitivities:
        blocks += _sensitivity(search, trial)
    elif not search.trials:
        blocks.append(Text(["The engine runs every layer in float, so no graph in INT8 was measured."]))
    else:
        refused = any(t.float_layers for t in search.trials)
        where = "every layer that the engine runs in INT8" if refused else "every layer"
        blocks.append(Text([f"INT8 in {where} kept within the budget, so no layer was judged alone."]))
    lead = "Errors are root mean square, over the spread of the tensors that decoding reads."
    return [Section("INT8, layer by layer", blocks, lead)]


def _facts(manifest: Manifest, search: Search, trial: SearchTrial | None) -> list[tuple[str, Cell]]:
    layers = "the chosen pair is not in INT8"
    if trial is not None:
        layers = f"{search.layers - len(trial.float_layers)} of {search.layers}"
    within = sum(t.passed for t in search.trials)
    facts: list[tuple[str, Cell]] = [
        ("chosen", chosen_key(manifest)),
        ("layers in INT8", layers),
        ("measured", f"{len(search.trials)} graphs on engines, {within} within the budget"),
    ]
    fullest = min((t for t in search.trials if t.passed), key=lambda t: len(t.float_layers), default=None)
    if fullest is not None and (trial is None or len(fullest.float_layers) < len(trial.float_layers)):
        counted = f"{search.layers - len(fullest.float_layers)} of {search.layers}, {key_of(fullest)}"
        facts.append(("most layers in INT8 within the budget", counted))
    return facts


def _calibrators(search: Search, trial: SearchTrial | None) -> Table:
    ordered = sorted(search.calibrators.items(), key=lambda item: item[1])
    used = trial.calibrator if trial else ""
    return Table(
        columns=["calibrator", "error, all layers in INT8"],
        rows=[[name, Num(significant(error))] for name, error in ordered],
        highlight=frozenset(i for i, (name, _) in enumerate(ordered) if name == used),
    )


def _sensitivity(search: Search, trial: SearchTrial | None) -> list[Block]:
    """What layers cost, and which are in INT8 in the chosen pair; none is where that has no trial."""
    rows = search.sensitivities[:SHOWN]
    left = frozenset(trial.float_layers) if trial else frozenset(row.layer for row in search.sensitivities)
    bars = [Bar(label=short(row), value=row.error, note=IN_FLOAT if row.layer in left else "") for row in rows]
    chart = BarChart(
        title="What one layer alone in INT8 costs",
        unit="error",
        bars=bars,
        caption=f"the {len(rows)} most sensitive of {len(search.sensitivities)} layers",
        numbers=False,
    )
    cells: list[list[Cell]] = [
        [row.module or row.layer, Code(row.layer), row.op, Num(number(row.macs / 1e6, 3)), Num(significant(row.error)),
         IN_FLOAT if row.layer in left else "INT8"]
        for row in rows
    ]  # fmt: skip
    columns = ["module", "layer", "operator", "million MACs", "error", "in the chosen pair"]
    return [chart, Table(columns=columns, rows=cells, fold="The numbers")]


def short(row: Sensitivity) -> str:
    """The last parts of the module's path, which tell layers apart, or the layer's own name."""
    name = row.module or row.layer
    parts = name.split(".")
    while len(name) > LABEL_CHARS and len(parts) > 1:
        parts = parts[1:]
        name = "…" + ".".join(parts)
    return name
