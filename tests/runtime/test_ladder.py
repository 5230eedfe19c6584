"""The ladder: what is late goes down step by step, what is on time comes back, and neither flutters."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rig_support import RateCamera
from runtime_support import FakeCamera

from edgetl_runtime.bundle import Bundle, open_bundle
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.health import Event, Health
from edgetl_runtime.ladder import Ladder, Policy, Step, read_policy
from edgetl_runtime.loop import run
from edgetl_runtime.repair import Patience
from edgetl_runtime.result import Result

STEPS = (Step(skip=2), Step(variant="small"), Step(stop=True))


class Fake:
    """An engine or a pipeline of one; remembers what happened to it."""

    def __init__(self, name: str = "first") -> None:
        self.name, self.closed = name, False
        self.engine: Fake = self

    def exchange(self, engine: Fake) -> None:
        if engine.name == "sick":
            raise EngineError("its first run failed")
        self.engine = engine

    def close(self) -> None:
        self.closed = True


class Rig:
    """A ladder on a clock of its own; `results` feeds ages, 20 a second."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.health = Health("cam")
        self.pipeline = Fake()
        self.pipeline.engine = Fake("chosen")
        self.loads: list[Step | None] = []
        self.loaded_for: list[str] = []
        self.other = Fake()
        self.other.engine = Fake("other's")
        self.policy = Policy(deadline_ms=100, steps=options.pop("steps", STEPS), **options)
        self.ladder = Ladder(self.policy, self.health, self._load, clock=lambda: self.now)  # type: ignore[arg-type]

    def _load(self, bundle: str, step: Step | None) -> Fake:
        self.loads.append(step)
        self.loaded_for.append(bundle)
        if step is not None and step.variant == "huge":
            raise MemoryError
        if step is not None and step.variant == "broken":
            raise EngineError("no such file")
        return Fake("chosen" if step is None else str(step.variant))

    def results(self, seconds: float, age_ms: float) -> None:
        for _ in range(round(seconds * 20)):
            self.now += 0.05
            self.ladder.exchange({"": self.pipeline, "other": self.other})  # type: ignore[dict-item]
            if self.ladder.takes():
                self.ladder.observe(age_ms)
                if self.ladder._loading is not None:
                    self.ladder._loading.join()


def test_late_results_go_down_step_by_step_to_the_safe_stop() -> None:
    rig = Rig()
    rig.results(1.2, 150)
    assert rig.ladder.at == 1 and rig.health.state == "degraded"
    assert rig.health.status().conditions["ladder"] == "step 1 of 3, one frame in 2: results are later than 100 ms"
    rig.results(1.2, 150)
    assert rig.ladder.at == 2
    rig.results(0.1, 150)
    assert rig.pipeline.engine.name == "small" and rig.loads == [Step(variant="small")]
    rig.results(3, 150)
    assert rig.ladder.stopped and rig.health.state == "fault"
    assert not any(rig.ladder.takes() for _ in range(10))
    assert [(e.condition, e.began) for e in rig.health.tick()] == [
        ("ladder", True),
        ("ladder", False),
        ("ladder", True),
        ("ladder", False),
        ("stopped", True),
    ]


def test_a_step_keeps_what_those_before_it_gave_up() -> None:
    rig = Rig()
    rig.results(3, 150)
    assert rig.ladder.at == 2
    skipped = rig.ladder.skipped
    assert [rig.ladder.takes() for _ in range(6)].count(True) == 3
    assert rig.ladder.skipped == skipped + 3


def test_on_time_comes_back_and_the_engine_with_it() -> None:
    rig = Rig(up_after_s=5)
    rig.results(2.4, 150)
    first = rig.pipeline.engine
    rig.results(6, 20)
    assert rig.ladder.at == 1 and rig.loads == [Step(variant="small"), None]
    rig.results(0.2, 20)
    assert rig.pipeline.engine.name == "chosen" and first.closed
    rig.results(6, 20)
    assert rig.ladder.at == 0 and rig.health.state == "ok"
    assert all(rig.ladder.takes() for _ in range(5))


