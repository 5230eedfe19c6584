"""Rounds of several cameras and bundles: who is in them, how fast, and what one camera's or bundle's trouble costs."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_support import calibration
from rig_support import QUICK, RateCamera, adds_up, rig_of
from runtime_support import FakeCamera, scene

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import keep_open
from edgetl_runtime.capture import EVERY_DEPTH
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.errors import CameraError, EngineError
from edgetl_runtime.golden import GoldenReport
from edgetl_runtime.health import Health
from edgetl_runtime.inject import Injector, parse_faults
from edgetl_runtime.ladder import Ladder, Policy, Step
from edgetl_runtime.repair import Patience
from edgetl_runtime.rig.rig import Rig, gather_ms_of
from edgetl_runtime.rig.round import RigEvent, Round


def rounds_for(rig: Rig, seconds: float, *, enough: Callable[[Round], bool] = lambda made: False) -> list[Round]:
    """What comes in that time, or until there is enough."""
    until_s, found = time.monotonic() + seconds, []
    for made in rig:
        found.append(made)
        if time.monotonic() >= until_s or enough(made):
            break
    return found


def frames_until(camera: str, count: int) -> Callable[[Round], bool]:
    """Whether so many of this camera's frames were in rounds."""
    seen = 0

    def enough(made: Round) -> bool:
        nonlocal seen
        seen += camera in made.frames
        return seen >= count

    return enough


def ids(found: list[Round], camera: str) -> list[int]:
    return [r.frames[camera].frame_id for r in found if camera in r.frames]


def test_every_camera_meets_every_bundle(shared_bundle: Path, shared_many: Path) -> None:
    cameras = {"left": RateCamera(10, 12), "right": RateCamera(10, 12)}
    with rig_of({"boxes": shared_bundle, "all": shared_many}, cameras) as rig:
        found = list(rig)
    for made in found:
        assert set(made.results) | set(made.absent) == {"left", "right"} and not set(made.results) & set(made.absent)
        for camera, results in made.results.items():
            assert list(results) == ["boxes", "all"]
            assert {r.camera_id for r in results.values()} == {camera} == {made.frames[camera].camera_id}
            assert {r.frame_id for r in results.values()} == {made.frames[camera].frame_id}
            assert set(results["all"].outputs) == {"detect", "ground", "light"}
        stamps = [f.t_capture_ns for f in made.frames.values()]
        assert made.skew_ms == pytest.approx((max(stamps) - min(stamps)) / 1e6)
    assert [r.number for r in found] == list(range(len(found)))
    together = [r for r in found if len(r.frames) == 2]
    assert len(together) > 5, "cameras of one rate share their rounds"
    document: Any = rig.summary().as_json()
    json.dumps(document)
    assert adds_up(document) and document["captured"] == 24 and document["processed"] > 12
    assert document["skew_ms"]["count"] == len(together) and document["skew_ms"]["p50_ms"] <= 50
    assert document["states"] == {"fresh": 2 * document["processed"]}
    assert all(camera.closed for camera in cameras.values())


def test_files_give_every_frame_and_end_together(shared_bundle: Path) -> None:
    long = FakeCamera([scene(90, 160, i) for i in range(12)], live=False)
    short = FakeCamera([scene(64, 96, i) for i in range(7)], live=False)
    with rig_of({"b": shared_bundle}, {"long": long, "short": short}) as rig:
        found = list(rig)
    assert ids(found, "long") == list(range(12)) and ids(found, "short") == list(range(7))
    assert found[-1].absent["short"].why == "ended"
    document: Any = rig.summary().as_json()
    assert adds_up(document) and (document["processed"], document["dropped"]) == (19, 0)


