"""Cameras, snapshots and rigs as ROS 2 messages; this module needs pycdr2, of the vehicle extra."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.ros.messages import CameraInfo, DiagnosticArray, DiagnosticStatus, Header, KeyValue, Time
from edgetl_runtime.session import rss_mb
from edgetl_runtime.snapshot import SHORT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgetl_runtime.health import State
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.snapshot import Snapshot

OK, WARN, ERROR, STALE = range(4)
LEVELS: dict[State, int] = {"ok": OK, "degraded": WARN, "stale": STALE, "fault": ERROR}
SILENT_S = 2.0
"""Without a result for so long the status is stale, whatever else holds."""

_WINDOW = f"last {SHORT_S} s"
_GRAVER = (OK, WARN, STALE, ERROR)


def header(epoch_ns: int, frame_id: str) -> Header:
    """epoch_ns: when the frame was captured, on the system clock, from 1970 to 2038."""
    seconds, nanoseconds = divmod(epoch_ns, 1_000_000_000)
    return Header(Time(seconds, nanoseconds), frame_id)


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
        _pairs(_times({name: times.short for name, times in snapshot.stages.items()})),
    )
    return DiagnosticArray(head, [whole, times])


def lane_status(snapshot: Snapshot, node: str, hardware_id: str) -> DiagnosticStatus:
    """The state of one bundle on one camera of a rig, with its counts and times."""
    level, message = _verdict(snapshot)
    values = _counts(snapshot) | {"late": snapshot.states.get("late", 0)}
    values |= _times({name: times.short for name, times in snapshot.stages.items()})
    name = f"{node}: {snapshot.camera_id}/{snapshot.bundle}"
    return DiagnosticStatus(level, name, message, hardware_id, _pairs(values))


def rig_status(rig: Rig, node: str, lanes: Sequence[DiagnosticStatus]) -> DiagnosticStatus:
    """The state of the whole rig: as bad as its worst lane, with its rounds and their skew. lanes: the states of those
    that the ladder does not leave out."""
    own = rig.health.status()
    silent_s = (time.monotonic_ns() - rig.turned_ns) / 1e9
    bad = [status.name.removeprefix(f"{node}: ") for status in lanes if status.level != OK]
    told = [f"not ok: {', '.join(bad)}"] if bad else []
    told += [f"{condition}: {detail}" for condition, detail in own.conditions.items()]
    level = max([LEVELS[own.state], *(status.level for status in lanes)], key=_GRAVER.index)
    if silent_s >= SILENT_S:
        level, told = ERROR, [f"the loop has not turned for {silent_s:.1f} s"]
    values = {
        "cameras": len(rig.seats),
        "bundles": len(rig.networks),
        "rounds": rig.rounds,
        "rounds gather for [ms]": f"{rig.gather_ms:g}",
        "memory [MB]": f"{rss_mb():.0f}",
        **_times(rig.ledger.window(SHORT_S)),
    }
    return DiagnosticStatus(level, f"{node}: all cameras", "; ".join(told) or "ok", "", _pairs(values))


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


def _times(stages: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    return {
        f"{stage} {figure} [ms], {_WINDOW}": f"{times[f'{figure}_ms']:.3f}"
        for stage, times in stages.items()
        for figure in ("p50", "p99", "max")
    }


def _pairs(values: dict[str, object]) -> list[KeyValue]:
    return [KeyValue(key, str(value)) for key, value in values.items()]
