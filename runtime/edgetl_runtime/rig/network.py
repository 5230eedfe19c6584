"""One bundle in a rig: its engine, a lane for each camera, and the repair of what fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.errors import EngineError
from edgetl_runtime.health import Health
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.repair import Repair
from edgetl_runtime.rig.lane import Lane
from edgetl_runtime.rig.loading import BackgroundLoad
from edgetl_runtime.session import domain_monitor
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.capture import Taken
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.golden import GoldenReport
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.result import Result
    from edgetl_runtime.rig.sharing import Letterboxes


def has_boxes(bundle: Bundle) -> bool:
    """Whether there is anything to track."""
    return any(isinstance(head, DetectHead) for head in bundle.manifest.heads)


class Network:
    """A bundle whose one engine runs every camera's frames, one after the other, each at batch 1.

    Engines whose batch is larger, which could run a round's frames in one call, are not used as such yet.

    letterboxes: by camera. Each camera has its own pipeline, so that nothing that is remembered between frames mixes.
    reload: makes the engine anew after failures, in a thread of its own; None where there is no way. golden: the report
    of the replay on the engine, None where that was skipped. track: each camera's objects keep their numbers; nothing
    to do for a bundle without boxes. calibrations: by camera, as of Pipeline, likewise. lost: why it was given up; from
    then on it runs nothing.

    Raises EngineError where the first run fails, BundleError for statistics that can't be read, InputError for a
    threshold outside 0 to 1. The engine is the caller's to close until then, this object's afterwards.
    """

    def __init__(
        self,
        name: str,
        bundle: Bundle,
        engine: Engine,
        letterboxes: Mapping[str, Letterboxes],
        *,
        patience: Patience,
        threshold: float | None = None,
        deadline_ms: float = 0.0,
        track: bool = False,
        calibrations: Mapping[str, Calibration] | None = None,
        reload: Callable[[], Engine] | None = None,
        golden: GoldenReport | None = None,
    ) -> None:
        self.name, self.bundle, self.golden = name, bundle, golden
        self.engine = engine
        self.health = Health()
        self.lost: EngineError | None = None
        self.reloads = 0
        preprocess = bundle.manifest.preprocess
        track = track and has_boxes(bundle)
        known = (calibrations or {}) if has_boxes(bundle) else {}
        self.lanes = {
            camera: Lane(
                camera,
                Pipeline(
                    bundle,
                    engine,
                    threshold=threshold,
                    deadline_ms=deadline_ms,
                    track=track,
                    letterbox=boxes.of(preprocess),
                    calibration=known.get(camera),
                ),
                domain_monitor(bundle),
            )
            for camera, boxes in letterboxes.items()
        }
        self._load = BackgroundLoad(name, reload) if reload is not None else None
        self._repair = Repair(self, self.health, self._load, patience)
        self._runs = self._worked_at = 0

    def exchange(self, engine: Engine) -> None:
        """All pipelines use this engine from now on, and not one that is being loaded for the engine before it.

        Raises EngineError where it does not run; none uses it then.
        """
        try:
            for lane in self.lanes.values():
                lane.pipeline.exchange(engine)
        except EngineError:
            for lane in self.lanes.values():
                lane.pipeline.engine = self.engine
            raise
        self.engine = engine
        if self._load is not None:
            self._load.drop()

    def run(
        self, camera: str, taken: Taken, *, live: bool, when_read: Callable[[], None] | None = None
    ) -> Result | EngineError:
        """One offered frame's result, or why there is none; raises that where the camera is not live. when_read: as of
        Pipeline.process.

        What fails for one camera while others work is that camera's trouble, a condition of its lane. What fails for
        all is the engine's: Repair's business, and for ever once its patience is over.
        """
        lane = self.lanes[camera]
        if self.lost is not None:
            lane.passed_over()
            return self.lost
        self._take_loaded()
        self._runs += 1
        try:
            result = lane.run(taken, self._runs, when_read=when_read)
        except EngineError as error:
            if not live:
                raise
            self._failed(lane, error)
            return error
        self._worked_at = self._runs
        self._repair.worked()
        return result

    def _failed(self, lane: Lane, error: EngineError) -> None:
        if lane.failing_since is not None and self._worked_at > lane.failing_since:
            return
        try:
            self._repair.failed(error)
        except EngineError as lost:
            self.lost = lost
            self.engine.close()

    def _take_loaded(self) -> None:
        """Use an engine that was loaded meanwhile."""
        engine = self._load.take() if self._load is not None else None
        if engine is None:
            return
        try:
            self.exchange(engine)
            self.reloads += 1
        except EngineError:
            engine.close()

    def close(self) -> None:
        """Let go of the engine, and of one that is being loaded."""
        if self._load is not None:
            self._load.close()
        self.engine.close()
