"""What a service manager hears: ready after the first fresh result, fed by fresh results and by nothing else."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runtime_support import snapshot_of
from service_support import Manager, result_of, start_run

from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Event
from edgetl_runtime.result import Frame
from edgetl_runtime.rig.round import Round
from edgetl_runtime.rig.sinks import NotifyRounds
from edgetl_runtime.service.notify import Notifier, NotifySink, notifier_of

S = 1_000_000_000
FRAME = Frame(np.zeros((4, 4, 3), np.uint8), 0, "cam", 0)


class FakeNotifier(Notifier):
    """Keeps what is sent."""

    def __init__(self, watchdog_s: float | None) -> None:
        super().__init__("@unused", watchdog_s=watchdog_s)
        self.sent: list[str] = []

    def send(self, *lines: str) -> None:
        self.sent += lines


class Bench:
    """A sink with a clock that the test turns."""

    def __init__(self, watchdog_s: float | None = 8.0, lanes: list[str] | None = None) -> None:
        self.now_ns = 100 * S
        self.notifier = FakeNotifier(watchdog_s)
        self.sink = NotifySink(self.notifier, clock_ns=lambda: self.now_ns)
        self.sink.begin(None if lanes is None else lambda: lanes)
        self.notifier.sent.clear()

    def at(self, seconds: float, lane: str = "", *, age_s: float = 0.01, **kind: str) -> list[str]:
        """What one result at this time makes it send."""
        self.now_ns = int((100 + seconds) * S)
        self.notifier.sent.clear()
        self.sink.published(result_of(t_capture_ns=self.now_ns - int(age_s * S), **kind), lane)  # type: ignore[arg-type]
        return [line for line in self.notifier.sent if not line.startswith("STATUS=")]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = f"@edgetl-{uuid.uuid4().hex}" if request.param == "abstract" else str(tmp_path / "notify")
    manager = Manager(address)
    yield manager
    manager.close()


def test_ready_comes_once_with_the_first_fresh_result() -> None:
    bench = Bench()
    assert bench.at(0, state="late") == []
    assert bench.at(1, health="stale") == []
    assert bench.at(2, health="fault") == []
    assert bench.at(3, health="degraded") == ["READY=1", "WATCHDOG=1"]
    assert bench.at(3.1) == []
    assert bench.at(6) == ["WATCHDOG=1"]


@pytest.mark.parametrize("kind", [{"state": "late"}, {"health": "stale"}, {"health": "fault"}])
def test_results_that_are_not_fresh_never_feed(kind: dict[str, str]) -> None:
    bench = Bench()
    bench.at(0)
    assert [bench.at(s, **kind) for s in range(1, 30)] == [[]] * 29
    assert bench.at(30) == ["WATCHDOG=1"]


def test_without_a_deadline_what_is_older_than_the_watchdogs_time_does_not_feed() -> None:
    bench = Bench(watchdog_s=8.0)
    bench.at(0)
    assert bench.at(5, age_s=8.1) == []
    assert bench.at(5.1, age_s=7.9) == ["WATCHDOG=1"]


def test_no_feed_without_a_watchdog() -> None:
    bench = Bench(watchdog_s=None)
    assert bench.at(0) == ["READY=1"]
    assert bench.at(500) == []


def test_every_camera_and_bundle_has_to_be_fresh() -> None:
    bench = Bench(lanes=["left road", "right road"])
    assert bench.at(0, "left road") == []
    assert bench.at(1, "left road") == []
    assert bench.at(1.5, "right road") == ["READY=1", "WATCHDOG=1"]
    assert [bench.at(s, "left road") for s in range(2, 20)] == [[]] * 18, "the right one is missing"
    assert bench.at(20, "right road") == ["WATCHDOG=1"]


def test_a_camera_that_is_left_out_is_not_waited_for() -> None:
    lanes = ["left road", "right road"]
    bench = Bench(lanes=lanes)
    bench.at(0, "left road")
    assert bench.at(0, "right road") == ["READY=1", "WATCHDOG=1"]
    assert bench.at(3, "left road") == []
    lanes.remove("right road")
    assert bench.at(4, "left road") == ["WATCHDOG=1"]
    lanes.append("right road")
    assert [bench.at(s, "left road") for s in range(7, 12)] == [[]] * 5


def test_a_round_feeds_by_camera_and_bundle() -> None:
    bench = Bench(lanes=["left road", "right road"])
    fresh = result_of(t_capture_ns=bench.now_ns)
    NotifyRounds(bench.sink).write(Round(0, {}, {"left": {"road": fresh}, "right": {"road": fresh}}, {}, {}, 0.0))
    assert "READY=1" in bench.notifier.sent


def test_the_start_may_take_longer_and_the_status_says_what_goes_on() -> None:
    notifier = FakeNotifier(None)
    now_ns = [0]
    sink = NotifySink(notifier, clock_ns=lambda: now_ns[0])
    assert notifier.sent[0] == "EXTEND_TIMEOUT_USEC=300000000" and "engine" in notifier.sent[1]
    sink.watch(snapshot_of)
    assert notifier.sent[2] == "EXTEND_TIMEOUT_USEC=120000000" and "first fresh result" in notifier.sent[3]
    sink.event(Event(0, "cam", "stalled", True, "stale", "no frame for 0.5 s\nat all"))
    assert notifier.sent[-1] == "STATUS=stale: no frame for 0.5 s at all", "one line"
    sink.event(Event(0, "cam", "stalled", False, "ok", "no frame"))
    assert notifier.sent[-1] == "STATUS=ok: stalled is over"
    sink.write(result_of(), FRAME, None)
    now_ns[0] = 6 * S
    sink.write(result_of(t_capture_ns=6 * S), FRAME, None)
    assert notifier.sent[-1].startswith("STATUS=ok: 0 results, 0 dropped, 0 failed, age p99")
    sink.close()
    sink.close()
    assert notifier.sent.count("STOPPING=1") == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-3"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_time_is_the_environments(environment: dict[str, str], expected: float | None) -> None:
    notifier = notifier_of({"NOTIFY_SOCKET": "@edgetl-test", **environment}, pid=7)
    assert notifier is not None and notifier.watchdog_s == expected
    assert notifier_of(environment, pid=7) is None, "nobody listens"


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:3", "/" + "x" * 200])
def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="NOTIFY_SOCKET"):
        Notifier(address)


def test_messages_arrive_and_a_manager_that_is_gone_costs_nothing(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    sink = NotifySink(notifier)
    notifier.send("READY=1", "STATUS=zwölf")
    manager.wait_for("READY=1")
    manager.wait_for("STATUS=zwölf")
    assert sink.notes == []
    manager.close()
    notifier.send("STATUS=nobody")
    assert sink.notes == ["1 messages to the service manager could not be sent"]
    sink.close()


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier = Notifier(str(tmp_path / "deaf"))
        for _ in range(5000):
            notifier.send("WATCHDOG=1")
        assert notifier.lost > 0
        notifier.close()


def test_a_run_is_ready_is_fed_and_stops(manager: Manager, shared_bundle: Path) -> None:
    process = start_run(manager, [str(shared_bundle), "roadworld:day", "--camera-size", "160x96"], watchdog_s=0.4)
    manager.wait_for("WATCHDOG=1", count=5)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    manager.wait_for("STOPPING=1")
    assert process.returncode == 0, told
    assert len(manager.times("READY=1")) == 1
    assert manager.lines.index("READY=1") < manager.lines.index("WATCHDOG=1")
    assert "EXTEND_TIMEOUT_USEC=300000000" in manager.lines[0]


FAULTS = {
    "the engine fails": (["--inject", "engine@60/1", "--stall-s", "60"], "failed (injected)"),
    "the camera stalls": (["--inject", "stall=600@60", "--stall-s", "4"], "no frame"),
    "the picture is frozen": (["--inject", "freeze=100000@60", "--frozen-s", "0.3", "--stall-s", "60"], "not changed"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_nothing_is_fed_while_results_are_not_fresh(
    tmp_path: Path, shared_bundle: Path, fault: list[str], said: str
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    camera = ["roadworld:day", "--camera-size", "160x96", "--camera-fps", "25", "--give-up-s", "0"]
    words = [str(shared_bundle), *camera, *fault]
    process = start_run(manager, words, watchdog_s=0.2)
    try:
        manager.wait_for("WATCHDOG=1", count=3)
        manager.wait_until(said)
        fed = len(manager.times("WATCHDOG=1"))
        time.sleep(1.0)
        assert process.poll() is None
        assert len(manager.times("WATCHDOG=1")) == fed, "a timer or a thread feeds"
    finally:
        process.kill()
        process.communicate()
        manager.close()


def test_late_results_feed_nothing(tmp_path: Path, shared_bundle: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    words = [str(shared_bundle), "roadworld:day", "--camera-size", "160x96", "--deadline-ms", "0.001"]
    process = start_run(manager, [*words, "--max-frames", "15"], watchdog_s=0.2)
    _, told = process.communicate(timeout=60)
    manager.wait_for("STOPPING=1")
    manager.close()
    assert process.returncode == 0 and "15 late" in told
    assert "READY=1" not in manager.lines and "WATCHDOG=1" not in manager.lines


def test_a_rig_notifies_too(tmp_path: Path, shared_bundle: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    words = [str(shared_bundle), "roadworld:day", "--also-camera", "rear=roadworld:night", "--camera-size", "160x96"]
    process = start_run(manager, words, watchdog_s=2.0)
    manager.wait_for("READY=1")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    manager.wait_for("STOPPING=1")
    manager.close()
    assert process.returncode == 0, told


def test_no_socket_no_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import ExitStack

    from edgetl.commands.notifying import open_notify

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with ExitStack() as stack:
        assert open_notify(stack) == []
    monkeypatch.setenv("NOTIFY_SOCKET", "@edgetl-nobody")
    with ExitStack() as stack:
        assert len(open_notify(stack)) == 1
    assert os.environ["NOTIFY_SOCKET"]
