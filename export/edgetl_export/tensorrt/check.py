"""The host check: does TensorRT's own parser and compiler take this graph, with no GPU here?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from edgetl_export.targets import Target, get_target
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt.process import OnProgress, Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Finding, Job, Kind, OpUse

WORKER = (sys.executable, "-m", "edgetl_export.tensorrt.worker")
CANNOT_TELL = "The host check cannot tell"
UNDECIDED: dict[Kind, str] = {"crash": "native-crash", "timeout": "timeout", "missing-package": "not-compiled-here"}
"""Kinds of answer that need a finding of their own, and its code."""
MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """What the host found out about one graph and one target.

    ok: TensorRT for RTX parsed and compiled the graph. deployable: what it compiled is what the target runs.
    layer_precisions: convolution and matrix kernels by the dtype they read. Sizes in bytes, None if not said.
    ops: the graph's operators with the modules they come from. engine: where the engine was written.
    """

    ok: bool
    kind: Kind
    library: str
    version: str
    seconds: float
    engine_bytes: int | None
    weights_bytes: int | None
    activation_bytes: int | None
    layer_precisions: dict[str, int]
    diagnostics: tuple[Check, ...]
    deployable: bool
    note: str
    ops: tuple[OpUse, ...] = field(default=())
    engine: Path | None = None


def check_onnx(
    onnx_path: Path,
    *,
    target: str,
    timeout_s: float = 180,
    on_progress: OnProgress | None = None,
    engine_path: Path | None = None,
    worker: Sequence[str] = WORKER,
) -> HostCheck:
    """Parse and compile `onnx_path` for `target` in a worker process.

    A graph that fails, a missing package, a crash and a timeout are all answers (`kind`), never
    exceptions. `engine_path`: keep the engine there, only where the target runs it. `worker`: the command that
    does the work. Raises InputError for an unknown target or a file that is not there.
    """
    row = get_target(target)
    if not onnx_path.is_file():
        raise InputError(f"no ONNX file at {onnx_path}")
    if row.compiler == "none":
        return _nothing_to_check(row)
    keep = engine_path if row.built_on_host else None
    outcome = run_worker(_job(row, onnx_path, keep), timeout_s=timeout_s, on_progress=on_progress, command=worker)
    return _judge(row, outcome, keep)


def check_targets(
    onnx_path: Path,
    targets: Sequence[str],
    *,
    timeout_s: float = 180,
    on_progress: OnProgress | None = None,
    worker: Sequence[str] = WORKER,
) -> dict[str, HostCheck]:
    """`check_onnx` for several targets; those that ask the same of the compiler are compiled once."""
    outcomes: dict[Job, Outcome] = {}
    found: dict[str, HostCheck] = {}
    for name in targets:
        row = get_target(name)
        if row.compiler == "none":
            found[name] = _nothing_to_check(row)
            continue
        job = _job(row, onnx_path, None)
        if job not in outcomes:
            outcomes[job] = run_worker(job, timeout_s=timeout_s, on_progress=on_progress, command=worker)
        found[name] = _judge(row, outcomes[job], None)
    return found


def _job(row: Target, onnx_path: Path, engine: Path | None) -> Job:
    if not onnx_path.is_file():
        raise InputError(f"no ONNX file at {onnx_path}")
    return Job(
        onnx=str(onnx_path.resolve()),
        modules=MODULES,
        compile_for=row.compile_for,
        opset_ceiling=row.opset_ceiling,
        engine=str(engine.resolve()) if engine else "",
    )


def _judge(row: Target, outcome: Outcome, keep: Path | None) -> HostCheck:
    result = outcome.result
    kind = _kind(row, outcome)
    ok = kind == "ok"
    diagnostics = [_worded(row, finding) for finding in _merge(outcome.findings)]
    if kind in UNDECIDED:
        code = UNDECIDED[kind]
        diagnostics.append(Check(code=code, advice=f"{CANNOT_TELL}: {result.note}."))
    deployable = ok and row.built_on_host
    return HostCheck(
        ok=ok,
        kind=kind,
        library=result.library,
        version=result.version,
        seconds=result.seconds,
        engine_bytes=result.engine_bytes,
        weights_bytes=result.weights_bytes,
        activation_bytes=result.activation_bytes,
        layer_precisions=result.layer_precisions,
        diagnostics=tuple(diagnostics),
        deployable=deployable,
        note=_note(row, kind, result.note),
        ops=tuple(outcome.ops),
        engine=keep if deployable else None,
    )


def _kind(row: Target, outcome: Outcome) -> Kind:
    """What only TensorRT for RTX lacks is a real failure where that is the target's own library."""
    kind = outcome.result.kind
    lacking = any(finding.fatal and finding.tells == "library" for finding in outcome.findings)
    return "build" if kind == "cannot-tell" and lacking and row.compiler == "tensorrt-rtx" else kind


def _merge(findings: list[Finding]) -> list[Finding]:
    """TensorRT's findings first, then one per kind of what the file alone showed and TensorRT did not say."""
    said = [finding for finding in findings if finding.fatal]
    located = {finding.check.code for finding in said if finding.check.node}
    shown: dict[str, list[Finding]] = {}
    for finding in findings:
        if not finding.fatal and finding.check.code not in located:
            shown.setdefault(finding.check.code, []).append(finding)
    return said + [_counted(alike) for alike in shown.values()]


def _counted(alike: list[Finding]) -> Finding:
    first = alike[0]
    if len(alike) == 1:
        return first
    advice = f"{first.check.advice} ({len(alike)} such nodes, this is the first.)"
    return structs.replace(first, check=structs.replace(first.check, advice=advice))


def _worded(row: Target, finding: Finding) -> Check:
    """Say so where the target may take what this host can't."""
    blind = finding.tells == "gpu" or (finding.tells == "library" and row.compiler == "tensorrt")
    if not blind:
        return finding.check
    return structs.replace(finding.check, advice=f"{CANNOT_TELL}: {finding.check.advice}")


def _note(row: Target, kind: Kind, detail: str) -> str:
    compiled_for = ", ".join(row.compile_for)
    if kind == "ok" and row.built_on_host:
        text = f"engine for {compiled_for}, compiled without a GPU and not run"
    elif kind == "ok":
        text = f"compiled for {compiled_for} as a check only; the engine is built on the {row.summary} itself"
    elif kind == "missing-package":
        text = "not compiled here, only read"
    elif kind in ("crash", "timeout", "cannot-tell"):
        text = f"this host cannot tell; build on the {row.summary} to know"
    else:
        text = {"invalid-model": "", "parse": "the parser rejects it"}.get(kind, "it can't be compiled")
    return ": ".join(part for part in (text, detail) if part)


def _nothing_to_check(row: Target) -> HostCheck:
    return HostCheck(
        ok=False,
        kind="not-applicable",
        library="",
        version="",
        seconds=0.0,
        engine_bytes=None,
        weights_bytes=None,
        activation_bytes=None,
        layer_precisions={},
        diagnostics=(),
        deployable=False,
        note=f"{row.name} is not compiled with TensorRT",
    )
