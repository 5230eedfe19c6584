"""The channels of a live connection: the topics and messages of recordings, but for pictures, which are JPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgetl_runtime.imports import need
from edgetl_runtime.recording.format import (
    BOXES_TOPIC,
    EVENT_TOPIC,
    IMAGE_TOPIC,
    LEDGER_TOPIC,
    LOG_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
)
from edgetl_runtime.recording.foxglove import ANNOTATIONS, COMPRESSED_IMAGE, annotations_schema, compressed_schema
from edgetl_runtime.recording.log import LOG, log_schema
from edgetl_runtime.recording.scene import SCENE_UPDATE, scene_schema
from edgetl_runtime.recording.schemas import event_schema, ledger_schema, result_schema
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.spec import Head


class Channel(Protocol):
    """What is used of the SDK's channels."""

    def has_sinks(self) -> bool:
        """Whether anybody has subscribed."""

    def log(self, msg: bytes, *, log_time: int | None = None) -> None:
        """Put a message into every subscriber's queue, without waiting. log_time: on the clock on the wall, in ns."""

    def close(self) -> None:
        """Take the topic back."""


def open_image_channel(context: Any, *, prefix: str = "") -> Channel:
    """A camera's pictures. context: the SDK's. prefix: stands before the topic."""
    return _channel(context, prefix + IMAGE_TOPIC, COMPRESSED_IMAGE, compressed_schema(), encoding="protobuf")


def open_channels(context: Any, heads: Sequence[Head], *, prefix: str = "") -> dict[str, Channel]:
    """All but the pictures, by topic without its prefix. context: the SDK's. prefix: stands before each topic."""

    def channel(topic: str, schema: str, data: bytes) -> Channel:
        return _channel(context, prefix + topic, schema, data, encoding="json")

    def drawn(topic: str, schema: str, data: bytes) -> Channel:
        return _channel(context, prefix + topic, schema, data, encoding="protobuf")

    channels = {
        RESULT_TOPIC: channel(RESULT_TOPIC, "edgetl.Result", result_schema()),
        EVENT_TOPIC: channel(EVENT_TOPIC, "edgetl.Event", event_schema()),
        LEDGER_TOPIC: channel(LEDGER_TOPIC, "edgetl.Ledger", ledger_schema()),
        LOG_TOPIC: drawn(LOG_TOPIC, LOG, log_schema()),
    }
    if any(isinstance(head, DetectHead) for head in heads):
        channels[BOXES_TOPIC] = drawn(BOXES_TOPIC, ANNOTATIONS, annotations_schema())
        channels[OBJECTS_TOPIC] = drawn(OBJECTS_TOPIC, SCENE_UPDATE, scene_schema())
    return channels


def _channel(context: Any, topic: str, schema: str, data: bytes, *, encoding: str) -> Channel:
    sdk: Any = need("foxglove", extra="vehicle")
    schema_encoding = "jsonschema" if encoding == "json" else encoding
    described = sdk.Schema(name=schema, encoding=schema_encoding, data=data)
    made: Channel = sdk.Channel(topic, message_encoding=encoding, schema=described, context=context)
    return made
