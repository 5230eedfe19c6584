"""What would run on each target, and what the host could check of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetl_export.targets import get_target
from edgetl_export.tensorrt.check import check_onnx
from edgetl_runtime.spec import Chosen, TargetResult


def target_results(onnx_path: Path, names: Sequence[str], chosen: Chosen) -> dict[str, TargetResult]:
    """A result for every target: the measured pair for `cpu`, a real parse and build for the others.

    Targets that compile for the same GPU are compiled once.
    """
    results: dict[str, TargetResult] = {}
    checks: dict[tuple[str, ...], TargetResult] = {}
    for name in names:
        target = get_target(name)
        if target.compiler == "none":
            results[name] = TargetResult(
                variant=chosen.variant, engine=chosen.engine, deployable=True, note="measured on this machine"
            )
            continue
        if target.compile_for not in checks:
            found = check_onnx(onnx_path, target=name)
            checks[target.compile_for] = TargetResult(
                variant="fp32",
                engine="tensorrt",
                deployable=False,
                checks=found.diagnostics,
                note=found.note,
            )
        results[name] = checks[target.compile_for]
    return results
