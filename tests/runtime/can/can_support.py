"""Results with and without places, a clock that a test moves, and a bus that does what it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgetl_runtime.can.dbc import FIRST_ID, MAX_SLOTS
from edgetl_runtime.can.receiver import CanReceiver
from edgetl_runtime.can.sink import CanSink
from edgetl_runtime.health import Health
from edgetl_runtime.result import Detections, Frame, Places, Result

MS = 1_000_000
CYCLE_NS = 50 * MS
LABELS = ("vehicle", "pedestrian", "light")
HASH = "abcdef" + "0" * 58


@dataclass
class Clock:
    """Nanoseconds that pass when a test says so."""

    ns: int = 10_000 * MS

    def __call__(self) -> int:
        return self.ns

    def pass_ms(self, ms: float) -> None:
        self.ns += round(ms * MS)


def detections_of(positions_m: list[tuple[float, float]], *, closing: list[float] | None = None) -> Detections:
    """Placed and tracked objects; the n-th has class n % 3, score 0.5 + n/100 and track number 100 + n."""
    n = len(positions_m)
    places = Places(
        np.array(positions_m, np.float32).reshape(n, 2),
        np.tile(np.diag([0.25, 0.04]).astype(np.float32), (n, 1, 1)),
        np.array(closing or [0.0] * n, np.float32),
        np.full(n, np.nan, np.float32),
    )
    return Detections(
        np.tile(np.array([10, 10, 20, 20], np.float32), (n, 1)),
        (0.5 + np.arange(n) / 100).astype(np.float32),
        np.arange(n) % 3,
        track_ids=100 + np.arange(n),
        track_ages_s=np.ones(n, np.float32),
        velocities_px_s=np.zeros((n, 2), np.float32),
        places=places,
    )


def result_of(found: Detections, t_ns: int, **changes: Any) -> Result:
    """A result of a picture that was captured at t_ns."""
    values: dict[str, Any] = {
        "frame_id": 0,
        "camera_id": "cam",
        "t_capture_ns": t_ns,
        "t_publish_ns": t_ns + 20 * MS,
        "outputs": {"objects": found},
        "size_hw": (64, 96),
    }
    return Result(**(values | changes))


def write(sink: CanSink, result: Result) -> None:
    """As the loop does."""
    sink.write(result, Frame(np.zeros((64, 96, 3), np.uint8), 0, "cam", result.t_capture_ns), None)


@dataclass
class FakeBus:
    """Keeps what was sent; `fails` is asked before each frame and gives what is to be raised."""

    fails: Callable[[], Exception | None] = lambda: None
    sent: list[tuple[int, bytes]] = field(default_factory=list)
    closed: int = 0

    def send(self, msg: Any, timeout: float | None = None) -> None:
        assert timeout == 0, "sending must not wait"
        error = self.fails()
        if error is not None:
            raise error
        self.sent.append((msg.arbitration_id, bytes(msg.data)))

    def shutdown(self) -> None:
        self.closed += 1


class Wire:
    """A sink and a receiver with one clock; `cycle` sends one and gives its frames, which a test delivers."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.health, self.bus = Clock(), Health("cam"), FakeBus()
        self.said: list[str] = []
        given: dict[str, Any] = {"bundle_sha256": HASH, "clock_ns": self.clock, "say": self.said.append, "paced": False}
        self.sink = CanSink(lambda: self.bus, "objects", self.health, **(given | options))
        self.receiver = CanReceiver(
            base_id=options.get("base_id", FIRST_ID),
            slots=options.get("slots", MAX_SLOTS),
            labels=LABELS,
            clock_ns=self.clock,
        )

    def show(self, positions_m: list[tuple[float, float]], **changes: Any) -> None:
        """A result of now."""
        write(self.sink, result_of(detections_of(positions_m), self.clock(), **changes))

    def cycle(self) -> list[tuple[int, bytes]]:
        """One cycle later: its frames."""
        self.clock.pass_ms(50)
        self.bus.sent.clear()
        self.sink.step()
        return list(self.bus.sent)

    def deliver(self, frames: list[tuple[int, bytes]]) -> None:
        """What arrives."""
        for can_id, data in frames:
            self.receiver.receive(can_id, data)