def test_a_cameras_silence_is_neither_on_time_nor_late() -> None:
    rig = Rig()
    rig.results(1.1, age_ms=150)
    assert rig.ladder.at == 1
    rig.results(1, age_ms=20)
    rig.now += 3600
    rig.results(8.5, age_ms=20)
    assert rig.ladder.at == 1, "on time for 9.5 s of the 10 that it takes"
    rig.results(1, age_ms=20)
    assert rig.ladder.at == 0
    rig.results(0.5, age_ms=20)
    rig.now += 3600
    rig.results(0.1, age_ms=5000)
    assert rig.ladder.at == 0, "the first frame of a camera that is back may be old"


def test_an_engine_that_takes_seconds_is_late_all_the_same() -> None:
    rig = Rig()
    for _ in range(3):
        assert rig.ladder.takes()
        rig.now += 5
        rig.ladder.observe(5000)
        if rig.ladder.at:
            break
        rig.now += 0.01
    assert rig.ladder.at == 1


def test_now_and_then_late_changes_nothing() -> None:
    rig = Rig()
    for i in range(200):
        rig.results(0.05, 150 if i % 3 == 0 else 20)
    assert rig.ladder.at == 0 and rig.ladder.changes == 0


def test_what_does_not_hold_is_tried_less_and_less() -> None:
    """A load that only one frame in two can bear: up again is late again."""
    rig = Rig(steps=(Step(skip=2),), up_after_s=2)
    ups = []
    for _ in range(6000):
        before = rig.ladder.at
        rig.results(0.05, 20 if rig.ladder.at else 150)
        if rig.ladder.at < before:
            ups.append(rig.now)
    waits = np.diff(ups)
    assert len(ups) < 9 and (np.diff(waits) > -0.2).all() and waits[-1] > 4 * waits[0]


def test_a_step_that_can_not_be_taken_is_said_and_the_next_one_follows() -> None:
    rig = Rig(steps=(Step(variant="broken"), Step(skip=3)))
    rig.results(1.3, 150)
    assert rig.health.status().conditions["ladder"] == "step 1 of 2 can't be taken: no such file"
    assert rig.pipeline.engine.name == "chosen" and not rig.pipeline.engine.closed
    rig.results(1.3, 150)
    assert rig.ladder.at == 2


def test_no_memory_for_an_engine_is_a_step_that_can_not_be_taken() -> None:
    rig = Rig(steps=(Step(variant="broken"), Step(variant="huge"), Step(skip=2)))
    rig.results(2.5, 150)
    assert rig.health.status().conditions["ladder"] == "step 2 of 3 can't be taken: MemoryError"
    assert rig.pipeline.engine.name == "chosen" and not rig.pipeline.engine.closed


def test_an_engine_that_does_not_run_is_not_used() -> None:
    rig = Rig(steps=(Step(variant="sick"),))
    rig.results(1.3, 150)
    assert rig.health.status().conditions["ladder"] == "step 1 of 1 can't be taken: its first run failed"
    assert rig.pipeline.engine.name == "chosen" and not rig.pipeline.engine.closed


def test_what_is_loaded_again_is_what_runs(tmp_path: Path) -> None:
    """Neither a step that is still being loaded nor one that can't be taken."""
    rig = Rig(steps=(Step(variant="small"), Step(variant="broken"), Step(variant="sick")), up_after_s=5)
    may = threading.Event()
    load = rig.ladder._load
    rig.ladder._load = lambda bundle, step: (may.wait(10), load(bundle, step))[1]
    assert rig.ladder.pair_of("") is None
    for _ in range(24):
        rig.now += 0.05
        rig.ladder.observe(150)
    assert rig.ladder.at == 1 and rig.ladder.pair_of("") is None
    may.set()
    rig.results(0.2, 150)
    assert rig.pipeline.engine.name == "small" and rig.ladder.pair_of("") == Step(variant="small")
    again: Any = rig.ladder.again()
    assert again.name == "small" and again is not rig.pipeline.engine
    rig.results(2.5, 150)
    assert rig.ladder.at == 3 and rig.ladder.pair_of("") == Step(variant="small")
    assert rig.ladder.pair_of("other") is None
    rig.results(40, 20)
    assert rig.ladder.at == 0 and rig.ladder.pair_of("") is None


