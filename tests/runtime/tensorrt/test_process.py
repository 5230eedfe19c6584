"""The worker process: whatever it does, the caller gets an answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from scripted_worker import fake, say

from edgetl_runtime.tensorrt.process import Outcome, run_worker
from edgetl_runtime.tensorrt.protocol import Job, Progress

JOB = Job(onnx="model.onnx", modules=("tensorrt_rtx",))
PROGRESS = '{"type":"progress","phase":"Building","done":1,"total":3}'
FINDING = '{"type":"diagnostic","check":{"code":"x"},"fatal":true}'
RESULT = '{"type":"result","kind":"ok","engine_bytes":7}'


def run(tmp_path: Path, body: str, timeout_s: float = 20.0) -> tuple[Outcome, list[Progress]]:
    """The outcome of a fake worker, and its progress."""
    seen: list[Progress] = []
    return run_worker(JOB, timeout_s=timeout_s, on_progress=seen.append, command=fake(tmp_path, body)), seen


def test_events_arrive_and_noise_is_ignored(tmp_path: Path) -> None:
    outcome, seen = run(tmp_path, "sys.stdin.readline()\n" + say(PROGRESS, "native noise", FINDING, RESULT))
    assert outcome.result.kind == "ok" and outcome.result.engine_bytes == 7
    assert [finding.check.code for finding in outcome.findings] == ["x"]
    assert [(p.phase, p.done, p.total) for p in seen] == [("Building", 1, 3)]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_native_crash_names_its_signal_and_phase(tmp_path: Path, name: str) -> None:
    outcome, _ = run(tmp_path, say(PROGRESS) + f"\nos.kill(os.getpid(), signal.{name})")
    assert outcome.result.kind == "crash"
    assert name in outcome.result.note and "'Building'" in outcome.result.note


def test_a_crash_after_the_result_is_no_matter(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, say(RESULT) + "\nos.kill(os.getpid(), signal.SIGSEGV)")
    assert outcome.result.kind == "ok"


def test_an_end_without_a_result_quotes_the_last_line_of_stderr(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, "sys.exit('no such thing')")
    assert outcome.result.kind == "crash"
    assert "status 1" in outcome.result.note and "no such thing" in outcome.result.note


@pytest.mark.parametrize("body", ["time.sleep(60)", "os.close(1)\ntime.sleep(60)"])
def test_a_worker_that_hangs_is_stopped_in_time(tmp_path: Path, body: str) -> None:
    start = time.monotonic()
    outcome, _ = run(tmp_path, say(PROGRESS) + "\n" + body, timeout_s=1.0)
    assert outcome.result.kind == "timeout"
    assert time.monotonic() - start < 15
    assert "within 1 s" in outcome.result.note


def test_a_worker_that_can_not_start_is_an_answer(tmp_path: Path) -> None:
    outcome = run_worker(JOB, timeout_s=5, command=[str(tmp_path / "nothing")])
    assert outcome.result.kind == "crash" and "could not be started" in outcome.result.note


def test_an_interrupt_takes_the_worker_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    body = f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{say(PROGRESS)}\ntime.sleep(60)"

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_worker(JOB, timeout_s=30, on_progress=interrupt, command=fake(tmp_path, body))
    assert not Path(f"/proc/{pid_file.read_text()}").exists()
