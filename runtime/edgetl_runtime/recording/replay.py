"""The recorded frames through a bundle again: what it says of them now, against what it said then."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.ledger import Histogram, Ledger
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.recording.compare import Difference, compare
from edgetl_runtime.session import rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.recording.reader import Recorded, Recording
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import Sink

MAX_LISTED = 1000
"""Differences that are kept; all of them are counted."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found. compared = equal + those that differ, of which `differing` holds the first 1000.

    captured, dropped, failed, age_ms, states: the recorded run's, up to where the recording ends. stages: the
    replay's own. without_frame: results whose frame is not in the recording.
    """

    compared: int
    equal: int
    differing: list[Difference]
    without_frame: int
    captured: int
    dropped: int
    failed: int
    stages: dict[str, dict[str, float]]
    age_ms: dict[str, float]
    states: dict[str, int]
    rss_mb: float
    seconds: float
    events: int
    whole: bool
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Plain values; the keys are stable."""
        document = {name: getattr(self, name) for name in self.__slots__}
        document["differing"] = [d.as_json() for d in self.differing]
        return document | {"processed": self.compared}


def replay(
    recording: Recording,
    bundle: Bundle,
    engine: Engine,
    *,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    calibration: Calibration | None = None,
    sinks: Sequence[Sink] = (),
    max_frames: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> ReplayReport:
    """Run every recorded frame with its stamps and drop counts, and compare; stamps of the replay itself don't count.

    sinks get the new result with the recorded times. Raises InputError where the recording is not readable,
    EngineError where the engine fails.
    """
    pipeline = Pipeline(
        bundle, engine, threshold=threshold, deadline_ms=deadline_ms, track=track, calibration=calibration
    )
    judge = _Judge(bundle, track=track)
    drawer = _Drawer(bundle, sinks)
    start_s = time.monotonic()
    for recorded in recording.results():
        frame = judge.seen(recorded)
        if frame is None:
            continue
        result = pipeline.process(frame, dropped_before=recorded.result.dropped_before)
        judge.add(recorded.result, result)
        drawer.draw(frame, result, recorded.result)
        if on_result is not None:
            on_result(result)
        if judge.compared == max_frames or any(sink.stop for sink in sinks):
            break
    return judge.report(recording, seconds=time.monotonic() - start_s)


class _Judge:
    """Counts, and keeps what differs."""

    def __init__(self, bundle: Bundle, *, track: bool) -> None:
        self._track = track
        self.compared = self._equal = self._without_frame = self._captured = self._dropped = 0
        self._heads = bundle.manifest.heads
        self._differing: list[Difference] = []
        self._ledger = Ledger()
        self._ages = Histogram()
        self._states: Counter[str] = Counter()

    def seen(self, recorded: Recorded) -> Frame | None:
        result = recorded.result
        self._captured += 1 + result.dropped_before
        self._dropped += result.dropped_before
        self._ages.add(result.age_ms)
        self._states[result.state] += 1
        self._without_frame += recorded.frame is None
        return recorded.frame

    def add(self, recorded: Result, result: Result) -> None:
        self.compared += 1
        self._ledger.add_all(result.stages_ms)
        difference = compare(recorded, result, self._heads)
        if difference is None:
            self._equal += 1
        elif len(self._differing) < MAX_LISTED:
            self._differing.append(difference)

    def report(self, recording: Recording, *, seconds: float) -> ReplayReport:
        notes = recording.notes
        if self._without_frame:
            notes.append(f"{self._without_frame} results have no frame in the recording and were not compared")
        if self._without_frame and self._track:
            notes.append("tracks depend on every frame before them: after one that is missing they may differ")
        return ReplayReport(
            compared=self.compared,
            equal=self._equal,
            differing=self._differing,
            without_frame=self._without_frame,
            captured=self._captured,
            dropped=self._dropped,
            failed=recording.status.failed,
            stages=self._ledger.snapshot(),
            age_ms=self._ages.snapshot(),
            states=dict(self._states),
            rss_mb=rss_mb(),
            seconds=round(seconds, 3),
            events=recording.events,
            whole=recording.whole,
            notes=notes,
        )


class _Drawer:
    """Gives sinks the new result with the times of the recorded one, so that a video shows the drive's ages."""

    def __init__(self, bundle: Bundle, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._annotator = Annotator(bundle.manifest.heads) if any(s.needs_picture for s in sinks) else None

    def draw(self, frame: Frame, result: Result, recorded: Result) -> None:
        if not self._sinks:
            return
        timed = dataclasses.replace(
            result,
            t_publish_ns=recorded.t_publish_ns,
            stages_ms=recorded.stages_ms,
            state=recorded.state,
            valid_until_ns=recorded.valid_until_ns,
            health=recorded.health,
            shift=recorded.shift,
        )
        picture = self._annotator(frame, timed) if self._annotator is not None else None
        for sink in self._sinks:
            sink.write(timed, frame, picture if sink.needs_picture else None)
