"""The host check: does TensorRT's own parser and compiler take this graph, with no GPU here?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from msgspec import structs

from edgetl_export.crew import going_on
from edgetl_export.targets import Target, get_target
from edgetl_export.tensorrt.graph import Graph, OpUse, op_uses
from edgetl_export.tensorrt.lint import REFUSALS, WARNINGS, lint
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import usable_cores
from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt.diagnostics import SAID
from edgetl_runtime.tensorrt.process import OnProgress, Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Finding, Job, Kind
from edgetl_runtime.tensorrt.worker import WORKER

Verdict = Literal["ok", "rewrite", "cannot-tell"]
BY_HAND = "trtexec --fp16, since `edgetl build` needs TensorRT 10; its INT64 outputs are INT32 there"
CANNOT_TELL = "The host check cannot tell"
UNDECIDED: dict[Kind, str] = {"crash": "native-crash", "timeout": "timeout", "missing-package": "not-compiled-here"}
"""Kinds of answer that need a finding of their own, and its code."""
VAGUE = ("string-tensor", "uint4-weights", "int16-activations", "element-type")
"""Codes that TensorRT's words don't tell apart: it names no node and no type."""
MODULES = ("tensorrt_rtx", "tensorrt_rtx_bindings")
MOST_WORKERS = 4
"""A build is one thread's work and takes some hundred MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """What the host found out about one graph and one target.

    ok: TensorRT for RTX parsed and compiled the graph. deployable: what it compiled is what the target runs.
    layer_precisions: convolution and matrix kernels by the dtype they read. Sizes in bytes, None if not said.
    ops: the graph's operators with the modules they come from. engine: where the engine was written.
    verdict: whether the target takes the graph as it is ("ok"), after a change ("rewrite"), or can't be told here.
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
    verdict: Verdict = "cannot-tell"


def check_onnx(
    onnx_path: Path,
    *,
    target: str,
    timeout_s: float = 180,
    on_progress: OnProgress | None = None,
    engine_path: Path | None = None,
    worker: Sequence[str] = WORKER,
) -> HostCheck:
    """Read and lint `onnx_path`, then parse and compile it for `target` in a worker process.

    A graph that fails, a missing package, a crash and a timeout are all answers (`kind`), never
    exceptions. `engine_path`: keep the engine there, only where the target runs it. `worker`: the command that
    does the work. Raises InputError for an unknown target or a file that is not there.
    """
    row = get_target(target)
    graph = _read(onnx_path)
    if row.compiler == "none":
        return _nothing_to_check(row)
    if isinstance(graph, str):
        return _no_model(row, graph)
    keep = engine_path if row.built_on_host else None
    outcome = run_worker(_job(row, onnx_path, keep), timeout_s=timeout_s, on_progress=on_progress, command=worker)
    return _judge(row, graph, outcome, keep)


def check_targets(
    onnx_path: Path,
    targets: Sequence[str],
    *,
    graph: Graph | None = None,
    timeout_s: float = 180,
    on_progress: OnProgress | None = None,
    worker: Sequence[str] = WORKER,
) -> dict[str, HostCheck]:
    """`check_onnx` for several targets; those that ask the same of the compiler are compiled once.

    graph: of the file, where it was read before.
    """
    return check_graphs(
        {"": onnx_path},
        targets,
        read={"": graph} if graph else {},
        timeout_s=timeout_s,
        on_progress=on_progress,
        worker=worker,
    )[""]


def check_graphs(
    graphs: Mapping[str, Path],
    targets: Sequence[str],
    *,
    read: Mapping[str, Graph] | None = None,
    engines: Path | None = None,
    timeout_s: float = 180,
    on_progress: OnProgress | None = None,
    worker: Sequence[str] = WORKER,
) -> dict[str, dict[str, HostCheck]]:
    """`check_targets` for several graphs by name, as many workers at a time as there are cores, up to MOST_WORKERS.

    What was compiled for several GPUs is not compiled once more for some of them: sizes are those of the former then.
    read: the graphs of files that were read before. engines: a folder for the engines of targets that run what the host
    compiles; HostCheck.engine says where each is.
    """
    rows = [get_target(name) for name in targets]
    known = {name: (read or {}).get(name) or _read(path) for name, path in graphs.items()}
    jobs = {
        (name, row.name): _job(row, path, _engine_path(row, name, engines))
        for name, path in graphs.items()
        for row in rows
        if row.compiler != "none" and not isinstance(known[name], str)
    }
    run = partial(_run_all, timeout_s=timeout_s, on_progress=on_progress, worker=worker)
    outcomes = _outcomes(list(dict.fromkeys(jobs.values())), run)
    found: dict[str, dict[str, HostCheck]] = {name: {} for name in graphs}
    for name, graph in known.items():
        for row in rows:
            if row.compiler == "none":
                found[name][row.name] = _nothing_to_check(row)
            elif isinstance(graph, str):
                found[name][row.name] = _no_model(row, graph)
            else:
                outcome = outcomes[jobs[name, row.name]]
                found[name][row.name] = _judge(row, graph, outcome, _engine_path(row, name, engines))
    return found


def _engine_path(row: Target, graph: str, folder: Path | None) -> Path | None:
    return folder / f"{graph}.{row.name}.plan" if folder is not None and row.built_on_host else None


def _outcomes(jobs: Sequence[Job], run: Callable[[Sequence[Job]], dict[Job, Outcome]]) -> dict[Job, Outcome]:
    """What came of all jobs; one that asks for some of another's GPUs is run where the other failed."""
    wider = {job: [other for other in jobs if _covers(other, job)] for job in jobs}
    outcomes = run([job for job in jobs if not wider[job]])
    for job, others in wider.items():
        done = [outcomes[other] for other in others if other in outcomes and outcomes[other].result.kind == "ok"]
        if done:
            outcomes[job] = done[0]
    return {**outcomes, **run([job for job in jobs if job not in outcomes])}


