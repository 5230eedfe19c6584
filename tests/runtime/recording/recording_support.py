"""Results, headers and outputs for the tests of recordings."""

from __future__ import annotations

import dataclasses
import errno
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from runtime_support import HEADS, SEGMENT

from edgetl_runtime.recording.format import ALONE, RIG, RecordedBundle, RecordedCamera, RecordingHeader
from edgetl_runtime.recording.part import PartFile
from edgetl_runtime.recording.reader import Recorded, Recording
from edgetl_runtime.result import Detections, Frame, Mask, Places, Result, Scores

CAMERA = {"camera_id": "cam", "fps": 30.0}
BUNDLE = {
    "bundle": "tiny",
    "manifest_sha256": "ab" * 32,
    "variant": "fp32",
    "engine": "onnxruntime",
    "precision": "fp32",
    "threads": 0,
    "threshold": None,
    "deadline_ms": 0.0,
    "heads": HEADS,
}
COMMON = {
    "edgetl": "0.1.0",
    "clock": "CLOCK_MONOTONIC",
    "offset_ns": 1_700_000_000_000_000_000,
    "machine": "test",
}


def header(**changes: Any) -> RecordingHeader:
    """Of a run with one camera and one bundle; `changes` replace values of any of its parts."""
    camera = _part(RecordedCamera, CAMERA, changes)
    bundle = _part(RecordedBundle, BUNDLE, changes)
    common: dict[str, Any] = COMMON | changes
    return RecordingHeader(version=ALONE, cameras={camera.camera_id: camera}, bundles={bundle.bundle: bundle}, **common)


def rig_header(
    cameras: Iterable[str] = ("left", "right"), bundles: Iterable[str] = ("a", "b"), **changes: Any
) -> RecordingHeader:
    """Of a rig; `changes` replace values of every bundle."""
    return RecordingHeader(
        version=RIG,
        cameras={name: _part(RecordedCamera, CAMERA, {}) for name in cameras},
        bundles={name: _part(RecordedBundle, BUNDLE, dict(changes)) for name in bundles},
        **COMMON,  # type: ignore[arg-type]
    )


def _part(kind: Any, values: dict[str, Any], changes: dict[str, Any]) -> Any:
    own = {name: changes.pop(name) for name in kind.__struct_fields__ if name in changes}
    return kind(**(values | own))


def boxes(n: int, seed: int = 0) -> Detections:
    """`n` boxes with figures that no short decimal text holds."""
    rng = np.random.default_rng(seed)
    corner = rng.random((n, 2), np.float32) * 50
    return Detections(
        np.concatenate([corner, corner + 1 + rng.random((n, 2), np.float32) * 30], 1).astype(np.float32),
        np.sort(rng.random(n, np.float32))[::-1].copy(),
        rng.integers(0, 3, n),
    )


def tracked(n: int, seed: int = 0) -> Detections:
    """The same with tracks, the last one without a number."""
    rng = np.random.default_rng(seed)
    numbers, ages = np.arange(n) * 3 + seed, rng.random(n, np.float32)
    velocities = rng.normal(0, 50, (n, 2)).astype(np.float32)
    if n:
        numbers[-1], ages[-1], velocities[-1] = -1, np.nan, np.nan
    plain = boxes(n, seed)
    return Detections(plain.boxes_xyxy, plain.scores, plain.classes, numbers, ages, velocities)


def placed(n: int, seed: int = 0) -> Detections:
    """Tracked boxes with places: the i-th 10 * (i + 1) m ahead and i m to the left, the last one's not known."""
    found = tracked(n, seed)
    positions = np.array([[10.0 * (i + 1), i] for i in range(n)], np.float32).reshape(n, 2)
    speeds = np.arange(n, dtype=np.float32)
    if n:
        positions[-1], speeds[-1] = np.nan, np.nan
    covariances = np.tile(np.diag([0.25, 0.04]).astype(np.float32), (n, 1, 1))
    places = Places(positions, covariances, speeds, np.full(n, np.nan, np.float32))
    return dataclasses.replace(found, places=places)


def result(frame_id: int = 0, *, count: int = 3, size_hw: tuple[int, int] = (90, 160), **changes: Any) -> Result:
    """A result of every kind of head, with an embedding."""
    rng = np.random.default_rng(frame_id)
    outputs = {
        "detect": boxes(count, frame_id),
        "ground": Mask(
            rng.integers(0, len(SEGMENT.labels), (14, 24)).astype(np.uint8), size_hw, cell=4, window=(2, 0, 54, 96)
        ),
        "light": Scores(np.array([0.1, 0.7, 0.2], np.float32), 1),
    }
    now_ns = time.monotonic_ns()
    values: dict[str, Any] = {
        "frame_id": frame_id,
        "camera_id": "cam",
        "t_capture_ns": now_ns - 5_000_000,
        "t_publish_ns": now_ns,
        "outputs": outputs,
        "size_hw": size_hw,
        "stages_ms": {"infer": 1.25},
        "dropped_before": frame_id % 3,
        "media_time_s": frame_id / 30,
        "embedding": rng.normal(size=5).astype(np.float32),
    }
    return Result(**(values | changes))


def noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture that can't be packed."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


def frame_of(of: Result, image: np.ndarray[Any, np.dtype[np.uint8]] | None = None) -> Frame:
    if image is None:
        image = noise(of.size_hw, of.frame_id)
    return Frame(image, of.frame_id, of.camera_id, of.t_capture_ns, of.media_time_s, of.name)


def read_all(path: Path) -> tuple[list[Recorded], Recording]:
    """All results, and the recording after that."""
    with Recording(path) as recording:
        return list(recording.results()), recording


class SlowFile(PartFile):
    """A disk on which every write takes `delay_s`."""

    delay_s = 0.0

    def write(self, data: bytes) -> int:
        time.sleep(self.delay_s)
        return super().write(data)


class FullFile(PartFile):
    """A disk with room for `room` bytes: what does not fit is written as far as it goes."""

    room = 0

    def write(self, data: bytes) -> int:
        left = self.room - self.tell()
        if len(data) > left:
            super().write(data[:left])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)
