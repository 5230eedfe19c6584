"""A graph against every target: does it take the graph, which operators are in the way, what only the device knows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgetl_export.cpu_check import check_cpu
from edgetl_export.read_onnx import read_onnx
from edgetl_export.targets import TARGETS, Target, get_target
from edgetl_export.tensorrt.check import CANNOT_TELL, HostCheck, Verdict, check_targets
from edgetl_export.tensorrt.graph import Graph, OpUse, label, module_of, op_uses
from edgetl_export.tensorrt.lint import WARNINGS
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Check

Mark = Literal["ok", "rewrite", "cannot-tell", "not-reached"]
"""Of one operator on one target. not-reached: nothing is known against it, and it was not compiled."""


@dataclass(frozen=True, slots=True)
class TargetLint:
    """One target's answer. checked_with: the engine or library that took the graph apart, "" where none did.

    compiled: that it went through to the end. unknown: what only the device can tell. engine_bytes, layer_precisions:
    of the engine that was compiled, as in HostCheck.
    """

    verdict: Verdict
    checked_with: str
    compiled: bool
    note: str
    checks: tuple[Check, ...]
    unknown: tuple[str, ...]
    seconds: float
    engine_bytes: int | None = None
    layer_precisions: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class LintReport:
    """ops: most used first. targets: in the order asked for. nodes: how many the graph has."""

    graph: str
    nodes: int
    ops: tuple[OpUse, ...]
    targets: dict[str, TargetLint]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no target needs a rewrite, as far as can be told here."""
        return all(target.verdict != "rewrite" for target in self.targets.values())


def lint_onnx(path: Path, targets: Sequence[str]) -> LintReport:
    """Read `path` with every check of read_onnx, then load or compile it for each target.

    Raises InputError for an unknown target, none at all, and for a file that can't be read as ONNX.
    """
    start = time.monotonic()
    rows = [get_target(name) for name in targets]
    if not rows:
        raise InputError("no target is named", remedy=f"there are: {', '.join(TARGETS)}")
    graph = Graph(read_onnx(path))
    checks = check_targets(path, [row.name for row in rows], graph=graph)
    found = {
        row.name: _on_cpu(row, path, graph) if row.compiler == "none" else _on_gpu(row, checks[row.name])
        for row in rows
    }
    seconds = round(time.monotonic() - start, 2)
    return LintReport(path.name, len(graph.all_nodes), tuple(op_uses(graph)), found, seconds)


def _on_cpu(row: Target, path: Path, graph: Graph) -> TargetLint:
    start = time.monotonic()
    check = check_cpu(path)
    if check.engine:
        verdict: Verdict = "ok"
        note = f"{check.engine} loads it"
    else:
        verdict = "rewrite" if check.checks else "cannot-tell"
        note = (
            f"{' and '.join(check.installed)} can't load it" if check.installed else "no CPU engine is installed here"
        )
    return TargetLint(
        verdict,
        check.engine or ", ".join(check.installed),
        check.engine is not None,
        note,
        tuple(_at_its_node(found, graph) for found in check.checks),
        row.unknown,
        round(time.monotonic() - start, 2),
    )


def _at_its_node(check: Check, graph: Graph) -> Check:
    """A finding about a tensor as one about the node that makes it."""
    maker = next((n for n in graph.nodes if check.node and check.node in n.output), None)
    if check.op or maker is None:
        return check
    return msgspec.structs.replace(check, op=maker.op_type, node=label(maker), module=module_of(maker))


def _on_gpu(row: Target, check: HostCheck) -> TargetLint:
    gpus = " ".join(row.compile_for)
    library = f"TensorRT for RTX {check.version}, {gpus}" if check.library else ""
    return TargetLint(
        check.verdict,
        f"{library} as a check" if library and not row.built_on_host else library,
        check.ok,
        check.note,
        check.diagnostics,
        row.unknown,
        check.seconds,
        check.engine_bytes,
        check.layer_precisions,
    )


def mark_of(op: str, target: TargetLint) -> Mark:
    """What is known of an operator (as in OpUse.op) on a target."""
    name = op.rpartition("::")[2]
    about = [c for c in target.checks if c.op == name and c.code not in WARNINGS]
    if target.compiled and target.verdict == "ok":
        return "ok"
    if about:
        return "cannot-tell" if all(c.advice.startswith(CANNOT_TELL) for c in about) else "rewrite"
    return "ok" if target.compiled else "not-reached"


def lint_json(report: LintReport) -> dict[str, object]:
    """graph, ok, nodes, seconds, targets {name: {verdict, ...}}, ops [{op, count, modules, targets {name: mark}}]."""
    return {
        "graph": report.graph,
        "ok": report.ok,
        "nodes": report.nodes,
        "seconds": report.seconds,
        "targets": {name: msgspec.to_builtins(target) for name, target in report.targets.items()},
        "ops": [
            {
                "op": use.op,
                "count": use.count,
                "modules": list(use.modules),
                "targets": {name: mark_of(use.op, target) for name, target in report.targets.items()},
            }
            for use in report.ops
        ],
    }