def test_fewer_cameras_and_another_bundles_variant() -> None:
    steps = (Step(variant="small", bundle="other"), Step(cameras=("left", "front")), Step(cameras=("front",)))
    rig = Rig(steps=steps, up_after_s=5)
    assert all(rig.ladder.keeps(c) for c in ("left", "front", "right"))
    rig.results(1.4, 150)
    assert rig.other.engine.name == "small" and rig.pipeline.engine.name == "chosen"
    rig.results(1.2, 150)
    assert [rig.ladder.keeps(c) for c in ("left", "front", "right")] == [True, True, False]
    rig.results(1.2, 150)
    assert [rig.ladder.keeps(c) for c in ("left", "front", "right")] == [False, True, False]
    assert rig.health.status().conditions["ladder"].startswith("step 3 of 3, front only: results are later")
    rig.results(5.2, 20)
    assert [rig.ladder.keeps(c) for c in ("left", "front", "right")] == [True, True, False]
    rig.results(11, 20)
    assert rig.ladder.at == 0 and rig.loaded_for == ["other", "other"] and rig.loads == [steps[0], None]
    assert str(steps[0]) == "small of other"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Expected `object`"),
        ("deadline_ms: 0\nsteps: [{skip: 2}]", "deadline_ms"),
        ("deadline_ms: 50\nsteps: []", "steps"),
        ("deadline_ms: 50\nsteps: [{skip: 1}]", "skip"),
        ("deadline_ms: 50\nsteps: [{skip: 2, stop: true}]", "a step is one of"),
        ("deadline_ms: 50\nsteps: [{}]", "a step is one of"),
        ("deadline_ms: 50\nsteps: [{stop: true}, {skip: 2}]", "stop must be the last"),
        ("deadline_ms: 50\nsteps: [{cameras: 1}]", "cameras"),
        ("deadline_ms: 50\nsteps: [{cameras: []}]", "cameras"),
        ("deadline_ms: 50\nsteps: [{skip: 2, bundle: road}]", "bundle says whose variant"),
        ("deadline_ms: 50\nsteps: [{cameras: [a], variant: x}]", "a step is one of"),
        ("deadline_ms: 50\nsteps: [{skip: 2}]\nspeed: 3", "speed"),
        ("deadline_ms: .nan\nsteps: [{skip: 2}]", "deadline_ms"),
        ("deadline_ms: 50\nsteps: [{skip: 2}", "ladder.yaml"),
        ("[" * 100000, "more than 65536 bytes"),
        ("[" * 5000, "ladder.yaml"),
    ],
)
def test_what_is_no_ladder_is_one_line(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "ladder.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=found):
        read_policy(path)


def test_a_ladder_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ladder.yaml"
    path.write_text("deadline_ms: 80\nup_after_s: 4\nsteps:\n  - skip: 2\n  - {variant: int8, engine: openvino}\n")
    policy = read_policy(path)
    assert policy == Policy(deadline_ms=80, up_after_s=4, steps=(Step(skip=2), Step(variant="int8", engine="openvino")))
    assert [str(step) for step in policy.steps] == ["one frame in 2", "int8 on openvino"]
    with pytest.raises(InputError, match="can't read"):
        read_policy(tmp_path / "none.yaml")


def test_a_slow_engine_is_exchanged_while_the_loop_runs(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)

    class Slow:
        def __init__(self, inner: Engine, delay_s: float) -> None:
            self._inner, self._delay_s = inner, delay_s
            self.name, self.precision, self.inputs, self.outputs = (
                inner.name, inner.precision, inner.inputs, inner.outputs,
            )  # fmt: skip

        def infer(self, inputs: Any) -> Any:
            time.sleep(self._delay_s)
            return self._inner.infer(inputs)

        def close(self) -> None:
            self._inner.close()

    health = Health()
    policy = Policy(deadline_ms=40, down_after_s=0.2, up_after_s=60, steps=(Step(engine="openvino"),))
    ladder = Ladder(policy, health, lambda _, step: Slow(load_bundle_engine(bundle), 0.0))
    rng = np.random.default_rng(0)
    camera = FakeCamera([rng.integers(60, 160, (90, 160, 3), dtype=np.uint8) for _ in range(300)], delay_s=0.01)
    results: list[Result] = []
    events: list[Event] = []
    summary = run(
        bundle,
        camera,
        engine=Slow(load_bundle_engine(bundle), 0.06),
        golden="skip",
        health=health,
        ladder=ladder,
        on_result=results.append,
        on_event=events.append,
    )
    assert [e.condition for e in events] == ["ladder"] and "openvino" in events[0].detail
    first, last = results[0].age_ms, float(np.median([r.age_ms for r in results[-20:]]))
    assert first > 50 and last < 45
    assert results[-1].health == "degraded" and ladder.at == 1
    assert summary.captured == summary.processed + summary.dropped + summary.failed


def test_frames_that_a_step_leaves_out_are_dropped_ones(shared_bundle: Path) -> None:
    policy = Policy(deadline_ms=0.001, down_after_s=0.1, up_after_s=60, steps=(Step(skip=3),))
    health = Health()
    ladder = Ladder(policy, health, lambda _, step: pytest.fail("no engine is loaded"))
    camera = FakeCamera([np.full((90, 160, 3), i, np.uint8) for i in range(120)], delay_s=0.005)
    results: list[Result] = []
    summary = run(open_bundle(shared_bundle), camera, health=health, ladder=ladder, on_result=results.append)
    assert ladder.skipped > 20 and summary.dropped >= ladder.skipped
    assert summary.captured == 120 == summary.processed + summary.dropped and summary.processed == len(results)
    between = sum(result.dropped_before for result in results)
    assert between == results[-1].frame_id + 1 - len(results), "each result tells what was left out before it"


class Breaks:
    """The bundle's engine; every run of it takes 20 ms, and after `runs` of them it fails for good."""

    def __init__(self, bundle: Bundle, runs: int, breaks: threading.Event) -> None:
        self._inner, self._left, self._breaks = load_bundle_engine(bundle), runs, breaks
        self.name, self.precision, self.inputs = "old", self._inner.precision, self._inner.inputs
        self.outputs = self._inner.outputs

    def infer(self, inputs: Any) -> Any:
        time.sleep(0.02)
        self._left -= 1
        if self._left < 0:
            self._breaks.set()
            raise EngineError("it is broken")
        return self._inner.infer(inputs)

    def close(self) -> None:
        self._inner.close()


def test_a_steps_engine_is_used_where_the_one_before_broke_meanwhile(shared_bundle: Path) -> None:
    """No result comes any more that could be late, and the engine before can't be loaded again."""
    bundle, broke = open_bundle(shared_bundle), threading.Event()

    def load(_: str, step: Step | None) -> Engine:
        assert broke.wait(10)
        return load_bundle_engine(bundle)

    def gone() -> Engine:
        raise EngineError("its file is gone")

    policy = Policy(deadline_ms=1, down_after_s=0.05, up_after_s=60, steps=(Step(engine="openvino"),))
    camera, results = RateCamera(50), list[Result]()

    def take(result: Result) -> None:
        results.append(result)
        if broke.is_set():
            camera.interrupt()

    run(
        bundle,
        camera,
        engine=Breaks(bundle, 12, broke),
        golden="skip",
        ladder=Ladder(policy, Health(), load),
        patience=Patience(give_up_s=3),
        reload=gone,
        on_result=take,
    )
    assert broke.is_set() and len(results) > 10


def test_the_engine_that_a_step_brought_is_the_one_that_is_loaded_again(shared_bundle: Path) -> None:
    bundle, broke = open_bundle(shared_bundle), threading.Event()
    loads: list[Step | None] = []

    def load(_: str, step: Step | None) -> Engine:
        loads.append(step)
        return load_bundle_engine(bundle) if len(loads) > 1 else Breaks(bundle, 4, broke)

    step = Step(engine="openvino")
    policy = Policy(deadline_ms=0.001, down_after_s=0.05, up_after_s=60, steps=(step,))
    camera, results = RateCamera(50), list[Result]()

    def take(result: Result) -> None:
        results.append(result)
        if broke.is_set():
            camera.interrupt()

    ladder = Ladder(policy, Health(), load)
    run(bundle, camera, golden="skip", ladder=ladder, patience=Patience(give_up_s=8), on_result=take)
    assert broke.is_set() and loads == [step, step]
