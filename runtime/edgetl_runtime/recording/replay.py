"""The recorded frames through their bundles again: what these say of them now, against what they said then."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import Annotator
from edgetl_runtime.ledger import Histogram, Ledger, merged_histograms
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.recording.compare import Difference, compare
from edgetl_runtime.session import rss_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.recording.counts import Lane
    from edgetl_runtime.recording.format import RecordingHeader
    from edgetl_runtime.recording.reader import Recorded, Recording
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.spec import Head

MAX_LISTED = 1000
"""Differences that are kept; all of them are counted."""


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What a replay found of one camera's results of one bundle; see ReplayReport."""

    compared: int
    equal: int
    without_frame: int
    captured: int
    dropped: int
    failed: int
    age_ms: dict[str, float]
    states: dict[str, int]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found. compared = equal + those that differ, of which `differing` holds the first 1000.

    captured, dropped, failed, age_ms, states: the recorded run's, up to where the recording ends. stages: the
    replay's own. without_frame: results whose frame is not in the recording. rounds: of a rig. lanes: by camera, then
    by bundle; all counts are those of the lanes together, so that a frame counts once for each bundle.
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
    rounds: int
    whole: bool
    lanes: dict[str, dict[str, LaneReport]]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Plain values; the keys are stable."""
        document = {name: getattr(self, name) for name in self.__slots__}
        document["differing"] = [d.as_json() for d in self.differing]
        document["lanes"] = {c: {b: dataclasses.asdict(r) for b, r in of.items()} for c, of in self.lanes.items()}
        return document | {"processed": self.compared}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one lane's frames run through. sinks get the new results with the recorded times."""

    pipeline: Pipeline
    heads: tuple[Head, ...]
    sinks: Sequence[Sink] = ()
    track: bool = False


def replayed_lanes(
    header: RecordingHeader,
    bundles: Mapping[str, tuple[Bundle, Engine]],
    *,
    threshold: float | None = None,
    sinks: Mapping[Lane, Sequence[Sink]] | None = None,
) -> dict[Lane, Replayed]:
    """The lanes of these bundles, run as the recorded ones were; each camera has a pipeline, and so tracks, of its own.

    bundles: by the names that the header has for them. threshold: in place of the recorded one. Raises InputError and
    EngineError as Pipeline does.
    """
    lanes = {}
    for camera, name in header.lanes:
        if name not in bundles:
            continue
        (bundle, engine), run = bundles[name], header.bundles[name]
        pipeline = Pipeline(
            bundle,
            engine,
            threshold=run.threshold if threshold is None else threshold,
            deadline_ms=run.deadline_ms,
            track=run.track,
            calibration=header.cameras[camera].calibration if run.has_boxes else None,
        )
        heads = bundle.manifest.heads
        lanes[camera, name] = Replayed(pipeline, heads, (sinks or {}).get((camera, name), ()), track=run.track)
    return lanes


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
    """`replay_all` of a recording of one camera and one bundle, run as the arguments say."""
    pipeline = Pipeline(
        bundle, engine, threshold=threshold, deadline_ms=deadline_ms, track=track, calibration=calibration
    )
    (lane,) = recording.header.lanes
    lanes = {lane: Replayed(pipeline, bundle.manifest.heads, sinks, track=track)}
    return replay_all(recording, lanes, max_frames=max_frames, on_result=on_result)


