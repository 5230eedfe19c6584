"""The whole loop: every frame of a file, bounded age on a live source, clean ends."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_support import calibration
from numpy.typing import NDArray
from runtime_support import (
    CLASSIFY,
    HEADS,
    FakeCamera,
    expected_many,
    make_manifest,
    scene,
    tiny_model,
    write_clip,
    write_test_bundle,
)

import edgetl_runtime
from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.cameras import open_camera
from edgetl_runtime.capture import EVERY_DEPTH
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.engines.onnxruntime import OnnxRuntimeEngine
from edgetl_runtime.errors import CameraError, EdgetlError, EngineError, InputError
from edgetl_runtime.golden import prove_golden
from edgetl_runtime.health import Event
from edgetl_runtime.ladder import Policy, Step
from edgetl_runtime.loop import run
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.repair import Patience
from edgetl_runtime.result import Frame, Mask, Result, Scores
from edgetl_runtime.session import rss_mb


class SlowEngine:
    """The bundle's engine, `delay_s` slower; from call `fail_at` on it fails."""

    def __init__(self, inner: Any, delay_s: float = 0.0, fail_at: int = -1, class_shift: int = 0) -> None:
        self.inner, self.delay_s, self.fail_at, self.class_shift = inner, delay_s, fail_at, class_shift
        self.name, self.precision = inner.name, inner.precision
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.calls = 0
        self.closed = False

    def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.calls += 1
        if self.calls == self.fail_at:
            raise EngineError("the engine broke")
        time.sleep(self.delay_s)
        outputs = dict(self.inner.infer(inputs))
        outputs["classes"] = outputs["classes"] + self.class_shift
        return outputs

    def close(self) -> None:
        self.closed = True


def engine_of(folder: Path, **options: Any) -> SlowEngine:
    return SlowEngine(load_bundle_engine(open_bundle(folder)), **options)


def test_every_frame_of_a_file_gives_a_result(shared_bundle: Path, clip: Path) -> None:
    results: list[Result] = []
    summary = run(open_bundle(shared_bundle), open_camera(str(clip)), on_result=results.append)
    assert (summary.captured, summary.processed, summary.dropped, summary.failed) == (12, 12, 0, 0)
    assert [r.frame_id for r in results] == list(range(12))
    assert all(r.age_ms > 0 and r.size_hw == (180, 320) for r in results)
    assert summary.states == {"fresh": 12}
    assert {"wait", "letterbox", "infer", "decode", "publish", "total", "age"} == set(summary.stages)
    assert all(row["count"] == 12 for row in summary.stages.values())
    assert summary.age_ms == summary.stages["age"]
    json.dumps(summary.as_json())


def test_a_frame_is_read_before_the_engine_runs_and_the_camera_after_it(shared_bundle: Path) -> None:
    happened: list[str] = []

    class Telling(SlowEngine):
        def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            (self.tensor,) = inputs.values()
            happened.append("infer")
            return super().infer(inputs)

    engine = Telling(load_bundle_engine(open_bundle(shared_bundle)))
    pipeline = Pipeline(open_bundle(shared_bundle), engine)
    happened.clear()
    frame = Frame(np.full((64, 96, 3), 201, np.uint8), 0, "cam", time.monotonic_ns())
    pipeline.process(frame, when_read=lambda: happened.append(f"read {engine.tensor.max()}"))
    assert happened == ["read 201", "infer"]


