"""Health events as lines of a log: foxglove.Log in protobuf.

Field numbers after https://github.com/foxglove/foxglove-sdk/tree/main/schemas/proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.recording.foxglove import TIMESTAMP, message_type, stamp_type, time_field
from edgetl_runtime.recording.protobuf import EnumType, FieldType, descriptor_set, packed, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.health import Event, State

LOG = "foxglove.Log"
_INFO, _WARNING, _ERROR = 2, 3, 4
_LEVELS: Mapping[State, int] = {"ok": _INFO, "degraded": _WARNING, "stale": _ERROR, "fault": _ERROR}
_LOG = message_type(
    "Log",
    stamp_type(1),
    FieldType("level", 2, "enum", "foxglove.Log.Level"),
    FieldType("message", 3, "string"),
    FieldType("name", 4, "string"),
    FieldType("file", 5, "string"),
    FieldType("line", 6, "fixed32"),
    enum=EnumType("Level", ("UNKNOWN", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL")),
)


def log_schema() -> bytes:
    """The FileDescriptorSet of foxglove.Log."""
    return descriptor_set((TIMESTAMP, _LOG))


def log_message(event: Event, t_wall_ns: int) -> bytes:
    """A foxglove.Log: what began, as grave as the state that it brought about, or that it is over."""
    level = _LEVELS[event.state] if event.began else _INFO
    text = f"{event.condition}: {event.detail}" if event.began else f"{event.condition}: over, {event.state} now"
    return time_field(1, t_wall_ns) + whole(2, level) + packed(3, text) + packed(4, event.camera_id)
