"""What would run on each target, and what the host could check of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetl_export.targets import get_target
from edgetl_export.tensorrt.check import check_targets
from edgetl_runtime.spec import Chosen, TargetResult


def target_results(onnx_path: Path, names: Sequence[str], chosen: Chosen) -> dict[str, TargetResult]:
    """A result for every target: the measured pair for `cpu`, a real parse and build for the others.

    A bundle carries no TensorRT engine yet, so those targets are checked and never called deployable.
    """
    checks = check_targets(onnx_path, names)
    results: dict[str, TargetResult] = {}
    for name in names:
        target, check = get_target(name), checks[name]
        if target.compiler == "none":
            results[name] = TargetResult(
                variant=chosen.variant, engine=chosen.engine, deployable=True, note="measured on this machine"
            )
        else:
            results[name] = TargetResult(
                variant="fp32", engine=target.compiler, deployable=False, checks=check.diagnostics, note=check.note
            )
    return results