def test_a_file_is_read_ahead_while_the_engine_runs(shared_bundle: Path) -> None:
    camera = FakeCamera([scene(90, 160, i) for i in range(EVERY_DEPTH + 3)], live=False)
    at_ready = EVERY_DEPTH + 1

    class Waiting(SlowEngine):
        """Its first run on a frame ends once the camera was read again."""

        def infer(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            end_s = time.monotonic() + 10.0
            while camera.reads and camera.reads <= at_ready and time.monotonic() < end_s:
                time.sleep(0.001)
            read.append(camera.reads)
            return super().infer(inputs)

    read: list[int] = []
    bundle = open_bundle(shared_bundle)
    summary = run(bundle, camera, engine=Waiting(load_bundle_engine(bundle)), golden="skip")
    assert summary.processed == EVERY_DEPTH + 3
    assert read[0] == 0 and read[1] > at_ready


def test_the_bright_square_is_found_where_it_is(shared_bundle: Path) -> None:
    bundle = open_bundle(shared_bundle)
    image = np.full((128, 192, 3), 10, np.uint8)
    image[32:64, 96:128] = 255  # exactly one cell of the network at half size
    pipeline = Pipeline(bundle, load_bundle_engine(bundle), threshold=0.9)
    found = pipeline.process(Frame(image, 0, "cam", time.monotonic_ns())).detections
    np.testing.assert_allclose(found.boxes_xyxy, [[96, 32, 128, 64]], atol=1e-3)
    assert found.classes.tolist() == [(1 * 6 + 3) % 3]


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_several_heads_from_one_call(shared_many: Path, name: str) -> None:
    bundle = open_bundle(shared_many)
    engine = SlowEngine(load_bundle_engine(bundle, engine=name))
    pipeline = Pipeline(bundle, engine)
    image = np.full((64, 96, 3), 25, np.uint8)
    image[16:32, 32:48] = (240, 250, 255)
    image[48:, :40] = 120
    expected = expected_many(image[None])
    calls = engine.calls
    result = pipeline.process(Frame(image, 0, "cam", time.monotonic_ns()))
    assert engine.calls == calls + 1
    assert list(result.outputs) == ["detect", "ground", "light"]
    np.testing.assert_allclose(result.detections.boxes_xyxy, [[32, 16, 48, 32]])
    ground, light = result.outputs["ground"], result.outputs["light"]
    assert isinstance(ground, Mask) and isinstance(light, Scores)
    np.testing.assert_array_equal(ground.classes, expected["mask_ground"][0])
    assert ground.at_source()[20, 40] == 2 and ground.at_source()[60, 10] == 1
    np.testing.assert_allclose(light.probabilities, expected["probabilities"][0], rtol=1e-4)
    assert CLASSIFY.labels[light.label] == "night"
    assert result.embedding is not None
    np.testing.assert_allclose(result.embedding, expected["embedding"][0], rtol=1e-5)
    before = (ground.classes.copy(), light.probabilities.copy(), result.embedding.copy())
    pipeline.process(Frame(np.full((64, 96, 3), 255, np.uint8), 1, "cam", time.monotonic_ns()))
    for kept, was in zip((ground.classes, light.probabilities, result.embedding), before, strict=True):
        np.testing.assert_array_equal(kept, was)  # a result outlives the engine's buffers


def test_the_loop_with_several_heads(shared_many: Path, clip: Path) -> None:
    results: list[Result] = []
    summary = run(open_bundle(shared_many), open_camera(str(clip)), on_result=results.append)
    assert summary.processed == 12 and summary.failed == 0
    for r in results:
        assert set(r.outputs) == {"detect", "ground", "light"}
        json.dumps(r.as_json(HEADS))
    ground = results[0].outputs["ground"]
    assert isinstance(ground, Mask) and ground.at_source().shape == (180, 320)
    assert ground.at_source()[90, 20] == 2, "the bright square"


def test_a_threshold_is_every_labels_of_every_head(shared_many: Path) -> None:
    bundle = open_bundle(shared_many)
    frame = Frame(np.full((64, 96, 3), 60, np.uint8), 0, "cam", time.monotonic_ns())
    strict = Pipeline(bundle, load_bundle_engine(bundle), threshold=1.0).process(frame)
    assert len(strict.detections) == 0 and strict.outputs["light"].label == -1  # type: ignore[union-attr]
    loose = Pipeline(bundle, load_bundle_engine(bundle), threshold=0.0).process(frame)
    assert len(loose.detections) == 8 and loose.outputs["light"].label == 0  # type: ignore[union-attr]


def test_a_bundle_without_boxes_runs_and_says_so(tmp_path: Path) -> None:
    folder = write_test_bundle(tmp_path / "b", heads=HEADS[1:])
    bundle = open_bundle(folder)
    frame = Frame(scene(90, 160), 0, "cam", time.monotonic_ns())
    result = Pipeline(bundle, load_bundle_engine(bundle)).process(frame)
    with pytest.raises(KeyError, match="gives boxes"):
        _ = result.detections
    assert "detections" not in result.as_json(bundle.manifest.heads)


def test_no_embedding_is_none_and_a_wrong_one_is_an_error(shared_bundle: Path, shared_many: Path) -> None:
    frame = Frame(scene(90, 160), 0, "cam", time.monotonic_ns())
    assert Pipeline(open_bundle(shared_bundle), engine_of(shared_bundle)).process(frame).embedding is None
    engine = engine_of(shared_many)
    pipeline = Pipeline(open_bundle(shared_many), engine)
    inner = engine.infer
    engine.infer = lambda inputs: inner(inputs) | {"embedding": np.zeros(3, np.float32)}  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=r"embedding \(1, D\), found \(3,\)"):
        pipeline.process(frame)


