"""edgetl_runtime: a compiled bundle and a camera in, timed perception results out. No torch.

with edgetl_runtime.open("model.bundle", "video.mp4") as results:
    for result in results:
        result.outputs  # by the head's name: Detections, a Mask or Scores

A bundle's heads are in its manifest: read_manifest("model.bundle").heads. Several cameras and several bundles in one
process: see open_rig.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from edgetl_runtime.bundle import Bundle, open_bundle, read_manifest
    from edgetl_runtime.cameras import open_camera
    from edgetl_runtime.engines import available_engines, load_bundle_engine, load_engine
    from edgetl_runtime.geometry.calibration import Calibration, read_calibration
    from edgetl_runtime.golden import Replay
    from edgetl_runtime.health import Event
    from edgetl_runtime.ladder import Policy
    from edgetl_runtime.loop import run
    from edgetl_runtime.pipeline import Pipeline
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.result import Detections, Frame, Mask, Places, Result, Scores
    from edgetl_runtime.rig.opening import open_rig
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import Round
    from edgetl_runtime.session import Session, Summary
    from edgetl_runtime.web import WebSink

__version__ = "0.1.0"

_LAZY = {
    "Bundle": "bundle",
    "Calibration": "geometry.calibration",
    "Detections": "result",
    "Frame": "result",
    "Mask": "result",
    "Patience": "repair",
    "Pipeline": "pipeline",
    "Places": "result",
    "Result": "result",
    "Rig": "rig.rig",
    "Round": "rig.round",
    "Scores": "result",
    "Session": "session",
    "Summary": "session",
    "WebSink": "web",
    "available_engines": "engines",
    "load_bundle_engine": "engines",
    "load_engine": "engines",
    "open_bundle": "bundle",
    "open_camera": "cameras",
    "open_rig": "rig.opening",
    "read_calibration": "geometry.calibration",
    "read_manifest": "bundle",
    "run": "loop",
}

__all__ = [
    "Bundle",
    "Calibration",
    "Detections",
    "Frame",
    "Mask",
    "Patience",
    "Pipeline",
    "Places",
    "Result",
    "Rig",
    "Round",
    "Scores",
    "Session",
    "Summary",
    "WebSink",
    "__version__",
    "available_engines",
    "load_bundle_engine",
    "load_engine",
    "open",
    "open_bundle",
    "open_camera",
    "open_rig",
    "read_calibration",
    "read_manifest",
    "run",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that importing the package costs nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


@contextmanager
def open(  # noqa: A001  (reads as edgetl_runtime.open)
    bundle: str | os.PathLike[str],
    source: str | int,
    *,
    variant: str | None = None,
    engine: str | None = None,
    threads: int | Literal["auto"] = 0,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    calibration: str | os.PathLike[str] | Calibration | None = None,
    require_signature: bool | str | os.PathLike[str] | None = None,
    golden: Replay = "replay",
    patience: Patience | None = None,
    ladder: str | os.PathLike[str] | Policy | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Iterator[Session]:
    """Open a verified bundle on a camera, a video file or a folder of images; iterate it for Results.

    A live camera gives its newest frame, a file every frame. threads: of the engine, 0: its choice, "auto": the fastest
    number is measured on this machine first. threshold: from which a box or a category counts, for
    every label of every head, in place of the bundle's. track: boxes carry the number, age and velocity of their
    object, and what a track speaks for may score below its threshold. calibration: of the camera, or the file that
    holds it; boxes then carry their places on the road, and tracked ones how fast they come nearer. require_signature:
    a file of public keys, one of which must have signed the bundle, or True for any key. golden: replay a golden sample
    on the engine before the first frame and refuse where it differs, or skip that, which the session's summary then
    says. A live camera that stalls and an engine that fails end the loop only after `patience`; until then
    `session.health` says so, and `on_event` is told. ladder: what is given up, in which order, while results are late,
    as a Policy or the file that holds it (see edgetl_runtime.ladder); its steps are told as events of the condition
    "ladder". A process that does nothing else wants edgetl_runtime.schedule.set_opencv_threads, as `edgetl run`
    does. Raises BundleError, EngineError, CameraError or MissingPackage, and InputError for what was given, each
    one clear line.
    """
    from pathlib import Path

    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.cameras import open_camera
    from edgetl_runtime.geometry.calibration import Calibration, check_size
    from edgetl_runtime.geometry.calibration import read_calibration as read
    from edgetl_runtime.health import Health
    from edgetl_runtime.pairs import Engines, open_ladder
    from edgetl_runtime.pipeline import Pipeline
    from edgetl_runtime.repair import Patience
    from edgetl_runtime.session import Session, domain_monitor

    patience = patience or Patience()
    known = calibration if calibration is None or isinstance(calibration, Calibration) else read(Path(calibration))
    opened = open_bundle(bundle, require_signature=require_signature)
    health = Health()
    camera = open_camera(source, give_up_s=patience.give_up_s, health=health)
    loaded = None
    try:
        engines = Engines(opened, variant=variant, engine=engine, threads=threads, golden=golden)
        steps = open_ladder(ladder, {"": engines}, health)
        loaded, proven = engines.first()
        if known is not None:
            check_size(known, camera.size_hw)
        pipeline = Pipeline(
            opened, loaded, threshold=threshold, deadline_ms=deadline_ms, track=track, calibration=known
        )
        domain = domain_monitor(opened)
    except BaseException:
        camera.close()
        if loaded is not None:
            loaded.close()
        raise
    with Session(
        camera,
        pipeline,
        golden=proven,
        health=health,
        patience=patience,
        reload=engines.again,
        domain=domain,
        ladder=steps,
        on_event=on_event,
    ) as session:
        yield session
