"""The camera loop: newest frame in, timed result out, every stage in the ledger."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.capture import Capture
from edgetl_runtime.decode import decode
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.golden import SKIPPED, start_check
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.result import Result
from edgetl_runtime.spec import EMBEDDING, at_threshold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.result import Frame, ResultState
    from edgetl_runtime.sinks import Sink


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. captured = processed + dropped; failed frames never left the camera.

    golden: the replay before the first frame: frames (0 where it was skipped), worst_rel_error, tolerance, ms.
    """

    captured: int
    processed: int
    dropped: int
    failed: int
    stages: dict[str, dict[str, float]]
    age_ms: dict[str, float]
    rss_mb: float
    states: dict[str, int]
    seconds: float
    engine: str
    precision: str
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    golden: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Plain values; the keys are stable."""
        return {name: getattr(self, name) for name in self.__slots__}


class Pipeline:
    """One frame to one result: letterbox, infer once, decode every head. Buffers are allocated here, once.

    threshold replaces every label's in every head. deadline_ms marks results that are older at publish as late; 0
    is none.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, *, threshold: float | None = None, deadline_ms: float = 0.0
    ) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"the threshold must be from 0 to 1, found {threshold}")
        manifest = bundle.manifest
        self.engine = engine
        self.deadline_ms = deadline_ms
        self._heads = manifest.heads
        if threshold is not None:
            self._heads = tuple(at_threshold(h, threshold) for h in manifest.heads)
        self._embedding = manifest.domain.output if manifest.domain else EMBEDDING
        self._letterbox = Letterbox(manifest.preprocess)
        self._inputs = {manifest.inputs[0].name: self._letterbox.tensor}
        engine.infer(self._inputs)  # the first run of an engine is slow, and none of a frame's business

    def process(self, frame: Frame, *, dropped_before: int = 0) -> Result:
        """What the heads say of one frame, stamped. Raises EngineError where the network or its outputs fail."""
        t0 = time.perf_counter()
        _, place = self._letterbox(frame.image)
        t1 = time.perf_counter()
        outputs = self.engine.infer(self._inputs)
        t2 = time.perf_counter()
        found = {head.name: decode(outputs, head, place) for head in self._heads}
        embedding = _embedding(outputs.get(self._embedding))
        t3 = time.perf_counter()
        now_ns = time.monotonic_ns()
        return Result(
            frame_id=frame.frame_id,
            camera_id=frame.camera_id,
            t_capture_ns=frame.t_capture_ns,
            t_publish_ns=now_ns,
            outputs=found,
            size_hw=place.source_hw,
            stages_ms={"letterbox": (t1 - t0) * 1e3, "infer": (t2 - t1) * 1e3, "decode": (t3 - t2) * 1e3},
            dropped_before=dropped_before,
            media_time_s=frame.media_time_s,
            name=frame.name,
            state=self._state(now_ns - frame.t_capture_ns),
            valid_until_ns=frame.t_capture_ns + int(self.deadline_ms * 1e6) if self.deadline_ms else None,
            embedding=embedding,
        )

    def _state(self, age_ns: int) -> ResultState:
        return "late" if self.deadline_ms and age_ns > self.deadline_ms * 1e6 else "fresh"


def _embedding(output: NDArray[np.generic] | None) -> NDArray[np.float32] | None:
    """A copy of the embedding (1, D) as (D,), where the engine gives one."""
    if output is None:
        return None
    if output.ndim != 2 or len(output) != 1:
        raise EngineError(f"expected an embedding (1, D), found {output.shape}")
    return np.array(output[0], np.float32)


