"""One round of a rig as a JSON message: who was in it, how far apart, and why the others were not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from edgetl_runtime.rig.round import Round


def round_message(made: Round) -> bytes:
    """The JSON that `schemas.round_schema` describes."""
    frames = made.frames.items()
    document: dict[str, object] = {
        "number": made.number,
        "skew_ms": round(made.skew_ms, 3),
        "frames": {name: {"frame_id": f.frame_id, "t_capture_ns": f.t_capture_ns} for name, f in frames},
        "failures": {name: failed for name, failed in made.failures.items() if failed},
        "absent": {name: {"state": a.state, "why": a.why} for name, a in made.absent.items()},
    }
    return msgspec.json.encode(document)
