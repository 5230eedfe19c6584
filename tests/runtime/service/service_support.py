"""A service manager's end of the notify socket, and a run under it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import edgetl
import edgetl_runtime
from edgetl_runtime.health import State
from edgetl_runtime.result import Result, ResultState

ROOTS = [str(Path(str(edgetl.__file__)).parents[1]), str(Path(str(edgetl_runtime.__file__)).parents[1])]


def result_of(*, state: ResultState = "fresh", health: State = "ok", t_capture_ns: int = 0, number: int = 0) -> Result:
    """A result without outputs."""
    return Result(number, "cam", t_capture_ns, t_capture_ns + 1_000_000, {}, (4, 4), state=state, health=health)


class Manager:
    """Receives datagrams at a path or an abstract name (@...), with the time of each."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.received: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0.05)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._ends.is_set():
            try:
                data = self._socket.recv(4096)
            except TimeoutError:
                continue
            self.received.append((time.monotonic(), data.decode()))

    @property
    def lines(self) -> list[str]:
        """All lines so far."""
        return [line for _, text in list(self.received) for line in text.splitlines()]

    def times(self, line: str) -> list[float]:
        """When this line came."""
        return [at for at, text in list(self.received) if line in text.splitlines()]

    def wait_for(self, line: str, *, count: int = 1, seconds: float = 60.0) -> None:
        """Until the line has come so often; fails with what came instead."""
        until = time.monotonic() + seconds
        while len(self.times(line)) < count:
            assert time.monotonic() < until, f"{line} did not come {count} times, but {self.lines}"
            time.sleep(0.01)

    def wait_until(self, said: str, *, seconds: float = 60.0) -> None:
        """Until it is the newest thing said, apart from feeds, that holds this text."""
        until = time.monotonic() + seconds
        while said not in ([line for line in self.lines if line.startswith("STATUS=")] or [""])[-1]:
            assert time.monotonic() < until, f"{said!r} was not said, but {self.lines}"
            time.sleep(0.01)

    def close(self) -> None:
        """End."""
        self._ends.set()
        self._thread.join()
        self._socket.close()


def start_run(manager: Manager, words: Sequence[str], *, watchdog_s: float | None = None) -> subprocess.Popen[str]:
    """`edgetl run` in a process of its own, notifying the manager."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WATCHDOG")}
    environment |= {"NOTIFY_SOCKET": manager.address, "PYTHONPATH": os.pathsep.join(ROOTS)}
    if watchdog_s is not None:
        environment["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "edgetl.cli", "run", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
