"""What would run on each target, and what the host could check of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetl_export.candidates import Candidate
from edgetl_export.targets import get_target
from edgetl_export.tensorrt.check import HostCheck, check_onnx, check_targets
from edgetl_runtime.spec import Check, Chosen, TargetResult

FLOAT = "fp32"


def target_results(
    float_graph: Path, typed: Sequence[Candidate], names: Sequence[str], chosen: Chosen, new: Path
) -> dict[str, TargetResult]:
    """A result for every target: the measured pair for `cpu`, a real parse and build of every graph for the others.

    Where several graphs compile, the target gets the last of fp32, FP16, INT8 that does and keeps the budget; the
    device times all of them when it builds. new: the bundle's folder, for engines that the host compiles.
    """
    graphs = {FLOAT: float_graph, **{c.pair.variant: c.pair.file for c in typed if c.hop.passed}}
    checks = {variant: check_targets(path, names) for variant, path in graphs.items()}
    results: dict[str, TargetResult] = {}
    for name in names:
        target = get_target(name)
        if target.compiler == "none":
            results[name] = TargetResult(
                variant=chosen.variant, engine=chosen.engine, deployable=True, note="measured on this machine"
            )
            continue
        here = {variant: found[name] for variant, found in checks.items()}
        good = [variant for variant, check in here.items() if check.ok] or [FLOAT]
        variant = good[-1]
        file = f"engine.{name}.plan" if here[variant].ok and target.built_on_host else ""
        if file and not check_onnx(graphs[variant], target=name, engine_path=new / file).deployable:
            file = ""
        results[name] = TargetResult(
            variant=variant,
            engine=target.compiler,
            deployable=bool(file),
            file=file,
            checks=_findings(here),
            note=f"{here[variant].note}; compiled: {', '.join(good)}" if here[variant].ok else here[variant].note,
        )
    return results


def _findings(checks: dict[str, HostCheck]) -> tuple[Check, ...]:
    """What was found in any of the graphs, once."""
    return tuple(dict.fromkeys(finding for check in checks.values() for finding in check.diagnostics))
