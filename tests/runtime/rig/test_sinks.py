"""Sinks of one lane in a rig: whose results and events they get, what they can ask, how a rig is ended by one."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rig_support import RateCamera, rig_of
from runtime_support import FakeCamera, scene

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.health import Event
from edgetl_runtime.result import Frame, Result
from edgetl_runtime.rig.round import RigEvent, Round
from edgetl_runtime.rig.sinks import LaneName, LaneSinks, RigPublisher, awaited_lanes


@dataclass
class Kept:
    """A sink that keeps what it is given and can be watched."""

    needs_picture: bool = False
    stop: bool = False
    results: list[Any] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    source: Any = None
    closed: int = 0

    def watch(self, source: Any) -> None:
        self.source = source

    def write(self, result: Any, frame: Any, picture: Any) -> None:
        assert (frame.frame_id, frame.camera_id) == (result.frame_id, result.camera_id)
        self.results.append(result)
        self.pictures.append(None if picture is None else picture.copy())

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1


def test_each_sink_gets_its_own_lane(shared_bundle: Path, shared_many: Path) -> None:
    heads = {"boxes": open_bundle(shared_bundle).manifest.heads, "all": open_bundle(shared_many).manifest.heads}
    lanes = {LaneName(c, b): [Kept()] for c in ("left", "right") for b in heads}
    drawn = Kept(needs_picture=True)
    lanes[LaneName("right", "boxes")].append(drawn)
    sinks = LaneSinks(heads, lanes)
    films = {n: FakeCamera([scene(90, 160, i) for i in range(5)], live=False) for n in ("left", "right")}
    with rig_of({"boxes": shared_bundle, "all": shared_many}, films) as rig:
        sinks.begin(rig)
        for made in rig:
            sinks.write(made)
        sinks.close()
    for name, (kept, *_) in lanes.items():
        assert [r.frame_id for r in kept.results] == list(range(5)) and kept.pictures == [None] * 5
        assert {r.camera_id for r in kept.results} == {name.camera} and kept.closed == 1
        assert ("ground" in kept.results[0].outputs) == (name.bundle == "all")
        told = kept.source()
        assert (told.camera_id, told.bundle, told.processed, told.newest) == (*_pair(name), 5, kept.results[-1])
        assert told.captured == told.processed + told.dropped + told.failed
        json.dumps(told.as_json())
        assert "publish" not in told.stages, "that is of a round"
    assert all(p is not None and p.shape == (90, 160, 3) for p in drawn.pictures) and len(drawn.pictures) == 5


def _pair(name: LaneName) -> tuple[str, str]:
    return name.camera, name.bundle


def test_events_of_the_last_round_are_told(shared_bundle: Path) -> None:
    events: list[RigEvent] = []
    film = FakeCamera([scene(90, 160, i) for i in range(5)], live=False)
    with rig_of({"b": shared_bundle}, {"a": film}, deadline_ms=1e-6, on_event=events.append) as rig:
        next(iter(rig))
        assert not events
    assert [(e.camera, e.bundle, e.event.condition) for e in events] == [("a", "b", "late")]


def test_a_service_does_not_wait_for_a_camera_that_is_gone_while_another_is_there(shared_bundle: Path) -> None:
    cameras = {"left": RateCamera(50), "right": RateCamera(50)}
    with rig_of({"b": shared_bundle}, cameras) as rig:
        left, right = (rig.seats[name].feed.health for name in ("left", "right"))
        assert awaited_lanes(rig) == ["left b", "right b"]
        right.set("stalled", "a restart may help")
        assert awaited_lanes(rig) == ["left b", "right b"]
        right.set("disconnected", "the cable is out")
        assert awaited_lanes(rig) == ["left b"]
        right.clear("disconnected")
        right.set("absent", "it has not come yet")
        assert awaited_lanes(rig) == ["left b"]
        right.clear("absent")
        right.set("uncalibrated", "another mode")
        assert awaited_lanes(rig) == ["left b"], "a restart would be of no use"
        left.set("disconnected", "the cable is out")
        assert awaited_lanes(rig) == ["left b", "right b"]


def test_a_sink_may_end_the_rig(shared_bundle: Path) -> None:
    kept = Kept()
    sinks = LaneSinks({"b": open_bundle(shared_bundle).manifest.heads}, {LaneName("a", "b"): [kept]})
    assert not sinks.stop
    kept.stop = True
    assert sinks.stop


def test_all_are_closed_where_closing_one_raises() -> None:
    class Raises(Kept):
        def close(self) -> None:
            raise OSError("the disk is gone")

    good = Kept(), Kept()
    lanes = {LaneName("a", "b"): [good[0]], LaneName("c", "b"): [Raises()], LaneName("d", "b"): [good[1]]}
    with pytest.raises(OSError, match="the disk is gone"):
        LaneSinks({"b": ()}, lanes).close()
    assert [sink.closed for sink in good] == [1, 1]


@pytest.mark.parametrize(
    ("camera", "bundle", "lanes"),
    [
        (None, None, {"ax", "ay", "bx", "by"}),
        ("a", None, {"ax", "ay"}),
        (None, "y", {"ay", "by"}),
        ("b", "x", {"bx"}),
        ("gone", None, set()),
    ],
)
def test_events_go_to_the_lanes_that_they_are_of(camera: str | None, bundle: str | None, lanes: set[str]) -> None:
    kept = {LaneName(c, b): [Kept()] for c in "ab" for b in "xy"}
    event = Event(1, "", "dark", True, "degraded", "black")
    LaneSinks({"x": (), "y": ()}, kept).event(RigEvent(camera, bundle, event))
    assert {n.camera + n.bundle for n, (sink,) in kept.items() if sink.events} == lanes


def test_a_lanes_health_is_the_rigs_the_cameras_and_its_own(shared_bundle: Path) -> None:
    kept = Kept()
    sinks = LaneSinks({"b": open_bundle(shared_bundle).manifest.heads}, {LaneName("a", "b"): [kept]})
    with rig_of({"b": shared_bundle}, {"a": RateCamera(50, 5), "z": RateCamera(50, 5)}) as rig:
        sinks.begin(rig)
        rig.seats["z"].feed.health.set("dark", "elsewhere")
        assert kept.source().status.state == "ok" and kept.source().newest is None
        rig.seats["a"].feed.health.set("dark", "lens covered")
        rig.health.set("ladder", "step 1")
        rig.networks["b"].lanes["a"].health.set("late", "too late")
        told = kept.source()
    assert told.status.state == "stale"
    assert told.status.conditions == {"ladder": "step 1", "dark": "lens covered", "late": "too late"}
    assert [e.condition for e in told.events] == ["dark", "ladder", "late"], "by time"


class Fails:
    """A sink of a rig or of a lane that raises once it is given something."""

    needs_picture = False
    stop = False

    def __init__(self, *, good: bool) -> None:
        self.good, self.given, self.closed = good, 0, 0

    def begin(self, rig: Any) -> None:
        """Nothing to do."""

    def write(self, *given: object) -> None:
        self.given += 1
        if not self.good:
            raise OSError(28, "No space left on device")

    event = write

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("what", ["round", "event"])
@pytest.mark.parametrize("lanes", [True, False])
def test_a_sink_of_a_live_rig_fails_alone(live: bool, what: str, lanes: bool) -> None:
    rig: Any = SimpleNamespace(seats={"c": SimpleNamespace(feed=SimpleNamespace(live=live))})
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 0, "c", 0)
    result = Result(0, "c", 0, 1, {}, (4, 4))
    made = Round(0, {"c": frame}, {"c": {"b": result}}, {}, {}, 0.0)
    event = RigEvent("c", "b", Event(0, "c", "dark", True, "degraded", "dark"))
    sinks: list[Any] = [Fails(good=True), Fails(good=False), Fails(good=True)]
    publisher: Any = LaneSinks({"b": ()}, {LaneName("c", "b"): sinks}) if lanes else RigPublisher(sinks)
    publisher.begin(rig)
    for i in range(3):
        with nullcontext() if live else pytest.raises(OSError, match="No space"):
            publisher.write(made) if what == "round" else publisher.event(event)
        assert [s.given for s in sinks] == ([i + 1, 1, i + 1] if live else [i + 1, i + 1, 0])
    notes = publisher.notes if lanes else publisher.broken.notes
    assert notes == (["Fails got nothing any more: OSError: [Errno 28] No space left on device"] if live else [])
    assert [s.closed for s in sinks] == [0, int(live), 0]
