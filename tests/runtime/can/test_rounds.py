"""Objects of several cameras on a CAN bus, at logical times: whose, how old, and what one camera's trouble says."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from can_support import HASH, MS, Clock, FakeBus, detections_of, result_of
from rig_support import RateCamera, rig_of

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.can.receiver import CanReceiver, CanView
from edgetl_runtime.can.rounds import CanRounds, RigLanes
from edgetl_runtime.can.sink import CanSender
from edgetl_runtime.health import MEANS, Condition, Health
from edgetl_runtime.ladder import Ladder, Policy, Step
from edgetl_runtime.result import Result
from edgetl_runtime.rig.round import Round
from edgetl_runtime.spec import DetectHead

BLIND = {c: s for c, s in MEANS.items() if s in ("stale", "fault")}


def head(*labels: str) -> DetectHead:
    return DetectHead(name="objects", labels=labels, max_detections=8, thresholds=(0.5,) * len(labels), stride=16)


@dataclass
class FakeRig:
    """The healths of a rig."""

    cameras: tuple[str, ...]
    bundles: tuple[str, ...]
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.seats = {c: SimpleNamespace(feed=SimpleNamespace(health=Health(c))) for c in self.cameras}
        self.networks = {
            b: SimpleNamespace(health=Health(), lanes={c: SimpleNamespace(health=Health(c)) for c in self.cameras})
            for b in self.bundles
        }


class Wire:
    """A sender of a rig and a receiver with one clock."""

    def __init__(
        self,
        cameras: tuple[str, ...] = ("front", "left"),
        *,
        heads: dict[str, DetectHead] | None = None,
        ladder: Ladder | None = None,
        begun: bool = True,
        **options: Any,
    ) -> None:
        heads = heads or {"road": head("vehicle", "pedestrian", "light")}
        self.clock, self.bus, self.number = Clock(), FakeBus(), 0
        self.rig = FakeRig((*cameras, "blind"), tuple(heads))
        self.lanes = RigLanes(cameras, heads, ladder)
        given: dict[str, Any] = {"bundle_sha256": HASH, "clock_ns": self.clock, "paced": False}
        self.rounds = CanRounds(self.lanes, lambda each: CanSender(lambda: self.bus, each, **(given | options)))
        self.receiver = CanReceiver(clock_ns=self.clock, labels=self.lanes.labels)
        if begun:
            self.rounds.begin(self.rig)  # type: ignore[arg-type]

    def show(self, *, bundle: str = "road", **found: Any) -> None:
        """A round of now; by camera its places, or its result."""
        results: dict[str, dict[str, Result]] = {}
        for camera, each in found.items():
            made = each if isinstance(each, Result) else result_of(detections_of(each), self.clock(), camera_id=camera)
            results[camera] = {bundle: made}
        self.rounds.write(Round(self.number, {}, results, {}, {}, 0.0))
        self.number += 1

    def cycle(self) -> CanView:
        """One cycle later: what the receiver makes of it."""
        self.clock.pass_ms(50)
        self.bus.sent.clear()
        self.rounds.sender.step()
        for can_id, data in self.bus.sent:
            self.receiver.receive(can_id, data)
        return self.receiver.view()


def test_objects_of_all_cameras_are_sent_the_most_urgent_first() -> None:
    wire = Wire()
    wire.show(front=[(40.0, 0.0), (12.0, 1.0)], left=[(2.0, 6.0)])
    view = wire.cycle()
    assert (view.state, view.missing, view.placed, view.left_out, view.bundle_hash) == ("ok", (), True, 0, 0xABCDEF)
    assert [(o.x_m, o.y_m) for o in view.objects] == [(2.0, 6.0), (12.0, 1.0), (40.0, 0.0)]
    assert view.result_age_ms == 50


def test_an_object_that_both_see_is_sent_once() -> None:
    wire = Wire()
    wire.show(front=[(20.0, 3.0), (30.0, 0.0)], left=[(20.2, 3.1)])
    view = wire.cycle()
    assert len(view.objects) == 2 and view.left_out == 0


def test_more_objects_than_slots_are_counted_once_each() -> None:
    wire = Wire()
    wire.show(
        front=[(10.0 + 5 * i, 0.0) for i in range(7)], left=[(10.0, 0.1), *((-5.0, 5.0 * i) for i in range(1, 5))]
    )
    view = wire.cycle()
    assert len(view.objects) == 8 and view.left_out == 3


def test_of_a_crowd_the_most_urgent_are_sent() -> None:
    wire = Wire()
    wire.show(front=[(200.0 - i, 20.0) for i in range(150)], left=[(0.0, 100.0 - i / 2) for i in range(150)])
    view = wire.cycle()
    assert view.left_out == 7 and len(view.objects) == 8
    nearest = [(0.0, 100 - i / 2) for i in range(149, 141, -1)]
    assert [(o.x_m, o.y_m) for o in view.objects] == nearest


@pytest.mark.parametrize("cameras", [1, 2, 3, 4, 7])
def test_track_numbers_are_unique_over_cameras(cameras: int) -> None:
    names = tuple("abcdefg"[:cameras])
    wire = Wire(names)
    for high in (0, 65535 // cameras - 3, 70_000):
        seen: dict[str, Any] = {}
        for i, name in enumerate(names):
            found = detections_of([(100.0 * i - 300, 0.0)])
            found.track_ids[:] = high + 5 * i  # type: ignore[index]
            seen[name] = result_of(found, wire.clock())
        wire.show(**seen)
        view = wire.cycle()
        numbers = [o.track_id for o in view.objects]
        assert None not in numbers and len(set(numbers)) == cameras
        again = wire.cycle()
        assert [o.track_id for o in again.objects] == numbers


def test_ages_are_each_cameras_own_and_the_status_has_the_oldest() -> None:
    wire = Wire()
    wire.show(left=[(0.0, 8.0)])
    wire.clock.pass_ms(120)
    wire.show(front=[(20.0, 0.0)])
    view = wire.cycle()
    assert view.state == "ok" and view.result_age_ms == 170
    assert [(o.x_m, o.age_ms) for o in view.objects] == [(0.0, 170), (20.0, 50)]


@pytest.mark.parametrize("condition", sorted(BLIND))
@pytest.mark.parametrize("where", ["all", "camera", "bundle", "lane"])
def test_the_next_cycle_says_what_is_wrong_with_any_of_them(condition: Condition, where: str) -> None:
    wire = Wire()
    wire.show(front=[(20.0, 0.0)], left=[(0.0, 8.0)])
    assert wire.cycle().current
    network = wire.rig.networks["road"]
    healths = {
        "all": wire.rig.health,
        "camera": wire.rig.seats["left"].feed.health,
        "bundle": network.health,
        "lane": network.lanes["left"].health,
    }
    healths[where].set(condition, "for a test")
    wire.show(front=[(20.0, 0.0)])
    view = wire.cycle()
    assert view.state == BLIND[condition] and not view.objects
    healths[where].clear(condition)
    wire.show(front=[(19.0, 0.0)], left=[(0.0, 8.0)])
    assert wire.cycle().state == "ok"


def test_a_camera_whose_objects_are_not_sent_does_not_count() -> None:
    wire = Wire()
    wire.rig.seats["blind"].feed.health.set("disconnected", "for a test")
    wire.show(front=[(20.0, 0.0)], left=[], blind=[(1.0, 0.0)])
    view = wire.cycle()
    assert view.state == "ok" and len(view.objects) == 1


def test_one_camera_that_says_nothing_is_stale_in_the_cycle_after_the_limit() -> None:
    wire = Wire(max_age_ms=200)
    wire.show(left=[(0.0, 8.0)])
    states = []
    for _ in range(6):
        wire.show(front=[(20.0, 0.0)])
        view = wire.cycle()
        states.append((view.state, view.result_age_ms, len(view.objects)))
    assert states == [
        ("ok", 50, 2),
        ("ok", 100, 2),
        ("ok", 150, 2),
        ("ok", 200, 2),
        ("stale", 250, 0),
        ("stale", 300, 0),
    ]


def test_nothing_is_known_before_every_camera_gave_something() -> None:
    wire = Wire(begun=False)
    wire.show(front=[(20.0, 0.0)], left=[])
    assert wire.cycle().state == "stale", "the rig has not begun"
    wire = Wire()
    wire.show(front=[(20.0, 0.0)])
    view = wire.cycle()
    assert view.state == "stale" and view.result_age_ms is None and not view.objects
    wire.show(left=[])
    assert wire.cycle().current


def ladder_of(health: Health, *steps: Step) -> Ladder:
    def load(bundle: str, step: Step | None) -> Any:
        raise AssertionError("no step of these loads an engine")

    return Ladder(Policy(deadline_ms=50, steps=steps), health, load)


def test_a_camera_that_the_ladder_leaves_out_is_not_waited_for() -> None:
    health = Health()
    ladder = ladder_of(health, Step(cameras=("front",)), Step(stop=True))
    wire = Wire(ladder=ladder, max_age_ms=200)
    wire.rig.health = health
    wire.show(front=[(20.0, 0.0)], left=[(0.0, 8.0)])
    assert wire.cycle().state == "ok"
    ladder._go(1, "for a test")
    for _ in range(8):
        wire.show(front=[(20.0, 0.0)])
        view = wire.cycle()
        assert (view.state, view.result_age_ms) == ("degraded", 50)
        assert [o.x_m for o in view.objects] == [20.0], "what the other camera saw is not current"
    wire.rig.seats["left"].feed.health.set("stalled", "it is left out")
    assert wire.cycle().state == "degraded"
    wire.rig.seats["left"].feed.health.clear("stalled")
    ladder._go(0, "for a test")
    assert wire.cycle().state == "stale", "it counts again, and has said nothing yet"
    wire.show(front=[(20.0, 0.0)], left=[(0.0, 8.0)])
    assert wire.cycle().state == "ok"
    ladder._go(2, "for a test")
    assert wire.cycle().state == "fault"


def test_where_the_ladder_keeps_none_of_them_nothing_is_current() -> None:
    health = Health()
    ladder = ladder_of(health, Step(cameras=("blind",)))
    wire = Wire(ladder=ladder, max_age_ms=200)
    wire.rig.health = health
    wire.show(front=[(20.0, 0.0)], left=[])
    ladder._go(1, "for a test")
    states = [wire.cycle().state for _ in range(6)]
    assert states[-1] == "stale" and set(states) == {"degraded", "stale"}


def test_labels_of_several_bundles_are_one_list() -> None:
    heads = {"road": head("vehicle", "pedestrian"), "signs": head("light", "pedestrian")}
    wire = Wire(("front",), heads=heads)
    assert wire.lanes.labels == ("vehicle", "pedestrian", "light")
    wire.show(front=[(20.0, 0.0), (30.0, 9.0)])
    other = result_of(detections_of([(50.0, 0.0), (60.0, 9.0)]), wire.clock(), frame_id=1)
    wire.show(bundle="signs", front=other)  # of another frame, as all boxes here are the same
    view = wire.cycle()
    assert [(o.x_m, o.kind, o.label) for o in view.objects] == [
        (20.0, 0, "vehicle"), (30.0, 1, "pedestrian"), (50.0, 2, "light"), (60.0, 1, "pedestrian")
    ]  # fmt: skip


def test_the_last_cycle_says_so() -> None:
    wire = Wire()
    wire.show(front=[(20.0, 0.0)], left=[])
    wire.cycle()
    wire.bus.sent.clear()
    wire.rounds.close()
    wire.rounds.close()
    for can_id, data in wire.bus.sent:
        wire.receiver.receive(can_id, data)
    assert wire.receiver.view().state == "ended" and wire.bus.closed == 1 and wire.rounds.notes == []


def test_a_late_result_of_one_camera_is_never_current() -> None:
    wire = Wire()
    wire.show(front=[(20.0, 0.0)], left=result_of(detections_of([]), wire.clock(), state="late"))
    assert wire.cycle().state == "stale"
    wire.show(left=result_of(detections_of([]), wire.clock(), valid_until_ns=wire.clock() + 75 * MS))
    assert wire.cycle().current
    wire.show(front=[(20.0, 0.0)])
    assert wire.cycle().state == "stale"


def test_on_a_running_rig_one_camera_that_stalls_is_said(shared_bundle: Path) -> None:
    bus = FakeBus()
    heads = {"b": next(h for h in open_bundle(shared_bundle).manifest.heads if isinstance(h, DetectHead))}
    rounds = CanRounds(
        RigLanes(("left", "right"), heads),
        lambda lanes: CanSender(lambda: bus, lanes, bundle_sha256=HASH, cycle_ms=10, max_age_ms=5000),
    )
    cameras = {"left": RateCamera(50), "right": RateCamera(50, stuck_at=20)}
    with rig_of({"b": shared_bundle}, cameras) as rig:
        rounds.begin(rig)
        stalled_s = 0.0
        for made in rig:
            rounds.write(made)
            if rig.seats["right"].feed.health.holds("stalled"):
                stalled_s = stalled_s or time.monotonic()
                if time.monotonic() - stalled_s > 0.2:
                    break
    rounds.close()
    receiver, states = CanReceiver(cycle_ms=10), []
    for can_id, data in bus.sent:
        if (view := receiver.receive(can_id, data)) is not None:
            states.append(view.state)
    told = [state for state, _ in itertools.groupby(states)]
    assert told[0] == "stale" and "ok" in told and told[-2:] == ["stale", "ended"], told
