"""A router on loopback, a process that listens, nodes that publish images, and results to publish."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zenoh
from runtime_support import LABELS

from edgetl_runtime.result import Detections, Frame, Places, Result
from edgetl_runtime.ros import NodeName, Ros2Options

LISTENER = Path(__file__).with_name("ros_listener.py")
PATIENCE_S = 60.0


def free_port() -> int:
    """A port that nobody had a moment ago; Zenoh does not say which one it took for 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def router(port: int | None = None) -> Iterator[str]:
    """A Zenoh router, as rmw_zenohd is one; gives its address."""
    address = f"tcp/127.0.0.1:{port or free_port()}"
    config = zenoh.Config()
    for key, value in {
        "mode": "router",
        "listen/endpoints": [address],
        "scouting/multicast/enabled": False,
    }.items():
        config.insert_json5(key, json.dumps(value))
    with zenoh.open(config):
        yield address


def options(address: str, *, domain: int = 0, **more: Any) -> Ros2Options:
    """Of a node at this router."""
    return Ros2Options(node=NodeName(domain=domain, **more), connect=(address,), listen=("tcp/127.0.0.1:0",))


class Listener:
    """The process of ros_listener.py; `lines` grows while it runs."""

    def __init__(self, address: str, *, domain: int = 0) -> None:
        self.lines: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        command = [sys.executable, str(LISTENER), address, str(domain)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Listener:
        self.wait(lambda line: "ready" in line)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)
        self._thread.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait(self, wanted: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
        """The first `count` lines that are wanted."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.found(wanted)) >= count, PATIENCE_S)
            assert came, f"{len(self.found(wanted))} of {count}, in {self.lines[-5:]}"
            return self.found(wanted)

    def found(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Those so far."""
        return [line for line in self.lines if wanted(line)]

    def messages(self, topic: str, count: int = 1) -> list[dict[str, Any]]:
        """The first `count` messages of this topic, given without the leading /."""
        return self.wait(lambda line: f"/{topic}/" in line.get("key", ""), count)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for text in self.process.stdout:
            if not text.endswith("\n"):  # it was killed in the middle of a line
                return
            with self._changed:
                self.lines.append(json.loads(text))
                self._changed.notify_all()


def boxes(count: int, *, tracked: bool = False, placed: bool = False, seed: int = 0) -> Detections:
    """Boxes anywhere in 640x480; every third without a track or place."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 240, (count, 4)).astype(np.float32)
    corners[:, 2:] += corners[:, :2] + 1
    known = np.arange(count) % 3 != 2
    spread = rng.uniform(0.1, 2, (count, 2, 2)).astype(np.float32)
    places = Places(
        positions_m=np.where(known[:, None], rng.uniform(-50, 50, (count, 2)), np.nan).astype(np.float32),
        covariances_m2=spread @ spread.transpose(0, 2, 1),
        closing_speeds_mps=np.full(count, np.nan, np.float32),
        times_to_collision_s=np.full(count, np.nan, np.float32),
    )
    return Detections(
        boxes_xyxy=corners,
        scores=np.sort(rng.uniform(0, 1, count).astype(np.float32))[::-1].copy(),
        classes=rng.integers(0, len(LABELS), count),
        track_ids=np.where(known, np.arange(count) + 7, -1) if tracked else None,
        track_ages_s=np.zeros(count, np.float32) if tracked else None,
        velocities_px_s=np.zeros((count, 2), np.float32) if tracked else None,
        places=places if placed else None,
    )


def result_of(found: Detections, number: int = 0, *, t_capture_ns: int | None = None) -> tuple[Result, Frame]:
    """A result that was captured just now, with its frame of 64x48."""
    now_ns = time.monotonic_ns()
    captured_ns = now_ns if t_capture_ns is None else t_capture_ns
    image = np.full((48, 64, 3), (number * 10) % 256, np.uint8)
    frame = Frame(image, number, "cam", captured_ns)
    result = Result(
        frame_id=number,
        camera_id="cam",
        t_capture_ns=captured_ns,
        t_publish_ns=now_ns,
        outputs={"detect": found},
        size_hw=(48, 64),
    )
    return result, frame
