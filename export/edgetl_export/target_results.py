"""What would run on each target, and what the host could check of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgetl_export.candidates import Candidate
from edgetl_export.targets import FLOAT, get_target
from edgetl_export.tensorrt.check import HostCheck
from edgetl_export.typed import Typed
from edgetl_runtime.spec import Check, Chosen, GraphState, TargetResult
from edgetl_runtime.tensorrt.protocol import Kind


def target_results(typed: Typed, names: Sequence[str], chosen: Chosen, new: Path) -> dict[str, TargetResult]:
    """A result for every target: the measured pair for `cpu`, what a real parse and build said for the others.

    Where several graphs compile, the target gets the last of its own that does and keeps the budget; the device times
    all of them when it builds. new: the bundle's folder; the engine of the graph that a target gets is moved there.
    """
    over: dict[str, GraphState] = {c.pair.variant: "over budget" for c in typed.candidates if not c.hop.passed}
    results: dict[str, TargetResult] = {}
    for name in names:
        target = get_target(name)
        if target.compiler == "none":
            results[name] = TargetResult(
                variant=chosen.variant, engine=chosen.engine, deployable=True, note="measured on this machine"
            )
            continue
        here = {
            variant: found[name]
            for variant, found in typed.checks.items()
            if variant in target.graphs and variant not in over
        }
        good = [variant for variant, check in here.items() if check.ok] or [FLOAT]
        variant = max(good, key=target.graphs.index)
        built, file = here[variant].engine, ""
        if built is not None:
            file = f"engine.{name}.plan"
            shutil.move(built, new / file)
        results[name] = TargetResult(
            variant=variant,
            engine=target.compiler,
            deployable=bool(file),
            file=file,
            checks=_findings(here),
            note=here[variant].note,
            graphs={
                **{graph: state_of(check.kind) for graph, check in here.items()},
                **{graph: state for graph, state in over.items() if graph in target.graphs},
            },
        )
    return results


def for_devices(typed: Sequence[Candidate], targets: Mapping[str, TargetResult]) -> list[Candidate]:
    """Graphs that devices build: those within the budget, in FP32 only where a target gets nothing else."""
    got = {target.variant for target in targets.values()}
    return [c for c in typed if c.hop.passed and (c.pair.precision != "fp32" or c.pair.variant in got)]


def state_of(kind: Kind) -> GraphState:
    """What the kind of a check's answer says of the graph."""
    if kind == "ok":
        return "compiled"
    return "refused" if kind in ("invalid-model", "parse", "build") else "cannot tell"


def _findings(checks: Mapping[str, HostCheck]) -> tuple[Check, ...]:
    """What was found in any of the graphs, once."""
    return tuple(dict.fromkeys(finding for check in checks.values() for finding in check.diagnostics))