def test_a_slow_engine_on_a_fast_camera_keeps_up_by_dropping(shared_bundle: Path) -> None:
    results: list[Result] = []
    camera = FakeCamera([scene(90, 160, i) for i in range(60)], delay_s=0.005)
    summary = run(
        open_bundle(shared_bundle), camera, engine=engine_of(shared_bundle, delay_s=0.02), on_result=results.append
    )
    ids = [r.frame_id for r in results]
    assert ids == sorted(set(ids)) and ids[-1] == 59
    assert summary.captured == summary.processed + summary.dropped == 60
    assert summary.dropped == sum(r.dropped_before for r in results) >= 20
    gaps = [b - a - 1 for a, b in zip([-1, *ids], ids, strict=False)]
    assert [r.dropped_before for r in results] == gaps
    # A frame waits at most for the one before it: were frames queued, age would grow with every result.
    ages = [r.age_ms for r in results]
    assert np.median(ages[len(ages) // 2 :]) < 3 * np.median(ages[: len(ages) // 2]) + 20


def test_results_past_their_deadline_are_marked(shared_bundle: Path) -> None:
    results: list[Result] = []
    summary = run(
        open_bundle(shared_bundle),
        FakeCamera([scene(90, 160)] * 4, live=False),
        engine=engine_of(shared_bundle, delay_s=0.02),
        deadline_ms=5.0,
        on_result=results.append,
    )
    assert summary.states == {"late": 4}
    assert {r.state for r in results} == {"late"}


def test_max_frames_ends_it(shared_bundle: Path) -> None:
    camera = FakeCamera([scene(90, 160)] * 50, live=False)
    engine = engine_of(shared_bundle)
    summary = run(open_bundle(shared_bundle), camera, engine=engine, max_frames=3)
    assert (summary.captured, summary.processed) == (3, 3)
    assert camera.closed and engine.closed


class Sink:
    """Counts, and asks to stop after `stop_at`."""

    def __init__(self, *, needs_picture: bool, stop_at: int = -1) -> None:
        self.needs_picture, self.stop_at = needs_picture, stop_at
        self.stop = self.closed = False
        self.images: list[Any] = []
        self.events: list[Any] = []

    def write(self, result: Result, frame: Any, image: Any) -> None:
        self.images.append(None if image is None else image.shape)
        self.stop = len(self.images) == self.stop_at

    def event(self, event: Any) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed = True


def test_sinks_get_what_they_need_and_can_stop(shared_bundle: Path) -> None:
    plain, pictured = Sink(needs_picture=False), Sink(needs_picture=True, stop_at=4)
    camera = FakeCamera([scene(90, 160)] * 50, live=False)
    summary = run(open_bundle(shared_bundle), camera, sinks=[pictured, plain])
    assert plain.images == [None] * 4 and pictured.images == [(90, 160, 3)] * 4
    assert plain.closed and pictured.closed
    assert summary.stages["annotate"]["count"] == 4


class Fails(Sink):
    """A sink that raises at its third result, or at the first event."""

    def __init__(self, *, needs_picture: bool, at: str) -> None:
        super().__init__(needs_picture=needs_picture)
        self.at = at

    def write(self, result: Result, frame: Frame, picture: np.ndarray | None) -> None:
        super().write(result, frame, picture)
        if self.at == "result" and len(self.images) == 3:
            raise RuntimeError("lost the display")

    def event(self, event: Event) -> None:
        if self.at == "event":
            raise InputError("the disk is gone")


@pytest.mark.parametrize("needs_picture", [False, True])
@pytest.mark.parametrize("at", ["result", "event"])
def test_of_a_live_camera_a_sink_that_fails_fails_alone(
    shared_bundle: Path, capsys: pytest.CaptureFixture[str], needs_picture: bool, at: str
) -> None:
    first, failing, last = (
        Sink(needs_picture=False), Fails(needs_picture=needs_picture, at=at), Sink(needs_picture=needs_picture),
    )  # fmt: skip
    camera = FakeCamera([np.full((90, 160, 3), i, np.uint8) for i in range(90)], delay_s=0.01)
    summary = run(open_bundle(shared_bundle), camera, sinks=[first, failing, last])
    assert len(first.images) == len(last.images) == summary.processed > 50
    assert failing.closed and 0 < len(failing.images) < summary.processed
    why = "RuntimeError: lost the display" if at == "result" else "the disk is gone"
    assert summary.notes == [f"Fails got nothing any more: {why}"] and summary.notes[0] in capsys.readouterr().err


def test_of_a_file_a_sink_that_fails_ends_the_run(shared_bundle: Path) -> None:
    failing, last = Fails(needs_picture=True, at="result"), Sink(needs_picture=False)
    camera = FakeCamera([scene(90, 160)] * 9, live=False)
    with pytest.raises(RuntimeError, match="lost the display"):
        run(open_bundle(shared_bundle), camera, sinks=[failing, last])
    assert failing.closed and last.closed and camera.closed and len(failing.images) == 3


def test_a_sink_can_end_a_run_to_which_no_frame_comes(shared_bundle: Path) -> None:
    class Silent(FakeCamera):
        def read(self) -> Frame | None:
            while not self.closed:
                time.sleep(0.01)
            return None

        def interrupt(self) -> None:
            self.closed = True

    class Asked(Sink):
        def event(self, event: Event) -> None:
            self.stop = event.condition == "stalled"

    camera, sink = Silent([scene(9, 9)]), Asked(needs_picture=False)
    summary = run(open_bundle(shared_bundle), camera, sinks=[sink], patience=Patience(stall_s=0.01, give_up_s=20.0))
    assert summary.processed == 0 and summary.seconds < 10 and sink.closed


def test_events_of_the_last_frame_are_told(shared_bundle: Path) -> None:
    """Late is judged with each result; the loop ends before its next turn."""
    sink = Sink(needs_picture=False)
    camera = FakeCamera([scene(90, 160)] * 5, live=False)
    run(open_bundle(shared_bundle), camera, deadline_ms=1e-6, max_frames=1, sinks=[sink])
    assert [(e.condition, e.began) for e in sink.events] == [("late", True)]


def test_ctrl_c_ends_with_a_summary(shared_bundle: Path) -> None:
    def interrupt(result: Result) -> None:
        if result.frame_id == 2:
            raise KeyboardInterrupt

    camera, sink = FakeCamera([scene(90, 160)] * 50, live=False), Sink(needs_picture=False)
    summary = run(open_bundle(shared_bundle), camera, on_result=interrupt, sinks=[sink])
    assert summary.interrupted and summary.processed == 3
    assert camera.closed and sink.closed and gc.isenabled()


@pytest.mark.parametrize("what", ["camera", "engine", "class", "warm-up"])
def test_failures_close_everything_and_are_raised(shared_bundle: Path, what: str) -> None:
    fail_at = {"engine": 3, "warm-up": 1}.get(what, -1)
    engine = engine_of(shared_bundle, fail_at=fail_at, class_shift=100 if what == "class" else 0)
    camera = FakeCamera([scene(90, 160)] * 9, live=False, fail_at=2 if what == "camera" else -1)
    sink = Sink(needs_picture=False)
    with pytest.raises(CameraError if what == "camera" else EngineError):
        run(open_bundle(shared_bundle), camera, engine=engine, sinks=[sink], threshold=0.1, golden="skip")
    assert camera.closed and gc.isenabled() and sink.closed and engine.closed


def test_a_camera_that_does_not_fit_its_calibration_is_not_run(shared_bundle: Path) -> None:
    camera, engine = FakeCamera([scene(120, 160)], live=False), engine_of(shared_bundle)
    with pytest.raises(InputError, match="another aspect ratio"):
        run(open_bundle(shared_bundle), camera, engine=engine, calibration=calibration())
    assert camera.reads == 0 and camera.closed and engine.closed


def test_a_golden_sample_is_replayed_before_the_first_frame(shared_bundle: Path) -> None:
    bundle, engine = open_bundle(shared_bundle), engine_of(shared_bundle)
    summary = run(bundle, FakeCamera([scene(90, 160)] * 2, live=False), engine=engine)
    assert engine.calls == 1 + 1 + 2, "a golden sample, the warm-up, two frames"
    found = summary.golden
    assert found["frames"] == 1 and found["worst_rel_error"] <= found["tolerance"] == 1e-3 and found["ms"] > 0
    assert summary.notes == [] and summary.as_json()["golden"] == found


def test_an_engine_that_differs_from_the_golden_samples_is_not_run(shared_bundle: Path) -> None:
    engine = engine_of(shared_bundle, class_shift=1)
    camera, sink = FakeCamera([scene(90, 160)] * 2, live=False), Sink(needs_picture=False)
    results: list[Result] = []
    with pytest.raises(
        EngineError, match=r"onnxruntime at fp32 .*'detect' differs by .*nothing is run; see `edgetl ver"
    ):
        run(open_bundle(shared_bundle), camera, engine=engine, sinks=[sink], on_result=results.append)
    assert results == [] and camera.reads == 0
    assert camera.closed and sink.closed and engine.closed


def test_a_skipped_replay_is_said_in_the_summary(shared_bundle: Path, clip: Path) -> None:
    camera = FakeCamera([scene(90, 160)], live=False)
    summary = run(open_bundle(shared_bundle), camera, engine=engine_of(shared_bundle, class_shift=1), golden="skip")
    assert summary.golden == {"frames": 0} and summary.processed == 1
    with edgetl_runtime.open(shared_bundle, str(clip), golden="skip") as results:
        next(iter(results))
    for notes in (summary.notes, results.summary().notes):
        assert len(notes) == 1 and "not replayed" in notes[0]


def test_a_replay_that_was_done_is_not_done_again(shared_bundle: Path) -> None:
    bundle, engine = open_bundle(shared_bundle), engine_of(shared_bundle)
    proven = prove_golden(bundle, engine)
    summary = run(bundle, FakeCamera([scene(90, 160)], live=False), engine=engine, golden=proven)
    assert engine.calls == 3 and summary.golden == proven.as_json()


def test_open_replays_too(bundle_dir: Path, clip: Path) -> None:
    tiny_model(bundle_dir / "model.fp32.onnx", bias=0.05)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    with pytest.raises(EngineError, match="nothing is run"), edgetl_runtime.open(bundle_dir, str(clip)):
        pytest.fail("it ran")
    with edgetl_runtime.open(bundle_dir, str(clip), golden="skip") as results:
        assert len(list(results)) == 12


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(shared_bundle: Path, threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        run(open_bundle(shared_bundle), FakeCamera([scene(9, 9)]), threshold=threshold)


@pytest.mark.parametrize("deadline_ms", [-1.0, 2e9, float("inf"), float("nan")])
def test_a_deadline_that_is_none_is_refused(shared_bundle: Path, deadline_ms: float) -> None:
    camera = FakeCamera([scene(9, 9)])
    with pytest.raises(InputError, match="a deadline is from 0 to 1e"):
        run(open_bundle(shared_bundle), camera, deadline_ms=deadline_ms)
    assert camera.closed


def test_open_is_iterable(shared_bundle: Path, clip: Path) -> None:
    with edgetl_runtime.open(shared_bundle, str(clip), engine="openvino") as results:
        ids = [r.frame_id for r in results]
    assert ids == list(range(12))
    assert results.summary().engine == "openvino"


@pytest.mark.parametrize("threads", [0, 2, "auto"])
def test_open_takes_a_number_of_threads(
    shared_bundle: Path, clip: Path, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    made = OnnxRuntimeEngine.__init__

    def spy(self: OnnxRuntimeEngine, *given: Any, **options: Any) -> None:
        asked.append(options["threads"])
        made(self, *given, **options)

    monkeypatch.setattr(OnnxRuntimeEngine, "__init__", spy)
    with edgetl_runtime.open(shared_bundle, str(clip), threads=threads) as results:
        assert len(list(results)) == 12
    assert asked == [threads] if threads != "auto" else len(asked) > 1 and asked[-1] in asked[:-1]


@pytest.mark.parametrize("threads", [-1, 1025, "many"])
def test_open_refuses_what_is_no_number_of_threads(shared_bundle: Path, clip: Path, threads: Any) -> None:
    with (
        pytest.raises(InputError, match="threads must be auto or a whole number up to 1024, found"),
        edgetl_runtime.open(shared_bundle, str(clip), threads=threads),
    ):
        pytest.fail("it ran")


def test_open_takes_a_ladder(shared_bundle: Path, tmp_path: Path) -> None:
    source = str(write_clip(tmp_path / "long.mp4", frames=400))
    ladder = tmp_path / "ladder.yaml"
    ladder.write_text("deadline_ms: 0.001\ndown_after_s: 0.01\nsteps: [{engine: openvino}, {skip: 2}]\n")
    events: list[Event] = []
    with edgetl_runtime.open(shared_bundle, source, ladder=ladder, on_event=events.append) as results:
        for result in results:
            time.sleep(0.05)
            if results.summary().engine == "openvino" and result.dropped_before:
                break
    assert results.summary().engine == "openvino" and results.summary().dropped
    assert {event.condition for event in events} == {"ladder"}


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((Step(variant="int8"),), "no variant 'int8'"),
        ((Step(cameras=("front",)),), "it is of several cameras"),
        ((Step(engine="openvino", bundle="road"),), "there is one bundle only"),
    ],
)
def test_open_refuses_a_ladder_that_does_not_fit(
    shared_bundle: Path, clip: Path, steps: tuple[Step, ...], said: str
) -> None:
    policy = Policy(deadline_ms=50, steps=steps)
    with (
        pytest.raises(EdgetlError, match=said),
        edgetl_runtime.open(shared_bundle, str(clip), ladder=policy),
    ):
        pytest.fail("it ran")


def spot(brightness: int) -> NDArray[np.uint8]:
    """A picture of the network's size with one cell that is as bright."""
    image = np.full((64, 96, 3), 20, np.uint8)
    image[16:32, 32:48] = brightness
    return image


def test_objects_are_tracked_where_that_is_asked_for(shared_bundle: Path) -> None:
    """The object fades below the threshold of 0.5; without a track it is gone then."""
    pictures = [spot(b) for b in (230, 230, 230, 90, 230)]
    found: dict[bool, list[Result]] = {False: [], True: []}
    for track, results in found.items():
        camera = FakeCamera(pictures, live=False, delay_s=0.001)
        summary = run(open_bundle(shared_bundle), camera, track=track, on_result=results.append)
        assert ("track" in summary.stages) == track
    assert [len(r.detections) for r in found[False]] == [1, 1, 1, 0, 1]
    assert all(r.detections.track_ids is None for r in found[False])
    ids = [r.detections.track_ids for r in found[True]]
    assert [None if i is None else i.tolist() for i in ids] == [[-1], [0], [0], [0], [0]]


def test_open_tracks_too(shared_bundle: Path, clip: Path) -> None:
    with edgetl_runtime.open(shared_bundle, str(clip), track=True) as results:
        assert all(r.detections.track_ids is not None for r in results)


def test_a_bundle_without_boxes_is_not_tracked(tmp_path: Path) -> None:
    bundle, camera = open_bundle(write_test_bundle(tmp_path / "b", heads=HEADS[1:])), FakeCamera([scene(9, 9)])
    with pytest.raises(InputError, match="no head of this bundle gives boxes to track"):
        run(bundle, camera, track=True)
    assert camera.closed


def test_memory_stays_flat_over_many_frames(shared_bundle: Path) -> None:
    marks: list[float] = []
    pictures = [scene(270, 480, i) for i in range(10)] * 200

    def mark(result: Result) -> None:
        if result.frame_id in (500, 1999):
            marks.append(rss_mb())

    run(open_bundle(shared_bundle), FakeCamera(pictures, live=False), on_result=mark)
    assert marks[1] - marks[0] < 4.0, marks


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["onnx"] = sys.modules["timm"] = None
import edgetl_runtime
assert "numpy" not in sys.modules and "cv2" not in sys.modules
with edgetl_runtime.open(sys.argv[1], sys.argv[2], engine=sys.argv[3]) as results:
    n = sum(1 for _ in results)
print(n)
"""


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_runtime_runs_without_torch(shared_bundle: Path, clip: Path, engine: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(shared_bundle), str(clip), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "12"), done.stderr
