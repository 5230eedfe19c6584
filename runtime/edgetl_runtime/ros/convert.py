"""Results and snapshots as ROS 2 messages; this module needs pycdr2, of the vehicle extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.ros.messages import (
    BoundingBox2D,
    BoundingBox3D,
    CameraInfo,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    KeyValue,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point,
    Point2D,
    Pose,
    Pose2D,
    PoseWithCovariance,
    Time,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgetl_runtime.health import State
    from edgetl_runtime.result import Detections, Places
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.snapshot import Snapshot

BASE_FRAME = "base_link"
UNKNOWN_VARIANCE = 1e6
"""Of what was not measured: height, in square metres, and rotations, in square radians."""

OK, WARN, ERROR, STALE = range(4)
LEVELS: dict[State, int] = {"ok": OK, "degraded": WARN, "stale": STALE, "fault": ERROR}
SILENT_S = 2.0
"""Without a result for so long the status is stale, whatever else holds."""

_NOWHERE = PoseWithCovariance()
_WINDOW = "last 10 s"


def header(epoch_ns: int, frame_id: str) -> Header:
    """epoch_ns: when the frame was captured, on the system clock, from 1970 to 2038."""
    seconds, nanoseconds = divmod(epoch_ns, 1_000_000_000)
    return Header(Time(seconds, nanoseconds), frame_id)


def boxes_message(found: Detections, labels: Sequence[str], head: Header) -> Detection2DArray:
    """Every box with its label's name, score and track, in pixels of the source image; the pose is left at zero."""
    boxes = found.boxes_xyxy.astype(np.float64)
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows = zip(centres.tolist(), sizes.tolist(), _named(found, labels), strict=True)
    return Detection2DArray(
        head,
        [
            Detection2D(
                head,
                [ObjectHypothesisWithPose(named, _NOWHERE)],
                BoundingBox2D(Pose2D(Point2D(x, y)), width, height),
                track,
            )
            for (x, y), (width, height), (named, track) in rows
        ],
    )


def places_message(found: Detections, places: Places, labels: Sequence[str], head: Header) -> Detection3DArray:
    """Every object whose place is known, in base_link: its point on the ground with the covariance of x and y.

    z is 0 and the object is not rotated; neither was measured, as UNKNOWN_VARIANCE says. The size is unknown: zero.
    """
    n = len(places)
    cells = np.concatenate([places.positions_m, places.covariances_m2.reshape(n, 4)], axis=1)
    rows = zip(
        np.isfinite(cells).all(axis=1).tolist(),
        places.positions_m.astype(np.float64).tolist(),
        places.covariances_m2.astype(np.float64).tolist(),
        _named(found, labels),
        strict=True,
    )
    return Detection3DArray(
        head,
        [
            _place(head, Pose(Point(x, y)), covariance, named, track)
            for told, (x, y), covariance, (named, track) in rows
            if told
        ],
    )


def _place(head: Header, pose: Pose, covariance: list[list[float]], named: ObjectHypothesis, track: str) -> Detection3D:
    cells = [0.0] * 36
    cells[0], cells[1], cells[6], cells[7] = *covariance[0], *covariance[1]
    for axis in range(2, 6):
        cells[7 * axis] = UNKNOWN_VARIANCE
    hypothesis = ObjectHypothesisWithPose(named, PoseWithCovariance(pose, cells))
    return Detection3D(head, [hypothesis], BoundingBox3D(pose), track)


def _named(found: Detections, labels: Sequence[str]) -> Iterator[tuple[ObjectHypothesis, str]]:
    """What each box is, and its track's number, or "" without one."""
    numbers = [-1] * len(found) if found.track_ids is None else found.track_ids.tolist()
    for index, score, number in zip(found.classes.tolist(), found.scores.tolist(), numbers, strict=True):
        yield ObjectHypothesis(labels[index], score), str(number) if number >= 0 else ""


def camera_message(size_hw: tuple[int, int], intrinsics: Intrinsics | None, head: Header) -> CameraInfo:
    """What is known of the camera at this size; without intrinsics k is all zero, ROS's sign for not calibrated."""
    height, width = size_hw
    if intrinsics is None:
        return CameraInfo(head, height, width)
    at = intrinsics.scaled(size_hw)
    return CameraInfo(head, height, width, at.model, list(at.d), list(at.k), list(at.r), list(at.p))


def diagnostics_message(snapshot: Snapshot, name: str, hardware_id: str, head: Header) -> DiagnosticArray:
    """The state of the loop with its conditions and counts, and one status for its times."""
    level, message = _verdict(snapshot)
    whole = DiagnosticStatus(level, f"{name}: perception", message, hardware_id, _pairs(_counts(snapshot)))
    late = snapshot.states.get("late", 0)
    share = f"{late} of {snapshot.processed} results were late"
    times = DiagnosticStatus(
        OK if snapshot.stages else STALE,
        f"{name}: latency",
        share if snapshot.stages else "no result yet",
        hardware_id,
        _pairs(_times(snapshot)),
    )
    return DiagnosticArray(head, [whole, times])


def _verdict(snapshot: Snapshot) -> tuple[int, str]:
    status = snapshot.status
    since_s = snapshot.since_publish_s
    level = LEVELS[status.state]
    held = [f"{condition}: {detail}" for condition, detail in status.conditions.items()]
    if snapshot.silent_s >= SILENT_S:
        return ERROR, f"the loop has not turned for {snapshot.silent_s:.1f} s"
    if since_s is None or since_s >= SILENT_S:
        told = "no result yet" if since_s is None else f"no result for {since_s:.1f} s"
        return level if level == ERROR else STALE, "; ".join([told, *held])
    return level, "; ".join([status.state, *held])


def _counts(snapshot: Snapshot) -> dict[str, object]:
    since_s = snapshot.since_capture_s
    return {
        "state": snapshot.status.state,
        "camera": snapshot.camera_id,
        "bundle": snapshot.bundle,
        "engine": snapshot.engine,
        "precision": snapshot.precision,
        "since capture [s]": "" if since_s is None else f"{since_s:.3f}",
        "captured": snapshot.captured,
        "processed": snapshot.processed,
        "dropped": snapshot.dropped,
        "failed": snapshot.failed,
        "lost": snapshot.lost,
        "memory [MB]": f"{snapshot.rss_mb:.0f}",
        **{f"{condition} (times)": count for condition, count in snapshot.status.counts.items()},
    }


def _times(snapshot: Snapshot) -> dict[str, object]:
    return {
        f"{stage} {figure} [ms], {_WINDOW}": f"{times.short[f'{figure}_ms']:.3f}"
        for stage, times in snapshot.stages.items()
        for figure in ("p50", "p99", "max")
    }


def _pairs(values: dict[str, object]) -> list[KeyValue]:
    return [KeyValue(key, str(value)) for key, value in values.items()]