class Session:
    """A pipeline on a camera; iterate for results, or `frames` for frames with them.

    Owns engine and camera: leaving the context closes both. Python's garbage collector rests meanwhile and
    runs between frames, every `every_s`, when `on_ledger` is called too. golden: what replaying golden samples on the
    engine gave, None where that was skipped: the summary says which.
    """

    def __init__(
        self,
        camera: Camera,
        pipeline: Pipeline,
        *,
        every_s: float = 5.0,
        on_ledger: Callable[[Ledger], None] | None = None,
        golden: GoldenReport | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.golden = golden
        self.ledger = ledger or Ledger()
        self.states: Counter[str] = Counter()
        self.processed = 0
        self._pipeline = pipeline
        self._capture = Capture(camera)
        self._every_s, self._on_ledger = every_s, on_ledger
        self._start_s = self._tick_s = time.monotonic()
        self._gc_was_on = gc.isenabled()

    def __enter__(self) -> Session:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._start_s = self._tick_s = time.monotonic()
        self._capture.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._capture.stop()
            self._pipeline.engine.close()
        finally:
            gc.unfreeze()
            if self._gc_was_on:
                gc.enable()

    def __iter__(self) -> Iterator[Result]:
        for _, result in self.frames():
            yield result

    def frames(self) -> Iterator[tuple[Frame, Result]]:
        """Frames with their results, until the source ends. Raises CameraError or EngineError."""
        while True:
            t0 = time.perf_counter()
            taken = self._capture.get()
            t1 = time.perf_counter()
            if taken is None:
                return
            frame, dropped = taken
            result = self._pipeline.process(frame, dropped_before=dropped)
            self.processed += 1
            self.states[result.state] += 1
            self.ledger.add("wait", (t1 - t0) * 1e3)
            self.ledger.add_all(result.stages_ms)
            self.ledger.add("age", result.age_ms)
            try:
                yield frame, result
            finally:  # the last one too, where the consumer leaves early
                self.ledger.add("total", (time.perf_counter() - t1) * 1e3)
            del frame, taken, result  # the buffer goes back to the camera's pool while we wait
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._tick_s >= self._every_s:
            self._tick_s = now
            gc.collect(1)
            if self._on_ledger is not None:
                self._on_ledger(self.ledger)

    def summary(self, *, interrupted: bool = False) -> Summary:
        """Counts and percentiles until now."""
        camera, engine = self._capture.camera, self._pipeline.engine
        stages = self.ledger.snapshot()
        return Summary(
            captured=self._capture.captured,
            processed=self.processed,
            dropped=self._capture.dropped,
            failed=camera.failed,
            stages=stages,
            age_ms=stages.get("age", {}),
            rss_mb=rss_mb(),
            states=dict(self.states),
            seconds=round(time.monotonic() - self._start_s, 3),
            engine=engine.name,
            precision=engine.precision,
            interrupted=interrupted,
            notes=[*camera.notes, *([] if self.golden else [SKIPPED])],
            golden=self.golden.as_json() if self.golden else {"frames": 0},
        )


def run(
    bundle: Bundle,
    camera: Camera,
    *,
    engine: Engine | None = None,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    sinks: Sequence[Sink] = (),
    on_result: Callable[[Result], None] | None = None,
    on_ledger: Callable[[Ledger], None] | None = None,
    every_s: float = 5.0,
    max_frames: int | None = None,
    golden: GoldenReport | Replay = "replay",
    ledger: Ledger | None = None,
) -> Summary:
    """Run until the source ends, `max_frames` are done, a sink asks to stop, or Ctrl-C; then close everything.

    engine: the bundle's chosen one where None. golden: replay a golden sample first and refuse to run where it
    differs, skip that (the summary says so), or the report of a replay that was done. ledger: the one to fill, where a
    sink reads it meanwhile. A result is published first
    (`on_result`, then sinks without pictures) and drawn afterwards. Raises BundleError, CameraError or EngineError;
    sinks are closed even so.
    """
    loaded = engine
    try:
        loaded = loaded or load_bundle_engine(bundle)
        proven = start_check(bundle, loaded, golden)
        pipeline = Pipeline(bundle, loaded, threshold=threshold, deadline_ms=deadline_ms)
    except BaseException:
        camera.close()
        for sink in sinks:
            sink.close()
        if loaded is not None:
            loaded.close()
        raise
    session = Session(camera, pipeline, every_s=every_s, on_ledger=on_ledger, golden=proven, ledger=ledger)
    publisher = _Publisher(bundle, sinks, on_result, session.ledger)
    interrupted = False
    try:
        with session:
            for frame, result in session.frames():
                publisher.publish(frame, result)
                del frame, result
                if session.processed == max_frames or any(s.stop for s in sinks):
                    break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for sink in sinks:
            sink.close()
    return session.summary(interrupted=interrupted)


class _Publisher:
    """Delivers a result everywhere, those who only read it first."""

    def __init__(
        self,
        bundle: Bundle,
        sinks: Sequence[Sink],
        on_result: Callable[[Result], None] | None,
        ledger: Ledger,
    ) -> None:
        self._sinks = sinks
        self._heads = bundle.manifest.heads
        self._annotator: Annotator | None = None
        self._on_result, self._ledger = on_result, ledger

    def publish(self, frame: Frame, result: Result) -> None:
        t0 = time.perf_counter()
        pictured = [sink for sink in self._sinks if sink.needs_picture]
        if self._on_result is not None:
            self._on_result(result)
        for sink in self._sinks:
            if sink not in pictured:
                sink.write(result, frame, None)
        t1 = time.perf_counter()
        self._ledger.add("publish", (t1 - t0) * 1e3)
        if pictured:
            self._annotator = self._annotator or Annotator(self._heads)
            picture = self._annotator(frame, result)
            for sink in pictured:
                sink.write(result, frame, picture)
            self._ledger.add("annotate", (time.perf_counter() - t1) * 1e3)


def rss_mb() -> float:
    """Resident memory of this process in MB; 0 where /proc has no such thing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
