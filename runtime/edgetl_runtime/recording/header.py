"""The header of a recording, from what is about to run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from edgetl_runtime import __version__
from edgetl_runtime.bundle import MANIFEST_NAME
from edgetl_runtime.machine import machine
from edgetl_runtime.recording.format import VERSION, RecordingHeader, wall_offset_ns
from edgetl_runtime.result import CLOCK
from edgetl_runtime.spec import at_threshold

if TYPE_CHECKING:
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
    """The header for a run that begins now; the arguments are the run's."""
    heads = bundle.manifest.heads
    if threshold is not None:
        heads = tuple(at_threshold(head, threshold) for head in heads)
    return RecordingHeader(
        version=VERSION,
        edgetl=__version__,
        bundle=bundle.manifest.name,
        manifest_sha256=manifest_sha256(bundle),
        variant=variant,
        engine=engine.name,
        precision=engine.precision,
        threads=threads,
        threshold=threshold,
        deadline_ms=deadline_ms,
        clock=CLOCK,
        offset_ns=wall_offset_ns(),
        camera_id=camera.camera_id,
        fps=camera.fps,
        machine=machine(),
        heads=heads,
        track=track,
        calibration=calibration,
    )
