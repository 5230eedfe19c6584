"""The topics of a recording, by camera and bundle; see `format` for those of one camera and one bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.recording.format import (
    ALONE,
    BOXES_TOPIC,
    IMAGE_TOPIC,
    LEDGER_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
    ROUND_TOPIC,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        lane = LaneTopics(RESULT_TOPIC, BOXES_TOPIC, OBJECTS_TOPIC, LEDGER_TOPIC)
        return Topics(dict.fromkeys(header.cameras, IMAGE_TOPIC), dict.fromkeys(header.lanes, lane), None)
    cameras, bundles = topic_parts(header.cameras, "cameras"), topic_parts(header.bundles, "bundles")
    bases = {(c, b): f"/{cameras[c]}/{bundles[b]}" for c, b in header.lanes}
    return Topics(
        {name: f"/{part}/image" for name, part in cameras.items()},
        {lane: LaneTopics(*(f"{base}/{n}" for n in LaneTopics.__slots__)) for lane, base in bases.items()},
        ROUND_TOPIC,
    )


def topic_parts(names: Iterable[str], what: str) -> dict[str, str]:
    """Each name as a part of a topic: anything but letters, digits, - and _ becomes _. what: the names are of.

    Raises InputError where two of them become the same.
    """
    parts: dict[str, str] = {}
    for name in names:
        part = re.sub(r"[^A-Za-z0-9_-]", "_", name) or "_"
        same = next((other for other, taken in parts.items() if taken == part), None)
        if same is not None:
            raise InputError(
                f"the {what} {same!r} and {name!r} would have the same topics, /{part}",
                remedy="give one of them another name",
            )
        parts[name] = part
    return parts
