"""What is asked of the worker: compile an ONNX file, find out what plans are. With a progress bar, and clear errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import EngineError
from edgetl_runtime.progress import Progress as Bar
from edgetl_runtime.tensorrt.process import Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Examine, Examined, Job, Plan, Progress

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked of a build. engine_dir: None for the folder beside the bundle. variant: None for all.

    runs: of each engine when it is timed. worker: the command of the worker process.
    """

    worker: Sequence[str]
    engine_dir: Path | None = None
    workspace_mb: int = 1024
    variant: str | None = None
    force: bool = False
    timeout_s: float = 3600.0
    runs: int = 100
    seconds: float = 10.0


def compile_onnx(
    onnx: Path,
    plan: Path,
    *,
    title: str,
    modules: tuple[str, ...],
    workspace_mb: int,
    timing_cache: Path | None,
    options: Options,
    compile_for: tuple[str, ...] = (),
) -> Outcome:
    """Compile one ONNX file to `plan` in a worker process, with a progress bar. Raises EngineError, see `explain`.

    compile_for: GPUs for TensorRT for RTX to compile for, empty for the one that is here.
    """
    job = Job(
        onnx=str(onnx.resolve()),
        modules=modules,
        compile_for=compile_for,
        engine=str(plan.resolve()),
        workspace_bytes=workspace_mb * MB,
        timing_cache=str(timing_cache.resolve()) if timing_cache else "",
    )
    share = Share()
    with Bar(title, 100, unit="%") as bar:
        outcome = run_worker(
            job,
            command=options.worker,
            timeout_s=options.timeout_s,
            on_progress=lambda event: bar.step(int(100 * share.after(event)) - bar.done, note=event.phase),
        )
        if outcome.result.kind == "ok":
            bar.step(100 - bar.done)
    if outcome.result.kind != "ok":
        raise explain(outcome, title)
    return outcome


class Share:
    """How much of a build is done, 0 to 1 and never less than before, from phases that lie in each other."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, int]] = []
        self._best = 0.0

    def after(self, event: Progress) -> float:
        """The share after one more event."""
        del self._levels[event.depth :]
        self._levels.append((event.done, event.total))
        share, width = 0.0, 1.0
        for done, total in self._levels:
            if total > 0:
                share += width * min(done, total) / total
                width /= total
        self._best = max(self._best, min(share, 1.0))
        return self._best


def explain(outcome: Outcome, title: str) -> EngineError:
    """The error of a worker that gave no engine: what it is called, where it was, what to do."""
    result = outcome.result
    fatal = [finding.check for finding in outcome.findings if finding.fatal]
    if fatal:
        check = fatal[0]
        where = " ".join(part for part in (check.op, check.node, check.module and f"({check.module})") if part)
        return EngineError(f"{title}: TensorRT can't build it: {check.code} {where}".rstrip(), remedy=check.advice)
    remedies = {
        "timeout": "give more --timeout-s; what was timed so far is kept, so the next build is shorter",
        "crash": "lower --workspace-mb, close other programs, and build again",
        "too-old": "update the system image",
    }
    note = result.note or f"the worker ended with {result.kind!r}"
    return EngineError(f"{title}: no engine was built: {note}", remedy=remedies.get(result.kind, ""))


def examine_plans(bundle: Bundle, plans: Sequence[Plan], *, module: str, options: Options) -> list[Examined]:
    """What these plans are on this device, all loaded in one process. Raises EngineError where one does not run."""
    job = Examine(
        bundle=str(bundle.path.resolve()),
        module=module,
        plans=tuple(plans),
        runs=options.runs,
        seconds=options.seconds,
    )
    with Bar("measuring", options.runs, unit="runs") as bar:
        outcome = run_worker(
            job,
            command=options.worker,
            timeout_s=options.timeout_s,
            on_progress=lambda event: bar.step(event.done - bar.done),
        )
    names = ", ".join(plan.variant for plan in plans)
    if outcome.result.kind != "ok" or len(outcome.examined) != len(plans):
        raise EngineError(f"{names}: the engine was built and does not run here: {outcome.result.note}")
    return outcome.examined
