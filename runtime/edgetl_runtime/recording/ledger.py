"""The ledger of a running loop as one JSON message, made to be plotted: numbers by name, the last seconds apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from edgetl_runtime.health import State

if TYPE_CHECKING:
    from edgetl_runtime.snapshot import Snapshot

_STATES = get_args(State)


def ledger_message(snapshot: Snapshot) -> bytes:
    """The JSON that `schemas.ledger_schema` describes."""
    seconds = snapshot.since_capture_s
    status = snapshot.status
    document: dict[str, object] = {
        "t_ns": snapshot.t_ns,
        "age_ms": None if seconds is None else round(seconds * 1e3, 3),
        "silent_ms": round(snapshot.silent_s * 1e3, 3),
        "health": status.state,
        "health_number": _STATES.index(status.state),
        "conditions": status.conditions,
        "captured": snapshot.captured,
        "processed": snapshot.processed,
        "dropped": snapshot.dropped,
        "failed": snapshot.failed,
        "lost": snapshot.lost,
        "states": snapshot.states,
        "rss_mb": snapshot.rss_mb,
        "stages": {name: times.short for name, times in snapshot.stages.items()},
        "run": {name: times.run for name, times in snapshot.stages.items()},
    }
    return msgspec.json.encode(document)
