"""A live loop under faults: each is seen, said, and over when it is over; nothing stale passes as fresh."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import FakeCamera, scene, tiny_model

import edgetl_runtime
from edgetl_runtime.bundle import Bundle, open_bundle
from edgetl_runtime.engines import Engine, load_bundle_engine, load_engine
from edgetl_runtime.errors import BundleError, CameraError, EngineError
from edgetl_runtime.health import Event, Health
from edgetl_runtime.inject import Injector, parse_faults
from edgetl_runtime.ladder import Step
from edgetl_runtime.loop import run
from edgetl_runtime.pairs import Engines
from edgetl_runtime.pipeline import NotFinite, Pipeline
from edgetl_runtime.repair import RELOAD_AFTER, Patience, Repair
from edgetl_runtime.result import Result
from edgetl_runtime.session import Summary

QUICK = Patience(stall_s=0.1, give_up_s=5.0, frozen_s=0.1)


class Drive:
    """A run over noisy pictures at 100 a second with planned faults, and all that came of it."""

    def __init__(self, folder: Path, plan: str, *, frames: int = 160, patience: Patience = QUICK) -> None:
        rng = np.random.default_rng(0)
        images = [rng.integers(60, 160, (90, 160, 3), dtype=np.uint8) for _ in range(frames)]
        bundle = open_bundle(folder)
        self.injector = Injector(parse_faults(plan))
        self.results: list[Result] = []
        self.events: list[Event] = []
        self.loads = 0

        def load() -> Engine:
            self.loads += 1
            return self.injector.engine(load_bundle_engine(bundle))

        self.summary: Summary = run(
            bundle,
            self.injector.camera(FakeCamera(images, delay_s=0.01)),
            engine=load(),
            reload=load,
            golden="skip",
            patience=patience,
            on_result=self.results.append,
            on_event=self.events.append,
        )

    def began(self) -> list[str]:
        return [e.condition for e in self.events if e.began]

    def adds_up(self) -> bool:
        s = self.summary
        return s.captured == s.processed + s.dropped + s.failed and s.processed == len(self.results)


@pytest.mark.parametrize(
    ("plan", "condition", "state"),
    [
        ("stall=0.3@20", "stalled", "stale"),
        ("freeze=30@20", "frozen", "stale"),
        ("black=75@2", "dark", "degraded"),
        ("duplicate@20", "duplicate", "degraded"),
        ("disorder@20", "disordered", "degraded"),
        ("clock=5@20", "clock", "degraded"),
        ("resize=5@20", "resized", "degraded"),
        ("engine@20", "engine", "fault"),
        ("nan=2@20", "not_finite", "fault"),
    ],
)
def test_every_fault_is_said_and_the_loop_goes_on(shared_bundle: Path, plan: str, condition: str, state: str) -> None:
    patience = QUICK if condition == "stalled" else dataclasses.replace(QUICK, stall_s=5.0)
    drive = Drive(shared_bundle, plan, patience=patience)
    others = {"frozen"} if condition == "dark" else set()  # black frames stay the same too
    assert set(drive.began()) - {condition} == others
    first = next(e for e in drive.events if e.condition == condition)
    assert first.began and first.state == ("stale" if others else state)
    assert drive.adds_up() and drive.results[-1].frame_id == 159
    assert drive.summary.health["counts"][condition] >= 1  # type: ignore[index]
    assert [r.frame_id for r in drive.results] == sorted({r.frame_id for r in drive.results})
    assert all(r.age_ms >= 0 for r in drive.results)
    gaps = [b.frame_id - a.frame_id - 1 for a, b in itertools.pairwise(drive.results)]
    assert sum(r.dropped_before for r in drive.results[1:]) >= sum(gaps)


def test_what_was_wrong_is_over_when_it_is_over(shared_bundle: Path) -> None:
    drive = Drive(shared_bundle, "stall=0.3@10,freeze=25@20,engine@50,nan@60")
    ended = [e.condition for e in drive.events if not e.began]
    assert sorted(ended) == sorted(drive.began())
    assert {"stalled", "frozen", "engine", "not_finite"} <= set(ended)
    assert drive.events[-1].state == "ok"
    assert {r.health for r in drive.results} == {"ok", "stale"}, "while the engine fails there is no result"
    assert drive.summary.failed == 2


def test_an_engine_that_stays_broken_is_loaded_again(shared_bundle: Path) -> None:
    drive = Drive(shared_bundle, f"engine={RELOAD_AFTER}@10")
    assert drive.loads == 2
    assert drive.summary.failed == RELOAD_AFTER and drive.adds_up()
    assert drive.results[-1].frame_id == 159 and drive.events[-1].state == "ok"


def test_patience_ends(shared_bundle: Path) -> None:
    short = Patience(stall_s=0.1, give_up_s=0.3)
    with pytest.raises(CameraError, match=r"gave no frame for 0\.3 s"):
        Drive(shared_bundle, "stall=1.5@5", patience=short)
    with pytest.raises(EngineError, match="injected"):
        Drive(shared_bundle, "engine@5/1", patience=short, frames=400)


def test_results_know_until_when_they_are_valid(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    results: list[Result] = []
    camera = FakeCamera([np.full((90, 160, 3), 90, np.uint8)] * 5, live=False)
    run(bundle, camera, on_result=results.append, deadline_ms=250.0)
    assert [r.valid_until_ns for r in results] == [r.t_capture_ns + 250_000_000 for r in results]


class Broken:
    """A pipeline that takes any engine that says it is good."""

    def __init__(self) -> None:
        self.engine = FakeEngine(good=False)

    def exchange(self, engine: FakeEngine) -> None:
        if not engine.good:
            raise EngineError("the warm-up failed")
        self.engine = engine


class FakeEngine:
    """Remembers that it was closed."""

    def __init__(self, good: bool) -> None:
        self.good, self.closed = good, False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def mended() -> Callable[..., tuple[Repair, Broken, Health, list[float]]]:
    def make(reload: Callable[[], FakeEngine] | None, **patience: float) -> tuple[Repair, Broken, Health, list[float]]:
        pipeline, health, now = Broken(), Health("cam"), [0.0]
        repair = Repair(
            pipeline,  # type: ignore[arg-type]
            health,
            reload,  # type: ignore[arg-type]
            Patience(**patience),
            rng=random.Random(0),
            clock=lambda: now[0],
        )
        return repair, pipeline, health, now

    return make


def test_loading_again_has_growing_pauses_and_closes_what_it_replaces(mended) -> None:  # type: ignore[no-untyped-def]
    tried: list[tuple[float, FakeEngine]] = []

    def reload() -> FakeEngine:
        tried.append((now[0], FakeEngine(good=len(tried) == 5)))
        return tried[-1][1]

    repair, pipeline, health, now = mended(reload, give_up_s=0.0)
    first = pipeline.engine
    while not pipeline.engine.good:
        repair.failed(EngineError("broken"))
        now[0] += 0.01
    pauses = np.diff([t for t, _ in tried])
    assert first.closed and [engine.closed for _, engine in tried] == [True] * 5 + [False]
    assert all(0.04 * 2**i <= p <= 0.12 * 2**i for i, p in enumerate(pauses))
    assert health.state == "fault" and repair.reloads == 1
    repair.worked()
    assert health.state == "ok"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EngineError("the file is gone"), "the file is gone"),
        (BundleError("the samples are unreadable"), "the samples are unreadable"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("CUDA error 999"), "RuntimeError CUDA error 999"),
    ],
)
def test_what_can_not_be_loaded_again_is_said(mended, error: Exception, said: str) -> None:  # type: ignore[no-untyped-def]
    def reload() -> FakeEngine:
        raise error

    repair, _, health, now = mended(reload, give_up_s=1.0)
    for _ in range(RELOAD_AFTER):
        repair.failed(NotFinite("NaN"))
    assert health.status().conditions == {"not_finite": "NaN", "engine": f"it can't be loaded again: {said}"}
    now[0] = 1.0
    with pytest.raises(NotFinite):
        repair.failed(NotFinite("NaN"))


def test_outputs_that_are_no_numbers_give_no_result(shared_many: Path) -> None:
    bundle = open_bundle(shared_many)
    injector = Injector(parse_faults("nan@1"))
    pipeline = Pipeline(bundle, injector.engine(load_bundle_engine(bundle)))
    frame = FakeCamera([np.zeros((64, 96, 3), np.uint8)]).read()
    assert frame is not None
    with pytest.raises(NotFinite, match="'scores' are not finite"):
        pipeline.process(frame)
    assert len(pipeline.process(frame).outputs) == 3


class Nowhere:
    """An engine whose boxes below a score lie nowhere, as those of an overflow do."""

    def __init__(self, engine: Engine, below: float, wrong: float) -> None:
        self._engine, self._below, self._wrong = engine, below, wrong
        self.name, self.precision, self.inputs, self.outputs = (
            engine.name, engine.precision, engine.inputs, engine.outputs,
        )  # fmt: skip

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        found = {name: values.copy() for name, values in self._engine.infer(inputs).items()}
        found["boxes"][0, found["scores"][0] < self._below, 2] = self._wrong
        return found

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("track", [False, True])
def test_a_sure_object_that_lies_nowhere_is_no_empty_road(shared_bundle: Path, track: bool, wrong: float) -> None:
    bundle = open_bundle(shared_bundle)
    frame = FakeCamera([scene(64, 96)]).read()
    assert frame is not None
    unsure = Pipeline(bundle, Nowhere(load_bundle_engine(bundle), 0.15, wrong), track=track)
    assert len(unsure.process(frame).detections) > 0, "where no object is boxes may be anything"
    pipeline = Pipeline(bundle, Nowhere(load_bundle_engine(bundle), 1.1, wrong), track=track)
    with pytest.raises(NotFinite, match="'boxes' are not finite where it is sure of an object"):
        pipeline.process(frame)


def test_embeddings_that_are_no_numbers_give_no_result(shared_many: Path) -> None:
    bundle = open_bundle(shared_many)
    engine = Nowhere(load_bundle_engine(bundle), 0.0, 0.0)
    infer = engine.infer
    engine.infer = lambda inputs: {**infer(inputs), "embedding": np.full((1, 3), np.nan, np.float32)}  # type: ignore[method-assign]
    frame = FakeCamera([scene(64, 96)]).read()
    assert frame is not None
    with pytest.raises(NotFinite, match="'embedding' are not finite"):
        Pipeline(bundle, engine).process(frame)


class Dying:
    """An engine that fails after so many runs."""

    def __init__(self, engine: Engine, runs: int) -> None:
        self._engine, self._left = engine, runs
        self.name, self.precision, self.inputs, self.outputs = (
            engine.name, engine.precision, engine.inputs, engine.outputs,
        )  # fmt: skip

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        self._left -= 1
        if self._left < 0:
            raise EngineError("it died")
        return self._engine.infer(inputs)

    def close(self) -> None:
        self._engine.close()


def loads(folder: Path, other: Path) -> Callable[..., Engine]:
    """An engine that dies, then one of another network, then good ones."""
    tiny_model(other, bias=0.4)
    made: list[Engine] = []

    def load(bundle: Bundle, **options: Any) -> Engine:
        engine = load_engine("onnxruntime", other, precision="fp32") if len(made) == 1 else load_bundle_engine(bundle)
        made.append(Dying(engine, 9) if not made else engine)
        return made[-1]

    return load


def noise(frames: int) -> FakeCamera:
    rng = np.random.default_rng(0)
    return FakeCamera([rng.integers(0, 80, (64, 96, 3), dtype=np.uint8) for _ in range(frames)], delay_s=0.01)


@pytest.mark.parametrize("way", ["run", "open", "rig"])
def test_an_engine_that_is_loaded_again_is_proven_too(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    where = {"run": "loop", "open": "engines", "rig": "rig.opening"}[way]
    monkeypatch.setattr(f"edgetl_runtime.{where}.load_bundle_engine", loads(shared_bundle, tmp_path / "other.onnx"))
    monkeypatch.setattr("edgetl_runtime.cameras.open_camera", lambda source, **_: noise(200))
    found: list[Result] = []
    told: list[str] = []
    if way == "run":
        run(open_bundle(shared_bundle), noise(200), on_result=found.append, on_event=lambda e: told.append(e.detail))
    elif way == "open":
        with edgetl_runtime.open(shared_bundle, "fake", on_event=lambda e: told.append(e.detail)) as results:
            found += results
    else:
        with edgetl_runtime.open_rig({"b": shared_bundle}, cameras={"c": noise(200)}) as rig:
            found += [r for made in rig for by in made.results.values() for r in by.values()]
            assert rig.networks["b"].reloads == 1
    assert any(len(r.detections) == 0 for r in found), "the first engine worked"
    assert sum(len(r.detections) for r in found) == 0, "none of the other network"
    assert found[-1].frame_id > 150, "and a good one in the end"


def test_who_left_out_the_proof_gets_any_engine_again(bundle_dir: Path) -> None:
    for golden, good in (("replay", False), ("skip", True)):
        engines = Engines(open_bundle(bundle_dir, verify=False), golden=golden)  # type: ignore[arg-type]
        if not good:
            engines.first()[0].close()
            tiny_model(bundle_dir / "model.fp32.onnx", bias=0.4)  # altered after it was checked
            for load in (engines.again, lambda: engines.of_step(Step(engine="openvino"))):  # noqa: B023
                with pytest.raises(EngineError, match="nothing is run"):
                    load()
        else:
            engines.again().close()