def replay_all(
    recording: Recording,
    lanes: Mapping[Lane, Replayed],
    *,
    max_frames: int | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> ReplayReport:
    """Run every recorded frame with its stamps and drop counts, and compare; stamps of the replay itself don't count.

    Results of other lanes are passed over, and the notes say so. max_frames: end after so many results. Raises
    InputError where the recording is not readable, EngineError where an engine fails.
    """
    runs = {lane: _Run(lane, through) for lane, through in lanes.items()}
    report = _Report(runs, {name: bundle.heads for name, bundle in recording.header.bundles.items()})
    start_s = time.monotonic()
    for recorded in recording.results():
        run = runs.get((recorded.camera, recorded.bundle))
        if run is None:
            report.passed_over[recorded.bundle] += 1
            continue
        result = run.process(recorded)
        if result is None:
            continue
        report.compared(recorded, result, run)
        if on_result is not None:
            on_result(result)
        if report.count == max_frames or any(sink.stop for sink in run.through.sinks):
            break
    return report.made(recording, seconds=time.monotonic() - start_s)


class _Run:
    """One lane: its pipeline, and its counts."""

    def __init__(self, lane: Lane, through: Replayed) -> None:
        self.lane, self.through = lane, through
        self.drawer = _Drawer(through.heads, through.sinks)
        self.compared = self.equal = self.without_frame = self.captured = self.dropped = 0
        self.ages = Histogram()
        self.states: Counter[str] = Counter()

    def process(self, recorded: Recorded) -> Result | None:
        """What comes of the frame now; None where there is none."""
        result = recorded.result
        self.captured += 1 + result.dropped_before
        self.dropped += result.dropped_before
        self.ages.add(result.age_ms)
        self.states[result.state] += 1
        if recorded.frame is None:
            self.without_frame += 1
            return None
        found = self.through.pipeline.process(recorded.frame, dropped_before=result.dropped_before)
        self.drawer.draw(recorded.frame, found, result)
        return found

    def report(self, recording: Recording) -> LaneReport:
        return LaneReport(
            compared=self.compared,
            equal=self.equal,
            without_frame=self.without_frame,
            captured=self.captured,
            dropped=self.dropped,
            failed=recording.status.failed_in(*self.lane),
            age_ms=self.ages.snapshot(),
            states=dict(self.states),
        )


class _Report:
    """Compares, and keeps what differs."""

    def __init__(self, runs: Mapping[Lane, _Run], heads: Mapping[str, tuple[Head, ...]]) -> None:
        """heads: the recorded ones, by bundle."""
        self.count = 0
        self.passed_over: Counter[str] = Counter()
        self._runs, self._heads = runs, heads
        self._differing: list[Difference] = []
        self._ledger = Ledger()

    def compared(self, recorded: Recorded, result: Result, run: _Run) -> None:
        self.count += 1
        run.compared += 1
        self._ledger.add_all(result.stages_ms)
        difference = compare(recorded.result, result, run.through.heads, self._heads[recorded.bundle])
        if difference is None:
            run.equal += 1
        elif len(self._differing) < MAX_LISTED:
            self._differing.append(dataclasses.replace(difference, camera=recorded.camera, bundle=recorded.bundle))

    def made(self, recording: Recording, *, seconds: float) -> ReplayReport:
        runs = list(self._runs.values())
        lanes: dict[str, dict[str, LaneReport]] = {}
        for (camera, bundle), run in self._runs.items():
            lanes.setdefault(camera, {})[bundle] = run.report(recording)
        reports = [report for of_camera in lanes.values() for report in of_camera.values()]
        states: Counter[str] = Counter()
        for run in runs:
            states.update(run.states)
        return ReplayReport(
            compared=self.count,
            equal=sum(r.equal for r in reports),
            differing=self._differing,
            without_frame=sum(r.without_frame for r in reports),
            captured=sum(r.captured for r in reports),
            dropped=sum(r.dropped for r in reports),
            failed=sum(r.failed for r in reports),
            stages=self._ledger.snapshot(),
            age_ms=merged_histograms([run.ages for run in runs]),
            states=dict(states),
            rss_mb=rss_mb(),
            seconds=round(seconds, 3),
            events=recording.events,
            rounds=recording.rounds,
            whole=recording.whole,
            lanes=lanes,
            notes=[*recording.notes, *self._notes()],
        )

    def _notes(self) -> list[str]:
        runs = self._runs.values()
        missing = sum(run.without_frame for run in runs)
        notes = [f"{count} results of {name} were not replayed" for name, count in self.passed_over.items()]
        if missing:
            notes.append(f"{missing} results have no frame in the recording and were not compared")
        if any(run.without_frame and run.through.track for run in runs):
            notes.append("tracks depend on every frame before them: after one that is missing they may differ")
        return notes


class _Drawer:
    """Gives sinks the new result with the times of the recorded one, so that a video shows the drive's ages."""

    def __init__(self, heads: Sequence[Head], sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._annotator = Annotator(heads) if any(s.needs_picture for s in sinks) else None

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
