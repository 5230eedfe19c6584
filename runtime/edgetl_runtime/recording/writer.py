"""One recording as MCAP: header, channels, messages in chunks that are closed often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.recording.format import (
    EVENT_TOPIC,
    HEADER,
    LOG_TOPIC,
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
from edgetl_runtime.recording.rounds import round_message
from edgetl_runtime.recording.scene import SCENE_UPDATE, scene_message, scene_schema
from edgetl_runtime.recording.schemas import event_schema, ledger_schema, result_schema, round_schema, status_schema
from edgetl_runtime.recording.topics import topics_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.recording.format import RecordedBundle
    from edgetl_runtime.recording.part import Output
    from edgetl_runtime.recording.topics import LaneTopics
    from edgetl_runtime.result import Result
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

CHUNK_BYTES = 4 * 1024 * 1024
"""A chunk is closed when it holds more. Unpacked: a few frames, so that packing takes little memory."""
_SUMMARY_BYTES = 64 * 1024
_INDEX_BYTES, _CHANNEL_INDEX_BYTES = 256, 10
_OVERHEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Lane:
    """The channels of one bundle's results for one camera."""

    heads: tuple[Head, ...]
    result: int
    ledger: int
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
        self._sequence = 0
        self._channels = 0
        topics = topics_of(header)
        self._images = {c: self._drawn(topic, RAW_IMAGE, image_schema()) for c, topic in topics.images.items()}
        self._lanes = {lane: self._lane(header.bundles[lane[1]], of) for lane, of in topics.lanes.items()}
        self._event = self._plain(EVENT_TOPIC, "edgetl.Event", event_schema())
        self._status = self._plain(STATUS_TOPIC, "edgetl.Status", status_schema())
        self._log = self._drawn(LOG_TOPIC, LOG, log_schema())
        rounds = topics.rounds
        self._round = None if rounds is None else self._plain(rounds, "edgetl.Round", round_schema())
        output.mark()

    @property
    def chunks(self) -> int:
        """How many chunks are closed."""
        return self._mcap.chunks

    def _lane(self, run: RecordedBundle, topics: LaneTopics) -> _Lane:
        boxes = run.has_boxes
        return _Lane(
            run.heads,
            result=self._plain(topics.result, "edgetl.Result", result_schema()),
            ledger=self._plain(topics.ledger, "edgetl.Ledger", ledger_schema()),
            boxes=self._drawn(topics.boxes, ANNOTATIONS, annotations_schema()) if boxes else None,
            objects=self._drawn(topics.objects, SCENE_UPDATE, scene_schema()) if boxes else None,
        )

    def _plain(self, topic: str, schema: str, data: bytes) -> int:
        return self._channel(topic, schema, data, encoding="json", schema_encoding="jsonschema")

    def _drawn(self, topic: str, schema: str, data: bytes) -> int:
        return self._channel(topic, schema, data, encoding="protobuf", schema_encoding="protobuf")

    def _channel(self, topic: str, schema: str, data: bytes, *, encoding: str, schema_encoding: str) -> int:
        self._channels += 1
        return self._mcap.add_channel(
            topic, encoding=encoding, schema=schema, schema_encoding=schema_encoding, schema_data=data
        )

    def size_if(self, more_bytes: int) -> int:
        """The most that the finished file could take with `more_bytes` in it, as if nothing could be packed."""
        unpacked = self._mcap.pending + more_bytes + _OVERHEAD_BYTES
        index = (_INDEX_BYTES + _CHANNEL_INDEX_BYTES * self._channels) * (self.chunks + 2)
        return self._output.tell() + unpacked + unpacked // 64 + _SUMMARY_BYTES + self._mcap.described + index

    def add_round(self, made: Round, *, images: bool) -> int:
        """Every result of a round, after the picture that it is of where `images` are wanted; how many pictures.

        A camera of which there is no result leaves no picture.
        """
        pictures = 0
        for camera, results in made.results.items():
            if not results:
                continue
            image = made.frames[camera].image if images else None
            self._add_results(camera, results, image)
            pictures += image is not None
            if self._mcap.pending >= CHUNK_BYTES:
                self.close_chunk()
        if self._round is not None:
            t_ns = self._wall(_time_of(made))
            self._add(self._round, (round_message(made),), t_ns, t_ns, made.number)
        return pictures

    def _add_results(self, camera: str, results: Mapping[str, Result], image: NDArray[np.uint8] | None) -> None:
        """What every bundle gave for one frame; all have the number of their picture in this file."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        if image is not None:
            first = next(iter(results.values()))
            captured, published = self._wall(first.t_capture_ns), self._wall(first.t_publish_ns)
            parts = image_message(image, captured, f"{first.camera_id}_optical_frame")
            self._add(self._images[camera], parts, published, captured, sequence)
        for bundle, result in results.items():
            self._add_result(self._lanes[camera, bundle], result, sequence, frame_recorded=image is not None)

    def _add_result(self, lane: _Lane, result: Result, sequence: int, *, frame_recorded: bool) -> None:
        """A result, its boxes, and its objects where they have places; all have the time of its publication."""
        published, captured = self._wall(result.t_publish_ns), self._wall(result.t_capture_ns)
        if lane.boxes is not None:
            boxes = annotations_message(result, lane.heads, captured)
            self._add(lane.boxes, (boxes,), published, published, sequence)
        if lane.objects is not None and (scene := scene_message(result, lane.heads, captured)):
            self._add(lane.objects, (scene,), published, published, sequence)
        data = encode_result(result, lane.heads, sequence=sequence, frame_recorded=frame_recorded)
        self._add(lane.result, (data,), published, published, sequence)

    def add_event(self, event: RigEvent) -> None:
        """A condition that began or ended."""
        t_ns = self._wall(event.event.t_ns)
        where = " on ".join(name for name in (event.bundle, event.camera) if name)
        self._add(self._event, (msgspec.json.encode(event.as_json()),), t_ns, t_ns, 0)
        self._add(self._log, (log_message(replace(event.event, camera_id=where), t_ns),), t_ns, t_ns, 0)

    def add_status(self, status: RecordingStatus) -> None:
        """How things stand."""
        t_ns = self._wall(status.t_ns)
        self._add(self._status, (msgspec.json.encode(status),), t_ns, t_ns, 0)

    def add_ledger(self, camera: str, bundle: str, snapshot: Snapshot) -> None:
        """How the loop does with one camera and one bundle."""
        t_ns = self._wall(snapshot.t_ns)
        self._add(self._lanes[camera, bundle].ledger, (ledger_message(snapshot),), t_ns, t_ns, 0)

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


def _time_of(made: Round) -> int:
    """When the round was published, or its newest frame was captured where nothing came of it."""
    published = [r.t_publish_ns for results in made.results.values() for r in results.values()]
    return max(published or [frame.t_capture_ns for frame in made.frames.values()], default=0)
