"""JSON schemas of a recording's documents. Without references to parts of themselves, which not every tool follows."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edgetl_runtime.recording.format import RecordingStatus

_Node: TypeAlias = dict[str, object]

_INTEGER: _Node = {"type": "integer"}
_NUMBER: _Node = {"type": "number"}
_STRING: _Node = {"type": "string"}
_ARRAY: _Node = {
    "type": "object",
    "description": "dtype, shape: numpy's; data: base64 of the zlib-packed bytes, little-endian, row by row",
    "properties": {
        "dtype": _STRING,
        "shape": {"type": "array", "items": _INTEGER},
        "data": {"type": "string", "contentEncoding": "base64"},
    },
}


def _schema(title: str, **properties: _Node) -> bytes:
    return msgspec.json.encode({"title": title, "type": "object", "properties": properties})


def result_schema() -> bytes:
    """JSON schema of a result: readable values, rounded, and under "exact" every array bit for bit."""
    return _schema(
        "edgetl.Result",
        sequence={"type": "integer", "description": "the same in the picture's and the boxes' MCAP record"},
        frame_recorded={"type": "boolean"},
        frame_id=_INTEGER,
        camera_id=_STRING,
        name=_STRING,
        media_time_s={"type": ["number", "null"]},
        clock=_STRING,
        t_capture_ns=_INTEGER,
        t_publish_ns=_INTEGER,
        age_ms=_NUMBER,
        state=_STRING,
        valid_until_ns={"type": ["integer", "null"]},
        health=_STRING,
        shift={"type": ["number", "null"]},
        size_hw={"type": "array", "items": _INTEGER},
        dropped_before=_INTEGER,
        stages_ms={"type": "object", "additionalProperties": _NUMBER},
        detections={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "label": _STRING,
                    "class": _INTEGER,
                    "score": _NUMBER,
                    "box_xyxy": {"type": "array", "items": _NUMBER},
                    "track_id": {"type": ["integer", "null"]},
                    "track_age_s": {"type": ["number", "null"]},
                    "velocity_px_s": {"type": ["array", "null"], "items": _NUMBER},
                    "position_m": {"type": ["array", "null"], "items": _NUMBER},
                    "position_std_m": {"type": ["array", "null"], "items": _NUMBER},
                    "closing_speed_mps": {"type": ["number", "null"]},
                    "closing_speed_std_mps": {"type": ["number", "null"]},
                    "time_to_collision_s": {"type": ["number", "null"]},
                    "time_to_collision_std_s": {"type": ["number", "null"]},
                },
            },
        },
        masks={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _NUMBER}},
        categories={"type": "object", "additionalProperties": {"type": "object"}},
        exact={"type": "object", "additionalProperties": {"type": "object"}},
        embedding={"type": ["object", "null"], **{k: v for k, v in _ARRAY.items() if k != "type"}},
    )


def event_schema() -> bytes:
    """JSON schema of a health event."""
    return _schema(
        "edgetl.Event",
        t_ns=_INTEGER,
        camera_id={"type": ["string", "null"], "description": "null: of every camera"},
        bundle={"type": ["string", "null"], "description": "null: of every bundle"},
        condition=_STRING,
        began={"type": "boolean"},
        state=_STRING,
        detail=_STRING,
    )


def round_schema() -> bytes:
    """JSON schema of what `rounds.round_message` makes."""
    frame: _Node = {"type": "object", "properties": {"frame_id": _INTEGER, "t_capture_ns": _INTEGER}}
    why: _Node = {"type": "object", "additionalProperties": _STRING}
    return _schema(
        "edgetl.Round",
        number=_INTEGER,
        skew_ms={"type": "number", "description": "between the captures of the oldest frame and the newest"},
        frames={"type": "object", "additionalProperties": frame},
        failures={"type": "object", "description": "by camera, then by bundle", "additionalProperties": why},
        absent={
            "type": "object",
            "description": "state and why of cameras without a frame",
            "additionalProperties": why,
        },
    )


def status_schema() -> bytes:
    """JSON schema of RecordingStatus."""
    others = {"stopped", "stages", "lanes"}
    counts = {f.name: _INTEGER for f in msgspec.structs.fields(RecordingStatus) if f.name not in others}
    figures: _Node = {"type": "object", "additionalProperties": _NUMBER}
    stages: _Node = {"type": "object", "additionalProperties": figures}
    lane: _Node = {"type": "object", "additionalProperties": _INTEGER}
    lanes: _Node = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": lane}}
    return _schema("edgetl.Status", **counts, stopped=_STRING, stages=stages, lanes=lanes)


def ledger_schema() -> bytes:
    """JSON schema of a LedgerMessage."""
    figures: _Node = {"type": "object", "additionalProperties": _NUMBER}
    stages: _Node = {"type": "object", "additionalProperties": figures}
    return _schema(
        "edgetl.Ledger",
        t_ns=_INTEGER,
        age_ms={"type": ["number", "null"], "description": "of the newest result now, since its capture"},
        silent_ms={"type": "number", "description": "since the loop last began a turn"},
        health=_STRING,
        health_number={"type": "integer", "description": "0 ok, 1 degraded, 2 stale, 3 fault"},
        conditions={"type": "object", "additionalProperties": _STRING},
        **dict.fromkeys(("captured", "processed", "dropped", "failed", "lost"), _INTEGER),
        states={"type": "object", "additionalProperties": _INTEGER},
        rss_mb=_NUMBER,
        stages=stages | {"description": "of the last 10 s"},
        run=stages | {"description": "of the whole run"},
    )
