"""The topics of a recording, by camera and bundle; see `format` for those of one camera and one bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetl_runtime.recording.format import (
    ALONE,
    BOXES_TOPIC,
    IMAGE_TOPIC,
    LEDGER_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
    ROUND_TOPIC,
)
from edgetl_runtime.rig.names import camera_prefixes, lane_prefixes

if TYPE_CHECKING:
    from edgetl_runtime.recording.format import RecordingHeader


@dataclass(frozen=True, slots=True)
class LaneTopics:
    """Of one bundle's results for one camera."""

    result: str
    boxes: str
    objects: str
    ledger: str


@dataclass(frozen=True, slots=True)
class Topics:
    """images: by camera. lanes: by camera and bundle. rounds: None where there is nothing to gather."""

    images: dict[str, str]
    lanes: dict[tuple[str, str], LaneTopics]
    rounds: str | None


def topics_of(header: RecordingHeader) -> Topics:
    """The topics that a recording with this header has. Raises InputError where two of them would be the same."""
    if header.version == ALONE:
        return Topics(dict.fromkeys(header.cameras, IMAGE_TOPIC), {lane: _lane("") for lane in header.lanes}, None)
    cameras, bundles = list(header.cameras), list(header.bundles)
    return Topics(
        {name: prefix + IMAGE_TOPIC for name, prefix in camera_prefixes(cameras, "").items()},
        {(of.camera, of.bundle): _lane(prefix) for of, prefix in lane_prefixes(cameras, bundles, "").items()},
        ROUND_TOPIC,
    )


def _lane(prefix: str) -> LaneTopics:
    topics = (RESULT_TOPIC, BOXES_TOPIC, OBJECTS_TOPIC, LEDGER_TOPIC)
    return LaneTopics(*(prefix + topic for topic in topics))
