"""Running the worker and surviving it: crash, hang, silence."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from edgetl_runtime.tensorrt.protocol import (
    Examine,
    Examined,
    Finding,
    Job,
    Log,
    Progress,
    Result,
    decode,
    encode,
)

OnProgress = Callable[[Progress], None]
WAIT_S = 0.2
"""How often somebody who waits for a worker that says nothing is asked whether to go on."""
GRACE_S = 5.0
"""How long a cancelled worker may take to end by itself, so that it can keep what it has timed."""


@dataclass(slots=True)
class Outcome:
    """Everything that one worker said; `result` is always there, made up where the worker could not."""

    result: Result
    findings: list[Finding] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    examined: list[Examined] = field(default_factory=list)


def run_worker(
    job: Job | Examine,
    *,
    command: Sequence[str],
    timeout_s: float,
    on_progress: OnProgress | None = None,
    going_on: Callable[[], None] = lambda: None,
    grace_s: float = GRACE_S,
) -> Outcome:
    """Run one job to its end, or to `timeout_s`; the worker never outlives this call.

    Raises nothing of its own. going_on: called while it waits. What that or `on_progress` raises, Ctrl-C and a timeout
    cancel the job and wait up to `grace_s` for the worker's end.
    """
    start = time.monotonic()
    outcome = Outcome(Result(kind="crash"))
    # The working directory must not shadow a package: this file's own folder is called tensorrt.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C must not reach native code half-way
            )
        except OSError as error:
            outcome.result = Result(kind="crash", note=f"the worker could not be started: {error}")
            return outcome
        try:
            phase = _converse(process, job, outcome, start + timeout_s, on_progress, going_on)
            if outcome.result.kind == "timeout":
                _cancel(process, grace_s)
        except BaseException:
            _cancel(process, grace_s)
            raise
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
            _close_stdin(process)
        if outcome.result.kind in ("crash", "timeout"):
            outcome.result = _post_mortem(outcome.result, status, phase, errors, time.monotonic() - start, timeout_s)
    return outcome


def _cancel(process: subprocess.Popen[bytes], grace_s: float) -> None:
    _close_stdin(process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=grace_s)


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it has ended
        process.stdin.close()


def _converse(
    process: subprocess.Popen[bytes],
    job: Job | Examine,
    outcome: Outcome,
    deadline: float,
    on_progress: OnProgress | None,
    going_on: Callable[[], None],
) -> str:
    """Feed the job, take events until the result, the end or the deadline; returns the last phase."""
    assert process.stdin is not None and process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        process.stdin.write(encode(job))
        process.stdin.flush()
    except OSError:
        pass  # it ended before it read the job: its exit status says why
    phase = "start"
    while True:
        going_on()
        left_s = deadline - time.monotonic()
        try:
            line = lines.get(timeout=min(max(left_s, 0.0), WAIT_S))
        except queue.Empty:
            if left_s > WAIT_S:
                continue
            outcome.result = Result(kind="timeout")
            return phase
        if line is None:
            _await_end(process, outcome, max(deadline - time.monotonic(), 1.0))
            return phase
        event = decode(line)
        if isinstance(event, Progress):
            phase = event.phase if event.depth == 0 else phase
            if on_progress is not None:
                on_progress(event)
        elif isinstance(event, Finding):
            outcome.findings.append(event)
        elif isinstance(event, Examined):
            outcome.examined.append(event)
        elif isinstance(event, Log):
            outcome.logs.append(event)
        elif isinstance(event, Result):
            outcome.result = event
            return phase


def _await_end(process: subprocess.Popen[bytes], outcome: Outcome, timeout_s: float) -> None:
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        outcome.result = Result(kind="timeout")


def _read(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _post_mortem(
    result: Result, status: int, phase: str, errors: IO[bytes], seconds: float, timeout_s: float
) -> Result:
    if result.kind == "timeout":
        note = f"no result within {timeout_s:g} s, stopped in phase {phase!r}"
    elif status == -signal.SIGKILL:
        note = f"it was killed (SIGKILL) in phase {phase!r}, as Linux does when memory runs out"
    elif status < 0:
        note = f"the library crashed ({_signal_name(-status)}) in phase {phase!r}"
    else:
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
        note = f"the worker ended with status {status} and no result: {said[-1] if said else 'it said nothing'}"
    return Result(kind=result.kind, seconds=round(seconds, 3), note=note)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
