"""The camera loop from start to end: engine, session, sinks, and the summary of it all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.geometry.calibration import check_size
from edgetl_runtime.golden import load_proven, start_check
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.publish import Publisher
from edgetl_runtime.session import Session, domain_monitor
from edgetl_runtime.sinks import close_all
from edgetl_runtime.snapshot import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.health import Event, Health
    from edgetl_runtime.ladder import Ladder
    from edgetl_runtime.ledger import Ledger
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.result import Result
    from edgetl_runtime.session import Summary
    from edgetl_runtime.sinks import Sink


def run(
    bundle: Bundle,
    camera: Camera,
    *,
    engine: Engine | None = None,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    calibration: Calibration | None = None,
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
    ladder: Ladder | None = None,
) -> Summary:
    """Run until the source ends, `max_frames` are done, a sink asks to stop, or Ctrl-C; then close everything.

    engine: the bundle's chosen one where None; reload loads the one that runs again after failures. track: an object
    keeps its number from frame to frame (see edgetl_runtime.track). calibration: boxes get places on the road (see
    edgetl_runtime.geometry). golden: replay a golden sample first and refuse to run where it differs, skip that (the
    summary says so), or the report of a replay that was done. health: where the camera and the ladder tell what
    happens. A result is published first (`on_result`, then sinks without pictures) and drawn afterwards. A sink that is
    a Watcher is handed the session's snapshots. Of a live camera a sink that raises is left out from then on; that is
    told on stderr and in the summary's notes. Raises BundleError, CameraError or EngineError, InputError where there
    are no boxes to track or to place, or where the calibration is of other frames; sinks are closed even so.
    """
    loaded = engine
    try:
        if loaded is None:
            loaded = load_bundle_engine(bundle)
            reload = reload or (ladder.again if ladder is not None else lambda: _again(bundle, golden))
        proven = start_check(bundle, loaded, golden)
        if calibration is not None:
            check_size(calibration, camera.size_hw)
        pipeline = Pipeline(
            bundle, loaded, threshold=threshold, deadline_ms=deadline_ms, track=track, calibration=calibration
        )
        domain = domain_monitor(bundle)
    except BaseException:
        camera.close()
        if loaded is not None:
            loaded.close()
        close_all(sinks)
        raise
    publisher = Publisher(bundle.manifest.heads, sinks, on_result=on_result, live=camera.live)

    def tell(event: Event) -> None:
        if on_event is not None:
            on_event(event)
        publisher.event(event)

    session = Session(
        camera,
        pipeline,
        every_s=every_s,
        on_ledger=on_ledger,
        on_event=tell,
        golden=proven,
        health=health,
        patience=patience,
        reload=reload,
        domain=domain,
        ladder=ladder,
        stop=lambda: any(sink.stop for sink in publisher.sinks),
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
                if session.processed == max_frames:
                    break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        close_all(sinks)
    summary = session.summary(interrupted=interrupted)
    return dataclasses.replace(summary, notes=[*summary.notes, *publisher.broken.notes])


def _again(bundle: Bundle, golden: GoldenReport | Replay) -> Engine:
    """The chosen engine made anew, and proven unless the first was not to be."""
    engine, _ = load_proven(bundle, lambda: load_bundle_engine(bundle), "skip" if golden == "skip" else "replay")
    return engine
