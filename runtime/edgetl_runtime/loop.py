"""The camera loop: newest frame in, timed result out, every stage in the ledger, every fault in the health."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.capture import Capture, Nothing
from edgetl_runtime.domain import DomainMonitor
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import CameraError, EngineError
from edgetl_runtime.golden import SKIPPED, start_check
from edgetl_runtime.health import Health
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.repair import Patience, Repair
from edgetl_runtime.snapshot import Snapshot, Watcher, stage_times
from edgetl_runtime.watch import FrameWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.capture import Taken
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import Sink

WAIT_S = 0.1
"""How long the loop waits for a frame before it looks at everything else."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. captured = processed + dropped + failed.

    failed: frames that could not be decoded, and those that the engine failed on. lost: gaps in the camera's own
    numbering. health: the state at the end, what conditions held, and how often each began.

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
    lost: int
    health: dict[str, object]
    seconds: float
    engine: str
    precision: str
    interrupted: bool = False
    notes: list[str] = field(default_factory=list)
    golden: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Plain values; the keys are stable."""
        return {name: getattr(self, name) for name in self.__slots__}


class Session:
    """A pipeline on a camera; iterate for results, or `frames` for frames with them.

    Owns engine and camera: leaving the context closes both. Python's garbage collector rests meanwhile and
    runs between frames, every `every_s`, when `on_ledger` is called too. golden: what replaying golden samples on the
    engine gave, None where that was skipped: the summary says which.

    On a live camera what goes wrong is a condition of `health`, told to `on_event`, and the loop goes on: no frame for
    patience.stall_s, a frame that must not be used, an engine that fails (from the third time in a row on it is loaded
    again by `reload`), an output that is no number, embeddings that `domain` finds strange. Only what lasts for
    patience.give_up_s is raised. On files every error is raised at once.
    """

    def __init__(
        self,
        camera: Camera,
        pipeline: Pipeline,
        *,
        every_s: float = 5.0,
        on_ledger: Callable[[Ledger], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        golden: GoldenReport | None = None,
        health: Health | None = None,
        patience: Patience | None = None,
        reload: Callable[[], Engine] | None = None,
        domain: DomainMonitor | None = None,
    ) -> None:
        self.golden = golden
        self.ledger = Ledger()
        self.states: Counter[str] = Counter()
        self.processed = self.failed = 0
        self.health = health or Health(camera.camera_id)
        self.health.camera_id = camera.camera_id
        self.newest: Result | None = None
        self.turned_ns = time.monotonic_ns()
        self._patience = patience or Patience()
        self._pipeline, self._domain = pipeline, domain
        self._live = camera.live
        watch = FrameWatch(self.health, frozen_s=self._patience.frozen_s) if camera.live else None
        self._capture = Capture(camera, inspect=watch.look if watch else None)
        self._repair = Repair(pipeline, self.health, reload, self._patience)
        self._dropped_before = 0
        self._every_s, self._on_ledger, self._on_event = every_s, on_ledger, on_event
        self._start_s = self._tick_s = self._heard_s = time.monotonic()
        self._gc_was_on = gc.isenabled()

    def __enter__(self) -> Session:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._start_s = self._tick_s = self._heard_s = time.monotonic()
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
            self.turned_ns = time.monotonic_ns()
            t0 = time.perf_counter()
            try:
                taken = self._capture.get(WAIT_S)
            except Nothing:
                self._silent()
                self._tick()
                continue
            t1 = time.perf_counter()
            if taken is None:
                self._tick()
                return
            made = self._made(taken)
            if made is not None:
                self._count(made[1], (t1 - t0) * 1e3)
                try:
                    yield made
                finally:  # the last one too, where the consumer leaves early
                    self.ledger.add("total", (time.perf_counter() - t1) * 1e3)
            del taken, made  # the buffer goes back to the camera's pool while we wait
            self._tick()

    def _made(self, taken: Taken) -> tuple[Frame, Result] | None:
        """The frame with its result; None for one that the engine failed on."""
        self._heard_s = time.monotonic()
        self.health.clear("stalled")
        self._dropped_before += taken.dropped_before
        try:
            result = self._pipeline.process(taken.frame, dropped_before=self._dropped_before)
        except EngineError as error:
            if not self._live:
                raise
            self.failed += 1
            self._dropped_before += 1
            self._repair.failed(error)
            return None
        self._repair.worked()
        self._dropped_before = 0
        return taken.frame, self._judged(result)

    def _judged(self, result: Result) -> Result:
        """With the loop's state at this moment."""
        if result.state == "late":
            self.health.set("late", f"results are older than {self._pipeline.deadline_ms:g} ms when they are published")
        else:
            self.health.clear("late")
        if self._domain is not None and result.embedding is not None:
            found = self._domain.observe(result.embedding[None], t_capture_ns=result.t_capture_ns)
            if found.state == "shifted":
                self.health.set("shifted", "frames keep being unlike those that the network learnt from")
            else:
                self.health.clear("shifted")
            result = dataclasses.replace(result, shift=found.score.quantile)
        state = self.health.state
        return result if state == "ok" else dataclasses.replace(result, health=state)

    def _count(self, result: Result, wait_ms: float) -> None:
        self.processed += 1
        self.newest = result
        self.states[result.state] += 1
        self.ledger.add("wait", wait_ms)
        self.ledger.add_all(result.stages_ms)
        self.ledger.add("age", result.age_ms)

    def _silent(self) -> None:
        """No frame came: that is a stall, after a while. Raises CameraError where it has lasted too long."""
        camera = self._capture.camera
        silent_s, patience = time.monotonic() - self._heard_s, self._patience
        if not self._live or silent_s < patience.stall_s:
            return
        self.health.set("stalled", f"no frame for {silent_s:.1f} s")
        if self.health.holds("disconnected"):  # it is being opened again, and has the same patience
            return
        if patience.give_up_s and silent_s >= patience.give_up_s:
            raise CameraError(
                f"{camera.camera_id} gave no frame for {patience.give_up_s:g} s",
                remedy="check its cable and its power",
            )

    def _tick(self) -> None:
        for event in self.health.tick():
            if self._on_event is not None:
                self._on_event(event)
        now = time.monotonic()
        if now - self._tick_s >= self._every_s:
            self._tick_s = now
            gc.collect(1)
            if self._on_ledger is not None:
                self._on_ledger(self.ledger)

    @property
    def captured(self) -> int:
        """Frames that arrived: processed + dropped + failed."""
        return self._capture.captured + self._capture.camera.failed

    @property
    def dropped(self) -> int:
        """Frames that were replaced by newer ones before they were used, or must not be used."""
        return self._capture.dropped

    def summary(self, *, interrupted: bool = False) -> Summary:
        """Counts and percentiles until now."""
        camera, engine = self._capture.camera, self._pipeline.engine
        stages = self.ledger.snapshot()
        return Summary(
            captured=self.captured,
            processed=self.processed,
            dropped=self.dropped,
            failed=camera.failed + self.failed,
            stages=stages,
            age_ms=stages.get("age", {}),
            rss_mb=rss_mb(),
            states=dict(self.states),
            lost=self._capture.lost,
            health=self.health.status().as_json(),
            seconds=round(time.monotonic() - self._start_s, 3),
            engine=engine.name,
            precision=engine.precision,
            interrupted=interrupted,
            notes=[*camera.notes, *([] if self.golden else [SKIPPED])],
            golden=self.golden.as_json() if self.golden else {"frames": 0},
        )

    def snapshot(self) -> Snapshot:
        """All that this session can say of itself now; any thread may ask."""
        camera, engine = self._capture.camera, self._pipeline.engine
        return Snapshot(
            t_ns=time.monotonic_ns(),
            t_unix_s=time.time(),
            uptime_s=time.monotonic() - self._start_s,
            turned_ns=self.turned_ns,
            bundle=self._pipeline.bundle_name,
            engine=engine.name,
            precision=engine.precision,
            camera_id=camera.camera_id,
            captured=self.captured,
            processed=self.processed,
            dropped=self.dropped,
            failed=camera.failed + self.failed,
            states=dict(self.states),
            newest=self.newest,
            status=self.health.status(),
            events=self.health.recent(),
            stages=stage_times(self.ledger),
            rss_mb=rss_mb(),
        )


