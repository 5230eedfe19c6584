"""One recording as MCAP: header, channels, messages in chunks that are closed often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.recording.format import (
    BOXES_TOPIC,
    EVENT_TOPIC,
    HEADER,
    IMAGE_TOPIC,
    LEDGER_TOPIC,
    LOG_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
    STATUS_TOPIC,
    RecordingHeader,
    RecordingStatus,
)
from edgetl_runtime.recording.foxglove import (
    ANNOTATIONS,
    RAW_IMAGE,
    annotations_message,
    annotations_schema,
    image_message,
    image_schema,
)
from edgetl_runtime.recording.ledger import ledger_message
from edgetl_runtime.recording.log import LOG, log_message, log_schema
from edgetl_runtime.recording.mcap import McapWriter
from edgetl_runtime.recording.results import encode_result
from edgetl_runtime.recording.scene import SCENE_UPDATE, scene_message, scene_schema
from edgetl_runtime.recording.schemas import event_schema, ledger_schema, result_schema, status_schema
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.recording.part import Output
    from edgetl_runtime.result import Result
    from edgetl_runtime.snapshot import Snapshot

CHUNK_BYTES = 4 * 1024 * 1024
"""A chunk is closed when it holds more. Unpacked: a few frames, so that packing takes little memory."""
_SUMMARY_BYTES = 64 * 1024
_INDEX_BYTES = 256
_OVERHEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Channels:
    image: int
    result: int
    event: int
    status: int
    ledger: int
    log: int
    boxes: int | None
    objects: int | None


class RecordingWriter:
    """Puts messages into chunks and chunks into an Output. Every method may raise OSError.

    Frames are raw and chunks are packed with zstd: half of what a fast PNG costs in CPU at any size, so that one
    thread keeps up with 1280x720 at 30/s where PNG does not; noisy pictures take up to 1.3 times the space.
    """

    def __init__(self, output: Output, header: RecordingHeader) -> None:
        self._output, self._header = output, header
        self._mcap = McapWriter(output, library=f"edgetl {header.edgetl}")
        self._mcap.add_metadata(HEADER, header.as_texts())
        self._channels = self._register()
        output.mark()

    @property
    def chunks(self) -> int:
        """How many chunks are closed."""
        return self._mcap.chunks

    def _register(self) -> _Channels:
        def channel(topic: str, schema: str, data: bytes, *, encoding: str = "json") -> int:
            schema_encoding = "jsonschema" if encoding == "json" else encoding
            return self._mcap.add_channel(
                topic, encoding=encoding, schema=schema, schema_encoding=schema_encoding, schema_data=data
            )

        def drawn(topic: str, schema: str, data: bytes) -> int:
            return channel(topic, schema, data, encoding="protobuf")

        with_boxes = any(isinstance(h, DetectHead) for h in self._header.heads)
        return _Channels(
            image=drawn(IMAGE_TOPIC, RAW_IMAGE, image_schema()),
            result=channel(RESULT_TOPIC, "edgetl.Result", result_schema()),
            event=channel(EVENT_TOPIC, "edgetl.Event", event_schema()),
            status=channel(STATUS_TOPIC, "edgetl.Status", status_schema()),
            ledger=channel(LEDGER_TOPIC, "edgetl.Ledger", ledger_schema()),
            log=drawn(LOG_TOPIC, LOG, log_schema()),
            boxes=drawn(BOXES_TOPIC, ANNOTATIONS, annotations_schema()) if with_boxes else None,
            objects=drawn(OBJECTS_TOPIC, SCENE_UPDATE, scene_schema()) if with_boxes else None,
        )

    def size_if(self, more_bytes: int) -> int:
        """The most that the finished file could take with `more_bytes` in it, as if nothing could be packed."""
        unpacked = self._mcap.pending + more_bytes + _OVERHEAD_BYTES
        summary = _SUMMARY_BYTES + _INDEX_BYTES * (self.chunks + 2)
        return self._output.tell() + unpacked + unpacked // 64 + summary

    def add_result(self, result: Result, image: NDArray[np.uint8] | None, sequence: int) -> None:
        """A result, its boxes, its objects where they have places, and its picture where there is one; all have the
        time of its publication.
        """
        published, captured = self._wall(result.t_publish_ns), self._wall(result.t_capture_ns)
        channels, heads = self._channels, self._header.heads
        if image is not None:
            parts = image_message(image, captured, f"{result.camera_id}_optical_frame")
            self._add(channels.image, parts, published, captured, sequence)
        if channels.boxes is not None:
            boxes = annotations_message(result, heads, captured)
            self._add(channels.boxes, (boxes,), published, published, sequence)
        if channels.objects is not None and (scene := scene_message(result, heads, captured)):
            self._add(channels.objects, (scene,), published, published, sequence)
        data = encode_result(result, heads, sequence=sequence, frame_recorded=image is not None)
        self._add(channels.result, (data,), published, published, sequence)
        if self._mcap.pending >= CHUNK_BYTES:
            self.close_chunk()

    def add_event(self, event: Event) -> None:
        """A condition that began or ended."""
        t_ns = self._wall(event.t_ns)
        self._add(self._channels.event, (msgspec.json.encode(event.as_json()),), t_ns, t_ns, 0)
        self._add(self._channels.log, (log_message(event, t_ns),), t_ns, t_ns, 0)

    def add_status(self, status: RecordingStatus) -> None:
        """How things stand."""
        t_ns = self._wall(status.t_ns)
        self._add(self._channels.status, (msgspec.json.encode(status),), t_ns, t_ns, 0)

    def add_ledger(self, snapshot: Snapshot) -> None:
        """How the loop does."""
        t_ns = self._wall(snapshot.t_ns)
        self._add(self._channels.ledger, (ledger_message(snapshot),), t_ns, t_ns, 0)

    def close_chunk(self) -> None:
        """Write what was added; from then on it can be read whatever happens to this process."""
        self._mcap.close_chunk()
        self._output.mark()

    def finish(self) -> None:
        """Write the index, which lets other tools seek."""
        self.close_chunk()
        self._mcap.finish()

    def _wall(self, t_ns: int) -> int:
        return max(t_ns + self._header.offset_ns, 0)

    def _add(
        self, channel: int, parts: Iterable[bytes | memoryview], log_ns: int, publish_ns: int, sequence: int
    ) -> None:
        self._mcap.add_message(channel, parts, log_ns=log_ns, publish_ns=publish_ns, sequence=sequence & 0xFFFFFFFF)
