"""The header of a recording, from what is about to run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgetl_runtime import __version__
from edgetl_runtime.bundle import MANIFEST_NAME
from edgetl_runtime.machine import machine
from edgetl_runtime.recording.format import (
    ALONE,
    RIG,
    RecordedBundle,
    RecordedCamera,
    RecordingHeader,
    wall_offset_ns,
)
from edgetl_runtime.result import CLOCK
from edgetl_runtime.spec import DetectHead, at_threshold

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration


def manifest_sha256(bundle: Bundle) -> str:
    """SHA-256 of the manifest's bytes, which hold those of every other file."""
    return hashlib.sha256((bundle.path / MANIFEST_NAME).read_bytes()).hexdigest()


def make_header(
    bundle: Bundle,
    camera: Camera,
    engine: Engine,
    *,
    variant: str,
    threads: int = 0,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
    calibration: Calibration | None = None,
) -> RecordingHeader:
    """The header for a run of one camera and one bundle that begins now; the arguments are the run's."""
    run = recorded_bundle(
        bundle, engine, variant=variant, threads=threads, threshold=threshold, deadline_ms=deadline_ms, track=track
    )
    return _header(ALONE, {camera.camera_id: recorded_camera(camera, calibration)}, {run.bundle: run})


def make_rig_header(cameras: Mapping[str, RecordedCamera], bundles: Mapping[str, RecordedBundle]) -> RecordingHeader:
    """The header for a rig that begins now; both by their names in it."""
    return _header(RIG, cameras, bundles)


def recorded_camera(camera: Camera, calibration: Calibration | None = None) -> RecordedCamera:
    """What a header says of a camera."""
    return RecordedCamera(camera_id=camera.camera_id, fps=camera.fps, calibration=calibration)


def recorded_bundle(
    bundle: Bundle,
    engine: Engine,
    *,
    variant: str,
    threads: int = 0,
    threshold: float | None = None,
    deadline_ms: float = 0.0,
    track: bool = False,
) -> RecordedBundle:
    """What a header says of a bundle; there is nothing to track for one without boxes."""
    heads = bundle.manifest.heads
    if threshold is not None:
        heads = tuple(at_threshold(head, threshold) for head in heads)
    return RecordedBundle(
        bundle=bundle.manifest.name,
        manifest_sha256=manifest_sha256(bundle),
        variant=variant,
        engine=engine.name,
        precision=engine.precision,
        threads=threads,
        threshold=threshold,
        deadline_ms=deadline_ms,
        heads=heads,
        track=track and any(isinstance(head, DetectHead) for head in heads),
    )


def _header(
    version: int, cameras: Mapping[str, RecordedCamera], bundles: Mapping[str, RecordedBundle]
) -> RecordingHeader:
    return RecordingHeader(
        version=version,
        edgetl=__version__,
        clock=CLOCK,
        offset_ns=wall_offset_ns(),
        machine=machine(),
        cameras=dict(cameras),
        bundles=dict(bundles),
    )