def run(
    bundle: Bundle,
    camera: Camera,
    *,
    engine: Engine | None = None,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    sinks: Sequence[Sink] = (),
    on_result: Callable[[Result], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_ledger: Callable[[Ledger], None] | None = None,
    every_s: float = 5.0,
    max_frames: int | None = None,
    golden: GoldenReport | Replay = "replay",
    health: Health | None = None,
    patience: Patience | None = None,
    reload: Callable[[], Engine] | None = None,
) -> Summary:
    """Run until the source ends, `max_frames` are done, a sink asks to stop, or Ctrl-C; then close everything.

    engine: the bundle's chosen one where None; reload loads it again after failures. track: an object keeps its number
    from frame to frame (see edgetl_runtime.track). golden: replay a golden sample first and refuse to run where it
    differs, skip that (the summary says so), or the report of a replay that was done. health: where the camera tells
    what happens to it. A result is published first (`on_result`, then sinks without pictures) and drawn afterwards. A
    sink that is a Watcher is handed the session's snapshots. Raises BundleError, CameraError or EngineError, InputError
    where there are no boxes to track; sinks are closed even so.
    """
    loaded = engine
    try:
        if loaded is None:
            loaded = load_bundle_engine(bundle)
            reload = reload or (lambda: load_bundle_engine(bundle))
        proven = start_check(bundle, loaded, golden)
        pipeline = Pipeline(bundle, loaded, threshold=threshold, deadline_ms=deadline_ms, track=track)
        domain = domain_monitor(bundle)
    except BaseException:
        camera.close()
        for sink in sinks:
            sink.close()
        if loaded is not None:
            loaded.close()
        raise
    publisher = _Publisher(bundle, sinks, on_result, on_event)
    session = Session(
        camera,
        pipeline,
        every_s=every_s,
        on_ledger=on_ledger,
        on_event=publisher.event,
        golden=proven,
        health=health,
        patience=patience,
        reload=reload,
        domain=domain,
    )
    for sink in sinks:
        if isinstance(sink, Watcher):
            sink.watch(session.snapshot)
    interrupted = False
    try:
        with session:
            for frame, result in session.frames():
                publisher.publish(frame, result, session.ledger)
                del frame, result
                if session.processed == max_frames or any(s.stop for s in sinks):
                    break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for sink in sinks:
            sink.close()
    return session.summary(interrupted=interrupted)


def domain_monitor(bundle: Bundle) -> DomainMonitor | None:
    """What watches the domain of this bundle, None where it has no statistics. Raises BundleError."""
    domain = bundle.manifest.domain
    return DomainMonitor(bundle.path / domain.file) if domain else None


class _Publisher:
    """Delivers a result everywhere, those who only read it first."""

    def __init__(
        self,
        bundle: Bundle,
        sinks: Sequence[Sink],
        on_result: Callable[[Result], None] | None,
        on_event: Callable[[Event], None] | None,
    ) -> None:
        self._sinks = sinks
        self._heads = bundle.manifest.heads
        self._annotator: Annotator | None = None
        self._on_result, self._on_event = on_result, on_event

    def event(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)
        for sink in self._sinks:
            sink.event(event)

    def publish(self, frame: Frame, result: Result, ledger: Ledger) -> None:
        t0 = time.perf_counter()
        pictured = [sink for sink in self._sinks if sink.needs_picture]
        if self._on_result is not None:
            self._on_result(result)
        for sink in self._sinks:
            if sink not in pictured:
                sink.write(result, frame, None)
        t1 = time.perf_counter()
        ledger.add("publish", (t1 - t0) * 1e3)
        if pictured:
            self._annotator = self._annotator or Annotator(self._heads)
            picture = self._annotator(frame, result)
            for sink in pictured:
                sink.write(result, frame, picture)
            ledger.add("annotate", (time.perf_counter() - t1) * 1e3)


def rss_mb() -> float:
    """Resident memory of this process in MB; 0 where /proc has no such thing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
