"""The sink on a running loop: it keeps its pace whatever the loop does, and the loop whatever the bus does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest
from can_support import HASH, Clock, FakeBus, detections_of, result_of, write
from runtime_support import FakeCamera, scene, until

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.can import CanReceiver, CanSink
from edgetl_runtime.can.receiver import CanView
from edgetl_runtime.health import Health

WAIT_S = 30.0
"""For what must come; on a quiet machine it takes a few cycles."""


class Listener:
    """A receiver at the other end of a virtual bus, in a thread of its own; keeps every view."""

    def __init__(self, channel: str, cycle_ms: float) -> None:
        self.receiver = CanReceiver(cycle_ms=cycle_ms, timeout_ms=10 * cycle_ms)
        self.views: list[CanView] = []
        self.bus = can.Bus(interface="virtual", channel=channel)
        self.ended = False
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        while not self.ended:
            message = self.bus.recv(0.02)
            if message is not None and (view := self.receiver.receive(message.arbitration_id, message.data)):
                self.views.append(view)

    def wait_for(self, state: str, *, after: int = 0, objects: int | None = None) -> CanView:
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            for view in self.views[after:]:
                if view.state == state and (objects is None or len(view.objects) == objects):
                    return view
            time.sleep(0.005)
        raise AssertionError(f"no view is {state}: {[v.state for v in self.views[after:]]}")


@contextmanager
def listening(channel: str, cycle_ms: float = 20.0) -> Iterator[Listener]:
    listener = Listener(channel, cycle_ms)
    try:
        yield listener
    finally:
        listener.ended = True
        listener.thread.join()
        listener.bus.shutdown()


def sink_on(channel: str, health: Health, **options: Any) -> CanSink:
    return CanSink(
        lambda: can.Bus(interface="virtual", channel=channel),
        "objects",
        health,
        bundle_sha256=HASH,
        cycle_ms=20,
        **options,
    )


@pytest.fixture
def channel() -> str:
    return f"edgetl-{time.monotonic_ns()}"


def test_the_status_goes_on_where_results_stop(channel: str) -> None:
    health = Health("cam")
    with listening(channel) as listener:
        sink = sink_on(channel, health, max_age_ms=2000)
        write(sink, result_of(detections_of([(10.0, 0.0)]), time.monotonic_ns()))
        listener.wait_for("ok", objects=1)
        health.set("stalled", "for a test")  # the loop does nothing from here on
        seen = len(listener.views)
        listener.wait_for("stale", after=seen)
        health.clear("stalled")
        health.set("engine", "for a test")
        listener.wait_for("fault", after=seen)
        health.clear("engine")
        listener.wait_for("stale", after=len(listener.views))  # the result has grown too old meanwhile, or does
        sink.close()
        listener.wait_for("ended")
    assert not [t for t in threading.enumerate() if t.name == "can sender"]
    assert sink.failed == 0 and not sink.notes


def test_on_a_loop_whose_consumer_hangs(shared_bundle: Path, channel: str) -> None:
    bundle = open_bundle(shared_bundle)
    head, hang = bundle.manifest.heads[0].name, threading.Event()
    camera = FakeCamera([scene(64, 96, i) for i in range(16)] * 4000, delay_s=0.01)
    health, results = Health(), []

    def consume(result: Any) -> None:
        results.append(result)
        if len(results) == 10:
            hang.wait(WAIT_S)

    with listening(channel) as listener:
        sink = CanSink(
            lambda: can.Bus(interface="virtual", channel=channel),
            head,
            health,
            bundle_sha256=HASH,
            cycle_ms=20,
            max_age_ms=1000,
        )

        def drive() -> None:
            options: dict[str, Any] = {"sinks": [sink], "on_result": consume, "health": health}
            edgetl_runtime.run(bundle, camera, max_frames=30, threshold=0.0, **options)

        loop = threading.Thread(target=drive)
        loop.start()
        listener.wait_for("ok", objects=8)
        stale = listener.wait_for("stale", after=len(listener.views))
        assert not stale.objects
        ages = [v.result_age_ms for v in listener.views if v.state in ("ok", "degraded")]
        assert all(age is not None and age <= 1000 for age in ages)
        hang.set()
        loop.join()
        listener.wait_for("ended")
    assert camera.closed and sink.sent > 10


def test_a_bus_that_blocks_and_fails_never_holds_up_the_loop(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    release = threading.Event()

    def hang() -> Exception:
        release.wait(WAIT_S)
        return can.CanOperationError("gone")

    said: list[str] = []
    health = Health()
    sink = CanSink(
        lambda: FakeBus(fails=hang),
        bundle.manifest.heads[0].name,
        health,
        bundle_sha256=HASH,
        say=said.append,
    )
    camera = FakeCamera([scene(64, 96, i) for i in range(20)], live=False)
    summary_of: list[int] = []

    def note(result: Any) -> None:
        summary_of.append(result.frame_id)
        if len(summary_of) == 20:
            release.set()

    summary = edgetl_runtime.run(bundle, camera, sinks=[sink], on_result=note, health=health)
    assert summary.processed == 20
    assert sink.sent == 0 and sink.failed >= 1
    assert [text for text in said if "bus" in text] == ["the bus takes no frames, trying on: gone"]
    assert sink.notes == [f"CAN: {sink.failed} of {sink.failed} cycles were not sent: gone"]


def test_a_mistake_in_one_cycle_does_not_end_the_others() -> None:
    bus, said, health = FakeBus(), list[str](), Health("cam")
    sink = CanSink(lambda: bus, "objects", health, bundle_sha256=HASH, cycle_ms=5, say=said.append)
    broken = detections_of([(1.0, 1.0)])
    object.__setattr__(broken, "classes", np.array(["x"]))
    write(sink, result_of(broken, time.monotonic_ns()))
    until(lambda: any("no frames in this cycle" in text for text in said), WAIT_S)
    time.sleep(0.1)
    assert sum("no frames in this cycle" in text for text in said) == 1, "told once while it lasts"
    write(sink, result_of(detections_of([(1.0, 1.0)]), time.monotonic_ns()))
    before = sink.sent
    until(lambda: sink.sent > before, WAIT_S)
    sink.close()


def test_the_pace_does_not_catch_up() -> None:
    clock = Clock()
    sink = CanSink(FakeBus, "objects", Health("cam"), bundle_sha256=HASH, clock_ns=clock, cycle_ms=5)
    until(lambda: sink.sent >= 5, WAIT_S)
    start_s, before = time.monotonic(), sink.sent
    time.sleep(0.1)
    count, took_s = sink.sent - before, time.monotonic() - start_s
    sink.close()
    assert count <= took_s / 0.005 + 2
