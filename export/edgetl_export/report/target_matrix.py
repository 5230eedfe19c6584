"""What would run on each target, and how far the host could check that."""

from __future__ import annotations

from edgetl_export.report.blocks import Badge, Cell, Code, Lines, Table, Tone
from edgetl_export.report.page import Section
from edgetl_export.targets import TARGETS
from edgetl_export.tensorrt.check import CANNOT_TELL
from edgetl_runtime.spec import Check, GraphState, Manifest, TargetResult

REMARKS = frozenset({"opset-above-ceiling"})
"""Codes that do not stop a build."""
TONES: dict[GraphState, Tone] = {
    "compiled": "good",
    "refused": "bad",
    "cannot tell": "warn",
    "over budget": "warn",
}


def targets_section(manifest: Manifest) -> Section:
    """Targets by graphs, then the findings, then what only the target itself can tell."""
    blocks = [_matrix(manifest)]
    found: dict[Check, list[str]] = {}
    unknown: dict[tuple[str, ...], list[str]] = {}
    for name, result in manifest.targets.items():
        for check in result.checks:
            found.setdefault(check, []).append(name)
        if name in TARGETS and TARGETS[name].unknown:
            unknown.setdefault(TARGETS[name].unknown, []).append(name)
    if found:
        rows: list[list[Cell]] = [
            [", ".join(names), Code(c.code), _where(c.op, c.node), c.module, c.advice] for c, names in found.items()
        ]
        columns = ["target", "finding", "operator", "module", "what to do"]
        blocks.append(Table(columns=columns, rows=rows, caption="Findings of the host check"))
    if unknown:
        open_rows: list[list[Cell]] = [[", ".join(names), Lines(texts)] for texts, names in unknown.items()]
        blocks.append(Table(columns=["target", "only the target itself can tell"], rows=open_rows))
    return Section("Targets", blocks, "What is ready to run, what was only checked here, and what nobody knows yet.")


def _matrix(manifest: Manifest) -> Table:
    graphs = list(dict.fromkeys(name for result in manifest.targets.values() for name in result.graphs))
    rows: list[list[Cell]] = []
    for name, result in manifest.targets.items():
        states = [_graph(result.graphs.get(graph)) for graph in graphs]
        said = [part for part in (*result.note.split("; "), _codes(result)) if part]
        rows.append([name, state_of(result), f"{result.variant} by {result.engine}", *states, Lines(said)])
    columns = ["target", "state", "what runs there", *graphs, "what the host found"]
    caption = "Graphs by variant: what the compiler on this host says of each." if graphs else ""
    return Table(columns=columns, rows=rows, caption=caption)


def _graph(state: GraphState | None) -> Badge | None:
    return None if state is None else Badge(state, TONES[state])


def state_of(result: TargetResult) -> Badge:
    """What the manifest says about one target, in two or three words."""
    if result.deployable:
        return Badge("deployable", "good")
    open_questions = [check for check in result.checks if check.code not in REMARKS]
    if not open_questions or result.graphs.get(result.variant) == "compiled":
        return Badge("build on device")
    if all(check.advice.startswith(CANNOT_TELL) for check in open_questions):
        return Badge("not known here", "warn")
    return Badge("needs a change", "bad")


def _codes(result: TargetResult) -> str:
    return ", ".join(dict.fromkeys(check.code for check in result.checks))


def _where(op: str, node: str) -> Cell:
    return " ".join(part for part in (op, node) if part) or None
