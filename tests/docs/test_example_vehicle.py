"""The example vehicle as a newcomer starts it: results by both ways, a runtime that is killed, nothing left over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from example_brake import Bool
from runtime_support import write_test_bundle

from edgetl_runtime.ros import NodeName, Ros2Node, Ros2Options
from edgetl_runtime.ros.names import RESULTS

VEHICLE = Path(__file__).parents[2] / "docs" / "example_vehicle.py"
PATIENCE_S = 90.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test_bundle(tmp_path_factory.mktemp("vehicle") / "tiny.bundle")


class Vehicle:
    """A running example; `lines` grows."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, str(VEHICLE), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait(self, pattern: str, *, after: int = 0) -> re.Match[str]:
        """The first line from `after` on that matches."""

        def found() -> list[re.Match[str]]:
            return [match for line in self.lines[after:] if (match := re.search(pattern, line))]

        until(lambda: bool(found()), lambda: f"{pattern!r} in {''.join(self.lines)}")
        return found()[0]

    def ended(self) -> int:
        """Its status."""
        status = self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        return status


@contextmanager
def vehicle(*arguments: object) -> Iterator[Vehicle]:
    running = Vehicle(*arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.ended()


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, what()
        time.sleep(0.02)


def of_bus(port: str) -> list[int]:
    """Every process that was told of this bus, from the launcher's children down; those that have ended don't count."""
    mark, found = f'"port": {port},'.encode(), []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def gone(port: str) -> None:
    until(lambda: not of_bus(port), lambda: f"still there: {of_bus(port)}")


def test_results_come_by_both_ways_and_a_killed_runtime_pulls_the_brake(bundle: Path) -> None:
    heard: list[bool] = []

    def take(sample: Any) -> None:
        heard.append(Bool.deserialize(sample.payload.to_bytes()).data)

    with vehicle(bundle, "--foxglove", "0", "--", "--threshold", "0.9") as running:
        port = running.wait(r"CAN +127\.0\.0\.1:(\d+)")[1]
        address = running.wait(r"ROS 2 +(tcp/\S+)")[1]
        runtime = int(running.wait(r"runtime (\d+)")[1])
        with Ros2Node(Ros2Options(node=NodeName(name="test"), connect=(address,), open_s=0)) as node:
            node.subscribe("/brake", Bool, RESULTS, take)
            running.wait(r"age +\d+ ms .* CAN ok .* drive")
            until(lambda: False in heard, lambda: f"{len(heard)} of /brake")
            assert len(of_bus(port)) == 3  # runtime, brake, renderer
            before = len(running.lines)
            os.kill(runtime, signal.SIGKILL)
            running.wait(r"BRAKE: (nothing by CAN|the newest result by ROS 2 is \d+ ms old)", after=before)
            until(lambda: heard[-1], lambda: "the brake is not published")
            running.wait(r"the runtime ended with status -9, the brake stays on", after=before)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
    told = "".join(running.lines)
    for pattern in (
        r"[1-9]\d* detections by ROS 2, \d+ lost, 0 unreadable",
        r"[1-9]\d* places by ROS 2, \d+ lost, 0 unreadable",
        r"[1-9]\d* cycles by CAN",
        r"capture to decision: p50 \d+ ms, p99 \d+ ms",
        r"brakes: \d+ \(1 for start.*\d+ for silence",
    ):
        assert re.search(pattern, told), pattern
    gone(port)


def test_it_ends_by_itself(bundle: Path) -> None:
    with vehicle(bundle, "--seconds", "1") as running:
        assert running.ended() == 0
    gone(running.wait(r"CAN +127\.0\.0\.1:(\d+)")[1])


def test_children_die_with_a_parent_that_is_killed(bundle: Path) -> None:
    with vehicle(bundle) as running:
        port = running.wait(r"CAN +127\.0\.0\.1:(\d+)")[1]
        until(lambda: len(of_bus(port)) >= 2, lambda: "no children")
        running.process.kill()
        gone(port)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.bundle"], r"there is no bundle none\.bundle: name another"),
        ([], r"there is no bundle edgetl-demo/bundle: make it with `edgetl demo`"),
        (["."], r"the runtime ended: edgetl: error: .* holds no manifest\.json"),
    ],
)
def test_a_bundle_that_is_not_there_is_one_line(
    arguments: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with vehicle(*arguments) as running:
        assert running.ended() == 2
    assert re.search(why, "".join(running.lines))