def test_files_are_read_ahead_while_an_engine_runs(shared_bundle: Path) -> None:
    """The engine's run on a frame ends once the camera was read again."""
    film = FakeCamera([scene(90, 160, i) for i in range(EVERY_DEPTH + 3)], live=False)
    filled, read = EVERY_DEPTH + 1, list[int]()

    class Waiting(Slow):
        def infer(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
            end_s = time.monotonic() + 10
            while film.reads and film.reads <= filled and time.monotonic() < end_s:
                time.sleep(0.001)
            read.append(film.reads)
            return super().infer(inputs)

    with rig_of({"b": shared_bundle}, {"film": film}, load={"b": lambda: Waiting(shared_bundle, 0.0)}) as rig:
        assert len(list(rig)) == EVERY_DEPTH + 3
    assert read[0] == 0 and read[1] > filled


def test_no_more_frames_than_are_wanted(shared_bundle: Path) -> None:
    films = {name: RateCamera(30, frames=9, live=False) for name in "ab"}
    with rig_of({"b": shared_bundle}, films, max_frames=5) as rig:
        found = list(rig)
    assert sum(len(made.results) for made in found) == rig.summary().total.processed == 5
    assert adds_up(rig.summary().as_json())


def test_ages_end_when_a_round_is_handed_out(shared_bundle: Path) -> None:
    """The first camera's result waits for the second's, and its age says so."""
    slow = {"b": lambda: Slow(shared_bundle, 0.02)}
    with rig_of({"b": shared_bundle}, {"a": RateCamera(20), "z": RateCamera(20)}, load=slow, deadline_ms=30) as rig:
        found = rounds_for(rig, 0.5)
        seen_ns = time.monotonic_ns()
    both = [r for r in found if len(r.results) == 2]
    assert both
    for made in both:
        a, z = made.results["a"]["b"], made.results["z"]["b"]
        assert a.t_publish_ns == z.t_publish_ns <= seen_ns
        assert min(a.age_ms, z.age_ms) >= 40, "both had to wait for two runs of 20 ms"
        assert (a.state, a.health) == ("late", "stale")
    late = sum(r.results["a"]["b"].state == "late" for r in found if "a" in r.results)
    assert rig.summary().cameras["a"]["states"]["late"] == late  # type: ignore[index]


class Slow:
    """The bundle's engine, slower; remembers what it was given."""

    def __init__(self, folder: Path, delay_s: float) -> None:
        self._inner, self._delay_s = load_bundle_engine(open_bundle(folder), threads=1), delay_s
        self.name, self.precision = self._inner.name, self._inner.precision
        self.inputs, self.outputs = self._inner.inputs, self._inner.outputs
        self.given: list[int] = []
        self.closed = False

    def infer(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
        self.given.append(id(next(iter(inputs.values()))))
        time.sleep(self._delay_s)
        return self._inner.infer(inputs)

    def close(self) -> None:
        self.closed = True
        self._inner.close()


def test_bundles_with_one_preprocessing_share_the_letterbox(shared_bundle: Path, shared_many: Path) -> None:
    engines = {"a": Slow(shared_bundle, 0.0), "b": Slow(shared_many, 0.0)}
    load = {name: (lambda e=e: e) for name, e in engines.items()}
    cameras = {"left": RateCamera(100, 20), "right": RateCamera(100, 20)}
    with rig_of({"a": shared_bundle, "b": shared_many}, cameras, load=load) as rig:
        for engine in engines.values():
            engine.given.clear()  # the warm-up
        list(rig)
    for name, seat in rig.seats.items():
        (letterbox,) = seat.letterboxes.all.values()
        assert letterbox.made == seat.processed > 0, name
        assert letterbox._of is None, "the frame's buffer is free for the next picture"
    lanes = [lane for network in rig.networks.values() for lane in network.lanes.values()]
    assert sum(lane.processed for lane in lanes) == 2 * sum(s.processed for s in rig.seats.values())
    assert engines["a"].given == engines["b"].given and len(set(engines["a"].given)) == 2, "one tensor for each camera"
    row = rig.summary().bundles["b"]["stages"]["letterbox"]  # type: ignore[index]
    assert row["p50_ms"] < 0.02


@pytest.mark.parametrize(
    ("trouble", "condition"),
    [
        (RateCamera(30, stuck_at=0), "stalled"),
        (RateCamera(30, stuck_at=15), "stalled"),
        (RateCamera(200), None),
        (RateCamera(200, states=30), None),
        (RateCamera(5), None),
    ],
    ids=["dead from the start", "stalls", "floods", "floods unannounced", "slow"],
)
def test_one_camera_never_slows_another(shared_bundle: Path, trouble: RateCamera, condition: str | None) -> None:
    with rig_of({"b": shared_bundle}, {"good": RateCamera(50), "odd": trouble}) as rig:
        found = rounds_for(rig, 20, enough=frames_until("good", 60))
        document: Any = rig.summary().as_json()
    good = document["cameras"]["good"]
    assert good["processed"] >= 0.6 * good["captured"], good
    assert good["age_ms"]["p50_ms"] < 60
    if trouble.rate < 50:
        assert rig.ledger.snapshot()["gather"]["p50_ms"] < 3, "nobody waits for one that is not due"
    assert ids(found, "good") == sorted(set(ids(found, "good"))) and ids(found, "odd") == sorted(set(ids(found, "odd")))
    if condition:
        assert found[-1].absent["odd"].state == "stale" and condition in found[-1].absent["odd"].why
        assert "good" not in found[-1].absent
    assert adds_up(rig.summary().as_json())


def test_a_stall_and_a_lost_connection_are_one_cameras_own(shared_bundle: Path) -> None:
    injector = Injector(parse_faults("stall=0.3@15,disconnect=0.3@40"))
    health, events = Health(), list[RigEvent]()
    odd = keep_open(lambda stop: RateCamera(60), give_up_s=5.0, health=health, wrap=injector.camera)
    options: dict[str, Any] = {"health": {"odd": health}, "on_event": events.append}
    with rig_of({"b": shared_bundle}, {"good": RateCamera(50), "odd": odd}, **options) as rig:
        found = rounds_for(rig, 8, enough=lambda r: "odd" in r.frames and r.frames["odd"].frame_id > 60)
    assert injector.injected == {"stall": 1, "disconnect": 1}
    said = {(e.camera, e.bundle, e.event.condition) for e in events}
    assert {("odd", None, "stalled"), ("odd", None, "disconnected")} <= said
    assert not {e for e in said if e[0] == "good"}
    assert {r.results["good"]["b"].health for r in found if "good" in r.results} == {"ok"}
    why = Counter(r.absent["odd"].state for r in found if "odd" in r.absent)
    assert why["stale"] and why["fault"], why
    document: Any = rig.summary().as_json()
    good = document["cameras"]["good"]
    assert adds_up(document) and good["processed"] >= 0.85 * good["captured"] > 60
    assert ids(found, "odd") == sorted(set(ids(found, "odd"))) and ids(found, "odd")[-1] > 60, "it came back"


def test_a_camera_that_is_gone_for_good_is_left_out(shared_bundle: Path) -> None:
    dead = FakeCamera([scene(90, 160)] * 9, fail_at=3, delay_s=0.01)
    with rig_of({"b": shared_bundle}, {"good": RateCamera(50, 40), "dead": dead}) as rig:
        found = list(rig)
    assert found[-1].absent["dead"].state == "fault" and "the cable is out" in found[-1].absent["dead"].why
    assert len(ids(found, "good")) > 35
    summary = rig.summary()
    assert summary.total.health["state"] == "fault"
    assert summary.total.health["conditions"] == {"disconnected": "dead: the cable is out"}
    assert adds_up(summary.as_json()) and "dead was lost: the cable is out" in summary.total.notes
    with (
        pytest.raises(CameraError, match="the cable is out"),
        rig_of({"b": shared_bundle}, {"only": FakeCamera([scene(90, 160)], fail_at=1)}) as rig,
    ):
        list(rig)


@pytest.mark.parametrize("sizes_hw", [[(120, 160)], [(90, 160), (120, 160)]], ids=["comes so", "becomes so"])
def test_a_camera_that_does_not_fit_its_calibration_is_its_own_trouble(
    shared_bundle: Path, shared_many: Path, sizes_hw: list[tuple[int, int]]
) -> None:
    """It was not there at the start, so nobody could ask for its size."""
    opened: list[RateCamera] = []

    def opener(stop: threading.Event) -> RateCamera:
        if not opened:
            opened.append(RateCamera(0.1))
            raise CameraError("not there yet")
        opened.append(RateCamera(50, 10 if len(opened) < len(sizes_hw) else 1000, size_hw=sizes_hw[len(opened) - 1]))
        return opened[-1]

    health, events = Health(), list[RigEvent]()
    late = keep_open(opener, give_up_s=0.0, absent="late", health=health)
    options: dict[str, Any] = {"health": {"late": health}, "on_event": events.append}
    options["calibrations"] = dict.fromkeys(("good", "late"), calibration())
    bundles = {"a": shared_bundle, "b": shared_many}
    with rig_of(bundles, {"good": RateCamera(50), "late": late}, **options) as rig:
        found = rounds_for(rig, 20, enough=lambda r: "late" in r.frames and r.frames["late"].frame_id > 40)
        document: Any = rig.summary().as_json()
    told = [(e.camera, e.bundle, e.event.began) for e in events if e.event.condition == "uncalibrated"]
    assert told == [("late", None, True)] and len(opened) == 1 + len(sizes_hw)
    odd = [r for made in found if made.frames.get("late") is not None for r in made.results["late"].values()]
    odd = [r for r in odd if r.size_hw == (120, 160)]
    assert len(odd) > 20 and {r.health for r in odd} == {"fault"}
    for result in odd:
        assert result.detections.places is not None and np.isnan(result.detections.places.positions_m).all()
    good = [r for made in found for r in made.results.get("good", {}).values()]
    assert {r.health for r in good} == {"ok"} and document["cameras"]["late"]["failed"] == 0
    assert "160x120" in document["health"]["conditions"]["uncalibrated"]


def test_all_cameras_silent_for_too_long_end_the_run(shared_bundle: Path) -> None:
    short = Patience(stall_s=0.05, give_up_s=0.3)
    cameras = {"a": RateCamera(50, stuck_at=5), "b": RateCamera(50, stuck_at=9)}
    with (
        pytest.raises(CameraError, match=r"[ab] gave no frame for 0\.3 s"),
        rig_of({"b": shared_bundle}, cameras, patience=short) as rig,
    ):
        list(rig)
    assert all(c.closed for c in cameras.values()) and adds_up(rig.summary().as_json())


def faulty(folder: Path, plan: str, made: list[Engine] | None = None) -> tuple[Injector, Any]:
    injector = Injector(parse_faults(plan))

    def load() -> Engine:
        engine = injector.engine(load_bundle_engine(open_bundle(folder), threads=1))
        if made is not None:
            made.append(engine)
        return engine

    return injector, load


def test_a_bundle_that_fails_is_repaired_while_the_other_runs(shared_bundle: Path, shared_many: Path) -> None:
    made: list[Engine] = []
    events: list[RigEvent] = []
    _, load = faulty(shared_many, "engine=6@20,nan=1@60", made)
    bundles = {"good": shared_bundle, "odd": shared_many}
    cameras = {"left": RateCamera(50, 60), "right": RateCamera(50, 60)}
    with rig_of(bundles, cameras, load={"odd": load}, on_event=events.append) as rig:
        found = list(rig)
    document: Any = rig.summary().as_json()
    assert adds_up(document) and document["failed"] == 0, "every frame has the good bundle's result"
    good, odd = document["bundles"]["good"], document["bundles"]["odd"]
    assert good["processed"] == document["processed"] > 100 and good["failed"] == 0
    assert odd["failed"] >= 4 and odd["reloads"] == 1 == len(made) - 1
    assert odd["processed"] > 60 and odd["health"]["state"] == "ok"
    assert {r.health for m in found for by in m.results.values() for n, r in by.items() if n == "good"} == {"ok"}
    failed = [m.failures[c]["odd"] for m in found for c in m.failures if "odd" in m.failures[c]]
    assert len(failed) == odd["failed"] and "injected" in failed[0]
    assert (None, "odd", "engine") in {(e.camera, e.bundle, e.event.condition) for e in events if e.event.began}
    assert {e.bundle for e in events} == {"odd"}
    dropped = [r.dropped_before for m in found for by in m.results.values() for n, r in by.items() if n == "odd"]
    assert sum(dropped) >= odd["failed"]


def test_loading_again_takes_no_time_of_the_loop(shared_bundle: Path, shared_many: Path) -> None:
    _, load = faulty(shared_many, "engine=3@8")
    first = [load()]

    def slowly() -> Engine:
        if first:
            return first.pop()
        time.sleep(0.5)
        return load()

    bundles = {"good": shared_bundle, "odd": shared_many}
    with rig_of(bundles, {"c": RateCamera(50, 70)}, load={"odd": slowly}) as rig:
        list(rig)
    document: Any = rig.summary().as_json()
    assert (
        document["bundles"]["good"]["processed"] >= 50 and document["bundles"]["good"]["stages"]["age"]["max_ms"] < 450
    )
    assert document["bundles"]["odd"]["reloads"] == 1 and 20 < document["bundles"]["odd"]["failed"] < 45


def test_what_fails_for_one_camera_only_is_that_cameras_trouble(shared_bundle: Path) -> None:
    """NaN for black pictures: the engine works for the other camera, so it is neither loaded again nor given up."""
    made: list[Engine] = []

    class Picky(Slow):
        def infer(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
            outputs = dict(self._inner.infer(inputs))
            if next(iter(inputs.values())).max() < 120 and inputs[self.inputs[0].name].any():
                outputs["scores"] = np.full_like(outputs["scores"], np.nan)
            return outputs

    def load() -> Engine:
        made.append(Picky(shared_bundle, 0.0))
        return made[-1]

    dark = FakeCamera([np.full((90, 160, 3), 3 + i, np.uint8) for i in range(80)], delay_s=0.02)
    short = Patience(stall_s=0.5, give_up_s=0.4)
    events: list[RigEvent] = []
    options: dict[str, Any] = {"patience": short, "on_event": events.append}
    with rig_of({"b": shared_bundle}, {"dark": dark, "good": RateCamera(50, 80)}, load={"b": load}, **options) as rig:
        list(rig)
    document: Any = rig.summary().as_json()
    assert len(made) == 1 and document["bundles"]["b"]["lost"] is None
    assert document["cameras"]["dark"]["processed"] <= 1 and document["cameras"]["good"]["processed"] > 70
    assert "not_finite" in document["cameras"]["dark"]["bundles"]["b"]["health"]["conditions"]
    assert document["bundles"]["b"]["health"]["state"] == "ok" and adds_up(document)
    began = Counter((e.camera, e.bundle) for e in events if e.event.began and e.event.condition == "not_finite")
    assert began["dark", "b"] <= 2 and began[None, "b"] <= 2, "it is said once, not at every frame"


def test_a_bundle_beyond_repair_is_given_up_and_the_last_one_raises(shared_bundle: Path, shared_many: Path) -> None:
    short = Patience(stall_s=0.5, give_up_s=0.3)
    _, load = faulty(shared_many, "engine@8/1")
    bundles = {"good": shared_bundle, "odd": shared_many}
    with rig_of(bundles, {"c": RateCamera(50, 50)}, load={"odd": load}, patience=short) as rig:
        found = list(rig)
    document: Any = rig.summary().as_json()
    assert document["bundles"]["good"]["processed"] >= 30 and "injected" in document["bundles"]["odd"]["lost"]
    assert document["bundles"]["odd"]["dropped"] > 5 and adds_up(document)
    assert found[-1].failures["c"]["odd"] and list(found[-1].results["c"]) == ["good"]
    assert document["health"]["state"] == "fault"
    _, load = faulty(shared_many, "engine@8/1")
    with (
        pytest.raises(EngineError, match="injected"),
        rig_of({"odd": shared_many}, {"c": RateCamera(50)}, load={"odd": load}, patience=short) as rig,
    ):
        list(rig)
    assert adds_up(rig.summary().as_json())


def test_errors_of_files_are_raised_at_once(shared_bundle: Path) -> None:
    _, load = faulty(shared_bundle, "engine@5")
    film = FakeCamera([scene(90, 160, i) for i in range(9)], live=False)
    with (
        pytest.raises(EngineError, match="injected"),
        rig_of({"b": shared_bundle}, {"film": film}, load={"b": load}) as rig,
    ):
        list(rig)
    assert film.closed and adds_up(rig.summary().as_json())


def test_leaving_early_closes_everything_and_counts_all(shared_bundle: Path) -> None:
    engine = Slow(shared_bundle, 0.0)
    cameras = {"a": RateCamera(100), "b": RateCamera(30)}
    with (
        pytest.raises(KeyboardInterrupt),
        rig_of({"b": shared_bundle}, cameras, load={"b": lambda: engine}) as rig,
    ):
        for made in rig:
            if made.number == 9:
                engine.infer = interrupted  # type: ignore[method-assign]
    assert engine.closed and all(c.closed for c in cameras.values())
    assert adds_up(rig.summary(interrupted=True).as_json())


def interrupted(inputs: object) -> Any:
    raise KeyboardInterrupt


def test_the_usual_time_to_gather_is_half_the_shortest_interval() -> None:
    assert gather_ms_of({"a": RateCamera(50), "b": RateCamera(10)}) == 10.0
    silent = RateCamera(10)
    silent.fps = 0.0
    assert gather_ms_of({"a": silent}) == pytest.approx(500 / 30)


@pytest.mark.parametrize("gather_ms", [0.0, 15.0])
def test_the_deadline_bounds_the_wait(shared_bundle: Path, gather_ms: float) -> None:
    cameras = {"a": RateCamera(40), "b": RateCamera(40, phase_s=0.008)}
    with rig_of({"b": shared_bundle}, cameras, gather_ms=gather_ms, patience=QUICK) as rig:
        found = rounds_for(rig, 0.8)[2:]
    together = sum(len(r.frames) == 2 for r in found)
    assert together < 0.4 * len(found) if gather_ms == 0 else together > 0.6 * len(found)
    assert rig.ledger.snapshot()["gather"]["p50_ms"] < gather_ms + 5


def test_the_ladder_leaves_cameras_out_and_takes_them_back(shared_bundle: Path) -> None:
    slow = Slow(shared_bundle, 0.04)
    own = Health()
    policy = Policy(deadline_ms=70, down_after_s=0.3, up_after_s=0.5, steps=(Step(cameras=("front",)),))
    ladder = Ladder(policy, own, lambda name, step: slow)
    cameras = {"left": RateCamera(30), "front": RateCamera(30)}
    events: list[RigEvent] = []
    options: dict[str, Any] = {"ladder": ladder, "own_health": own, "on_event": events.append, "gather_ms": 30.0}
    with rig_of({"b": shared_bundle}, cameras, load={"b": lambda: slow}, **options) as rig:
        found = rounds_for(rig, 10, enough=lambda r: ladder.changes >= 2)
    alone = [r for r in found if ladder.policy.steps and "left" not in r.frames and r.number > 3]
    assert len(alone) >= 5 and all("front" in r.frames for r in alone)
    assert {r.results["front"]["b"].health for r in alone[1:]} == {"degraded"}
    whole = {(e.camera, e.bundle, e.event.condition, e.event.began) for e in events}
    assert (None, None, "ladder", True) in whole
    document: Any = rig.summary().as_json()
    assert adds_up(document) and document["cameras"]["left"]["dropped"] > 5
    assert document["health"]["counts"]["ladder"] >= 1


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (lambda: RateCamera(50, stuck_at=25), r"front gave no frame for 0\.3 s"),
        (lambda: FakeCamera([scene(90, 160)] * 40, fail_at=25, delay_s=0.02), "the cable is out"),
    ],
    ids=["silent", "lost"],
)
def test_cameras_that_the_ladder_left_out_dont_keep_a_rig_alive(
    shared_bundle: Path, front: Callable[[], Any], message: str
) -> None:
    """No result comes any more that could take them back."""
    own = Health()
    policy = Policy(deadline_ms=0.001, down_after_s=0.05, up_after_s=60, steps=(Step(cameras=("front",)),))
    left = RateCamera(50, 1000)
    options: dict[str, Any] = {
        "ladder": Ladder(policy, own, lambda name, step: Slow(shared_bundle, 0)),
        "own_health": own,
    }
    short = Patience(stall_s=0.05, give_up_s=0.3)
    with (
        pytest.raises(CameraError, match=message),
        rig_of({"b": shared_bundle}, {"left": left, "front": front()}, patience=short, **options) as rig,
    ):
        rounds_for(rig, 10)
    assert left.closed and adds_up(rig.summary().as_json())


def test_a_steps_engine_is_used_where_the_one_before_broke_meanwhile(shared_bundle: Path) -> None:
    """No result comes any more that could be late, and the engine before can't be loaded again."""
    broke = threading.Event()

    class Breaks(Slow):
        left = 12

        def infer(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Mapping[str, np.ndarray[Any, Any]]:
            self.left -= 1
            if self.left < 0:
                broke.set()
                raise EngineError("it is broken")
            return super().infer(inputs)

    first: list[Engine] = [Breaks(shared_bundle, 0.02)]

    def only_once() -> Engine:
        if not first:
            raise EngineError("its file is gone")
        return first.pop()

    def of_step(name: str, step: Step | None) -> Engine:
        assert broke.wait(10)
        return load_bundle_engine(open_bundle(shared_bundle), threads=1)

    policy = Policy(deadline_ms=1, down_after_s=0.05, up_after_s=60, steps=(Step(engine="openvino", bundle="b"),))
    own = Health()
    options: dict[str, Any] = {"ladder": Ladder(policy, own, of_step), "own_health": own}
    with rig_of({"b": shared_bundle}, {"cam": RateCamera(50)}, load={"b": only_once}, **options) as rig:
        found = rounds_for(rig, 10, enough=lambda made: broke.is_set() and bool(made.results["cam"]))
    assert broke.is_set() and found[-1].results["cam"], "it runs again"


def test_the_ladder_skips_rounds_and_stops(shared_bundle: Path) -> None:
    slow = Slow(shared_bundle, 0.03)
    own = Health()
    policy = Policy(deadline_ms=1, down_after_s=0.2, up_after_s=60, steps=(Step(skip=2), Step(stop=True)))
    ladder = Ladder(policy, own, lambda name, step: slow)
    options: dict[str, Any] = {"ladder": ladder, "own_health": own}
    with rig_of({"b": shared_bundle}, {"a": RateCamera(50, 100)}, load={"b": lambda: slow}, **options) as rig:
        found = list(rig)
    document: Any = rig.summary().as_json()
    assert ladder.stopped and ladder.skipped > 5 and adds_up(document)
    assert document["processed"] == len(found) < 60
    assert document["health"]["state"] == "fault" and "stopped" in document["health"]["conditions"]


class _Halves:
    """An engine that fails from its second run on."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._runs = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def infer(self, inputs: Any) -> Any:
        self._runs += 1
        if self._runs > 1:
            raise EngineError("out of memory")
        return self._engine.infer(inputs)


def test_an_engine_that_one_camera_cannot_use_is_used_by_none(shared_bundle: Path) -> None:
    with rig_of({"b": shared_bundle}, {"left": RateCamera(60, 2), "right": RateCamera(60, 2)}) as rig:
        network = rig.networks["b"]
        before, other = network.engine, load_bundle_engine(open_bundle(shared_bundle))
        with pytest.raises(EngineError, match="out of memory"):
            network.exchange(_Halves(other))  # type: ignore[arg-type]
        other.close()
        assert network.engine is before
        assert all(lane.pipeline.engine is before for lane in network.lanes.values())


def test_the_replay_of_all_bundles_is_the_worst_of_each_and_none_where_one_was_skipped(shared_bundle: Path) -> None:
    film = FakeCamera([scene(90, 160)], live=False)
    near, far = (GoldenReport(n, error, 0.1, ok=True, heads={}) for n, error in ((1, 0.001), (2, 0.05)))
    with rig_of({"a": shared_bundle, "b": shared_bundle}, {"film": film}) as rig:
        rig.networks["a"].golden, rig.networks["b"].golden = far, near
        assert rig.summary().total.golden == {"frames": 3, "worst_rel_error": 0.05, "tolerance": 0.1, "ms": 0.0}
        rig.networks["a"].golden = None
        assert rig.summary().total.golden == {"frames": 0}
