"""A camera, a pipeline and all that is known of both: newest frame in, timed result out, faults in the health."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.capture import Nothing
from edgetl_runtime.domain import DomainMonitor
from edgetl_runtime.errors import EngineError
from edgetl_runtime.feed import Feed
from edgetl_runtime.golden import SKIPPED
from edgetl_runtime.health import Health
from edgetl_runtime.judge import Judge
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.repair import Patience, Repair
from edgetl_runtime.rest import CollectorRest
from edgetl_runtime.snapshot import Snapshot, stage_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.capture import Taken
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport
    from edgetl_runtime.health import Event
    from edgetl_runtime.ladder import Ladder
    from edgetl_runtime.pipeline import Pipeline
    from edgetl_runtime.result import Frame, Result

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
    engine gave, None where that was skipped: the summary says which. stop: asked in every turn, also where no frame
    comes, whether to end.

    On a live camera what goes wrong is a condition of `health`, told to `on_event`, and the loop goes on: no frame for
    patience.stall_s, a frame that must not be used, an engine that fails (from the third time in a row on it is loaded
    again by `reload`), an output that is no number, embeddings that `domain` finds strange, a camera that moved,
    results so late that `ladder` gives something up. Only what lasts for patience.give_up_s is raised. On files every
    error is raised at once.
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
        ladder: Ladder | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.golden = golden
        self.ledger = Ledger()
        self.states: Counter[str] = Counter()
        self.processed = self.failed = 0
        self.health = health or Health()
        self.newest: Result | None = None
        self.turned_ns = time.monotonic_ns()
        patience = patience or Patience()
        self._pipeline, self._ladder = pipeline, ladder
        self._feed = Feed(camera, self.health, patience, calibration=pipeline.calibration)
        self._judge = Judge(self.health, domain, deadline_ms=pipeline.deadline_ms, placing=pipeline.placing)
        self._repair = Repair(pipeline, self.health, reload, patience)
        self._dropped_before = 0
        self._every_s, self._on_ledger, self._on_event = every_s, on_ledger, on_event
        self._stop = stop
        self._start_s = self._tick_s = time.monotonic()
        self._rest = CollectorRest()

    def __enter__(self) -> Session:
        self._rest.__enter__()
        self._start_s = self._tick_s = time.monotonic()
        self._feed.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # everything is closed, also where closing one thing raises
            stack.push(self._rest.__exit__)
            stack.callback(self._pipeline.engine.close)
            if self._ladder is not None:
                stack.callback(self._ladder.close)
            stack.callback(self._feed.capture.stop)
            stack.callback(self._tell)  # first: what came with the last frame, or ended the loop

    def __iter__(self) -> Iterator[Result]:
        for _, result in self.frames():
            yield result

    def frames(self) -> Iterator[tuple[Frame, Result]]:
        """Frames with their results, until the source ends or `stop`. Raises CameraError or EngineError."""
        while not self._stop():
            self.turned_ns = time.monotonic_ns()
            t0 = time.perf_counter()
            try:
                taken = self._feed.capture.get(WAIT_S)
            except Nothing:
                if (lost := self._feed.silent()) is not None:
                    raise lost from None
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
        """The frame with its result; None for one that the ladder leaves out or the engine failed on."""
        self._feed.heard()
        self._dropped_before += taken.dropped_before
        if self._ladder is not None:
            self._ladder.exchange({"": self._pipeline})
            if not self._ladder.takes():
                self._dropped_before += 1
                return None
        try:
            result = self._pipeline.process(
                taken.frame, dropped_before=self._dropped_before, when_read=self._feed.capture.read_on
            )
        except EngineError as error:
            if not self._feed.live:
                raise
            self.failed += 1
            self._dropped_before += 1
            self._repair.failed(error)
            return None
        self._repair.worked()
        self._dropped_before = 0
        if self._ladder is not None:
            self._ladder.observe(result.age_ms)
        return taken.frame, self._judge.judged(result)

    def _count(self, result: Result, wait_ms: float) -> None:
        self.processed += 1
        self.newest = result
        self.states[result.state] += 1
        self.ledger.add("wait", wait_ms)
        self.ledger.add_all(result.stages_ms)
        self.ledger.add("age", result.age_ms)

    def _tell(self) -> None:
        for event in self.health.tick():
            if self._on_event is not None:
                self._on_event(event)

    def _tick(self) -> None:
        self._tell()
        now = time.monotonic()
        if now - self._tick_s >= self._every_s:
            self._tick_s = now
            self._rest.sweep()
            if self._on_ledger is not None:
                self._on_ledger(self.ledger)

    @property
    def captured(self) -> int:
        """Frames that arrived: processed + dropped + failed."""
        return self._feed.captured

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced before they were used, that must not be used, or that the ladder left out."""
        return self._feed.capture.dropped + (self._ladder.skipped if self._ladder is not None else 0)

    def summary(self, *, interrupted: bool = False) -> Summary:
        """Counts and percentiles until now."""
        camera, engine = self._feed.camera, self._pipeline.engine
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
            lost=self._feed.capture.lost,
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
        camera, engine = self._feed.camera, self._pipeline.engine
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
            lost=self._feed.capture.lost,
            states=dict(self.states),
            newest=self.newest,
            status=self.health.status(),
            events=self.health.recent(),
            stages=stage_times(self.ledger),
            rss_mb=rss_mb(),
        )


def domain_monitor(bundle: Bundle) -> DomainMonitor | None:
    """What watches the domain of this bundle, None where it has no statistics. Raises BundleError."""
    domain = bundle.manifest.domain
    return DomainMonitor(bundle.path / domain.file) if domain else None


def rss_mb() -> float:
    """Resident memory of this process in MB; 0 where /proc has no such thing."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
