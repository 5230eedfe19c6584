"""A recording, read from its start: the results in order, each with its frame; cut and damaged files up to there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import msgspec
import numpy as np

from edgetl_runtime.errors import InputError
from edgetl_runtime.recording.format import (
    EVENT_TOPIC,
    HEADER,
    STATUS_TOPIC,
    RecordingStatus,
    header_of,
)
from edgetl_runtime.recording.foxglove import RAW_IMAGE, image_bytes
from edgetl_runtime.recording.mcap import MAGIC
from edgetl_runtime.recording.records import Message, RecordReader
from edgetl_runtime.recording.results import decode_result
from edgetl_runtime.recording.topics import topics_of
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from edgetl_runtime.recording.format import RecordingHeader
    from edgetl_runtime.result import Result


@dataclass(frozen=True, slots=True)
class Recorded:
    """A result with the frame it is of; frame is None where the recording has none of it. Its image is read-only.

    camera, bundle: whose it is, as the header calls them.
    """

    result: Result
    frame: Frame | None
    camera: str
    bundle: str


class _Event(msgspec.Struct):
    """What is read of an event."""

    condition: str = ""


class Recording:
    """An open recording. header: what was run. Use as a context manager.

    Complete after `results`: status: the counts, of the last second before the cut where it was cut off; events and
    rounds: how many were read; notes: what is missing. Raises InputError for a file that is no recording of edgetl's,
    or has another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = RecordingStatus(t_ns=0)
        self.events = self.rounds = 0
        self._ladder = False
        self._stream = _open(path)
        try:
            self._reader = RecordReader(self._stream, path.stat().st_size)
            self.header = self._read_header()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def whole(self) -> bool:
        """Whether nothing is missing of what was read so far."""
        return not self._reader.cut and not self._reader.damaged

    @property
    def notes(self) -> list[str]:
        """What is not in the recording, each in a line."""
        notes, status, reader = [], self.status, self._reader
        if reader.cut:
            notes.append(
                f"{self.path.name} was not finished: the run was cut off or still goes on; {reader.cut_at} of "
                f"{reader.size} bytes are whole and were read"
            )
        if reader.damaged:
            notes.append(f"{reader.damaged} parts of {self.path.name} are damaged and left out: {reader.damage}")
        if status.frames_left_out or status.results_left_out:
            notes.append(
                f"{status.frames_left_out} frames and {status.results_left_out} results were not recorded, as the "
                "disk was too slow"
            )
        if status.stopped:
            notes.append(f"the recording ended before the run: {status.stopped}")
        if self._ladder:
            notes.append("the run took steps of its ladder: after one to another variant or engine results differ")
        return notes

    def results(self) -> Iterator[Recorded]:
        """Every result with its frame, oldest first. Raises InputError for one that is not readable."""
        topics = topics_of(self.header)
        images = {topic: camera for camera, topic in topics.images.items()}
        lanes = {of.result: lane for lane, of in topics.lanes.items()}
        picture: tuple[str, Message] | None = None
        try:
            for message in self._reader.messages():
                if message.topic in images and message.schema == RAW_IMAGE:
                    picture = images[message.topic], message
                elif message.topic in lanes:
                    camera, bundle = lanes[message.topic]
                    own = picture[1] if picture is not None and picture[0] == camera else None
                    yield _recorded(message, own, camera, bundle)
                elif message.topic == STATUS_TOPIC:
                    self.status = msgspec.json.decode(message.data, type=RecordingStatus)
                elif message.topic == EVENT_TOPIC:
                    self.events += 1
                    self._ladder |= msgspec.json.decode(message.data, type=_Event).condition == "ladder"
                elif message.topic == topics.rounds:
                    self.rounds += 1
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise InputError(f"{self.path} is not readable: {error}") from error
        except OSError as error:
            raise InputError(f"can't read {self.path}: {error.strerror}") from error

    def _read_header(self) -> RecordingHeader:
        for _ in self._reader.messages():  # the header stands before the first message
            break
        texts = self._reader.metadata.get(HEADER)
        if texts is None:
            raise InputError(
                f"{self.path} is MCAP, but no recording of `edgetl run --record`",
                remedy="give a file that has one written",
            )
        try:
            header = header_of(texts)
            topics_of(header)
            return header
        except InputError as error:
            raise InputError(f"{self.path}: {error.message}", remedy=error.remedy) from error


def _open(path: Path) -> IO[bytes]:
    try:
        if not path.is_file():
            raise InputError(f"there is no recording {path}", remedy="give a file that `edgetl run --record` wrote")
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from error
    if stream.read(len(MAGIC)) != MAGIC:
        stream.close()
        raise InputError(f"{path} is no MCAP file", remedy="give a file that `edgetl run --record` wrote")
    return stream


def _recorded(message: Message, picture: Message | None, camera: str, bundle: str) -> Recorded:
    read = decode_result(message.data)
    result = read.result
    if not read.frame_recorded or picture is None or picture.sequence != message.sequence:
        return Recorded(result, None, camera, bundle)
    height, width = result.size_hw
    pixels = np.frombuffer(image_bytes(picture.data, result.size_hw), np.uint8).reshape(height, width, 3)
    frame = Frame(pixels, result.frame_id, result.camera_id, result.t_capture_ns, result.media_time_s, result.name)
    return Recorded(result, frame, camera, bundle)
