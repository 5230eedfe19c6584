"""Run a peer in a process of its own: what it made, its wall time and its largest memory."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


LIMIT_S = 3600.0
"""A peer that takes longer is stopped."""


class PeerFailed(Exception):
    """The peer is not here, or it could not do its work: the reason in one line."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process said, and what it took: seconds by the clock, seconds of all cores, MB resident at most.

    rss_mb: of the process itself, not of those that it starts; None where /proc doesn't say.
    """

    documents: tuple[dict[str, Any], ...]
    seconds: float
    cpu_s: float
    rss_mb: float | None


class _Watch(threading.Thread):
    """Stops a process after its time, and keeps its largest memory.

    The usage that the system hands back at the end can't be taken for that: it counts the benchmark's own memory,
    which the process had for a moment when it was forked.
    """

    def __init__(self, process: subprocess.Popen[str], limit_s: float) -> None:
        super().__init__(daemon=True)
        self._process, self._limit_s = process, limit_s
        self.done = threading.Event()
        self.rss_mb: float | None = None

    def run(self) -> None:
        """Until `done` is set."""
        until = time.monotonic() + self._limit_s
        while not self.done.wait(0.1):
            self.rss_mb = _peak_mb(self._process.pid) or self.rss_mb
            if time.monotonic() > until:
                self._process.kill()
                return


def _peak_mb(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)


def run_script(
    python: Path | None, script: str, job: dict[str, Any], folder: Path, answer: Callable[[dict[str, Any]], float]
) -> Finished:
    """A peer's script beside this file, in the peer's own environment; project paths are hidden from it."""
    if python is None:
        raise PeerFailed("no environment was given for it")
    if not python.is_file():
        raise PeerFailed(f"no Python at {python}")
    file = folder / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return run([str(python), str(HERE / script), str(file)], folder / "log.txt", environment, answer)


def run(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
    answer: Callable[[dict[str, Any]], float] | None = None,
    *,
    limit_s: float = LIMIT_S,
) -> Finished:
    """Run to the end. Lines of JSON on its stdout that hold `score` are answered, others are kept.

    Raises PeerFailed with the last line of its stderr, which goes to `log`, where it ends in another way than well,
    or when it takes longer than `limit_s`.
    """
    started = time.monotonic()
    documents = []
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        assert process.stdin is not None and process.stdout is not None
        watch = _Watch(process, limit_s)
        watch.start()
        try:
            with process.stdin, process.stdout:
                for document in _documents(process.stdout):
                    if "score" in document and answer is not None:
                        process.stdin.write(json.dumps(answer(document)) + "\n")
                        process.stdin.flush()
                    else:
                        documents.append(document)
        except BaseException:
            process.kill()
            raise
        finally:
            watch.done.set()
            watch.join()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode and seconds >= limit_s:
        raise PeerFailed(f"stopped after {seconds:.0f} s")
    if process.returncode:
        raise PeerFailed(_last_line(log) or f"it ended with {process.returncode}")
    return Finished(tuple(documents), seconds, usage.ru_utime + usage.ru_stime, watch.rss_mb)


def _documents(lines: Any) -> Any:
    """The JSON objects of a stream: one a line, or the whole stream as one."""
    rest = ""
    for line in lines:
        rest += line
        try:
            document = json.loads(rest)
        except json.JSONDecodeError:
            continue
        rest = ""
        if isinstance(document, dict):
            yield document


def _last_line(log: Path) -> str:
    lines = [x.strip() for x in log.read_text(encoding="utf-8", errors="replace").splitlines() if x.strip()]
    return lines[-1][:240] if lines else ""