def _covers(job: Job, other: Job) -> bool:
    """Whether one compiles the same graph for all of the other's GPUs and more."""
    same = (job.onnx, job.modules) == (other.onnx, other.modules)
    return same and not other.engine and set(job.compile_for) > set(other.compile_for)


def _run_all(
    jobs: Sequence[Job], timeout_s: float, on_progress: OnProgress | None, worker: Sequence[str]
) -> dict[Job, Outcome]:
    """What the workers made of all jobs. When this is interrupted, or nobody waits for it, they are cancelled."""
    stopped, wanted = threading.Event(), going_on()

    def check() -> None:
        wanted()
        if stopped.is_set():
            raise CancelledError

    def run(job: Job) -> Outcome:
        return run_worker(job, timeout_s=timeout_s, on_progress=on_progress, going_on=check, command=worker)

    pool = ThreadPoolExecutor(min(usable_cores(), MOST_WORKERS), thread_name_prefix="check")
    try:
        return dict(zip(jobs, pool.map(run, jobs), strict=True))
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)


def _read(onnx_path: Path) -> Graph | str:
    """The graph, or why it is none. Raises InputError where there is no file."""
    from edgetl_export.read_onnx import read_onnx

    if not onnx_path.is_file():
        raise InputError(f"no ONNX file at {onnx_path}")
    try:
        return Graph(read_onnx(onnx_path))
    except InputError as error:
        return str(error).replace(str(onnx_path), onnx_path.name)


def _job(row: Target, onnx_path: Path, engine: Path | None) -> Job:
    return Job(
        onnx=str(onnx_path.resolve()),
        modules=MODULES,
        compile_for=row.compile_for,
        engine=str(engine.resolve()) if engine else "",
    )


def _judge(row: Target, graph: Graph, outcome: Outcome, keep: Path | None) -> HostCheck:
    result = outcome.result
    kind = _kind(row, outcome)
    ok = kind == "ok"
    shown = lint(graph, opset_ceiling=row.opset_ceiling, precisions=row.precisions, releases=row.releases)
    findings = [*shown, *outcome.findings]
    diagnostics = [_worded(row, finding) for finding in _merge(findings)]
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
        ops=tuple(op_uses(graph)),
        engine=keep if deployable else None,
        verdict=_verdict(row, kind, findings),
    )


def _kind(row: Target, outcome: Outcome) -> Kind:
    """What only TensorRT for RTX lacks is a real failure where that is the target's own library."""
    kind = outcome.result.kind
    lacking = any(finding.fatal and finding.tells == "library" for finding in outcome.findings)
    return "build" if kind == "cannot-tell" and lacking and row.compiler == "tensorrt-rtx" else kind


def _verdict(row: Target, kind: Kind, findings: list[Finding]) -> Verdict:
    """What TensorRT said counts; what the file alone shows, where it could not say, and where it was not asked."""
    shown = [finding for finding in findings if not finding.fatal and finding.check.code not in WARNINGS]
    if kind in ("parse", "build", "invalid-model") or any(f.check.code in REFUSALS for f in shown):
        return "rewrite"
    if kind == "ok":
        return "ok"
    at_fault = [f for f in shown if f.tells == "graph" or (f.tells == "library" and row.compiler == "tensorrt-rtx")]
    return "rewrite" if at_fault else "cannot-tell"


def _merge(findings: list[Finding]) -> list[Finding]:
    """TensorRT's findings first, then one per kind of what the file alone showed and TensorRT did not say."""
    shown: dict[str, list[Finding]] = {}
    for finding in findings:
        if not finding.fatal:
            shown.setdefault(finding.check.code, []).append(finding)
    said = [_located(finding, shown) for finding in findings if finding.fatal]
    located = {finding.check.code for finding in said if finding.check.node}
    return said + [_counted(alike) for code, alike in shown.items() if code not in located]


def _located(said: Finding, shown: dict[str, list[Finding]]) -> Finding:
    """TensorRT's finding with the node, and where its words are vague the reason, that the file shows."""
    codes = VAGUE if said.check.code in VAGUE else (said.check.code,)
    known = next((shown[code][0].check for code in codes if code in shown), None)
    if said.check.node or known is None:
        return said
    advice = said.check.advice
    if known.code != said.check.code:
        advice = known.advice + "".join(advice.partition(SAID)[1:])
    return structs.replace(said, check=structs.replace(known, advice=advice))


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
        if row.strongly_typed == "no":
            text += f" with {BY_HAND}"
    elif kind == "missing-package":
        text = "not compiled here, only read"
    elif kind in ("crash", "timeout", "cannot-tell"):
        text = f"this host cannot tell; build on the {row.summary} to know"
    else:
        text = {"invalid-model": "", "parse": "the parser rejects it"}.get(kind, "it can't be compiled")
    return ": ".join(part for part in (text, detail) if part)


def _nothing_to_check(row: Target) -> HostCheck:
    return _unasked("not-applicable", f"{row.name} is not compiled with TensorRT", "cannot-tell")


def _no_model(row: Target, why: str) -> HostCheck:
    return _unasked("invalid-model", _note(row, "invalid-model", why), "rewrite")


def _unasked(kind: Kind, note: str, verdict: Verdict) -> HostCheck:
    """The answer where no library was asked."""
    return HostCheck(
        ok=False,
        kind=kind,
        library="",
        version="",
        seconds=0.0,
        engine_bytes=None,
        weights_bytes=None,
        activation_bytes=None,
        layer_precisions={},
        diagnostics=(),
        deployable=False,
        note=note,
        verdict=verdict,
    )
