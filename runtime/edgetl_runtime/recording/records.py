"""MCAP records from a file that may be cut off, damaged or made to harm: every length is checked before it is used.

After https://mcap.dev/spec. The mcap package's own readers believe lengths, which is why they are not used here.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from edgetl_runtime.imports import need
from edgetl_runtime.recording.format import MAX_RECORD_BYTES
from edgetl_runtime.recording.mcap import CHANNEL, CHUNK, FOOTER, MAGIC, MESSAGE, METADATA, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = (FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, METADATA)
_MAX_CHANNELS = 1024
_PIECE_BYTES = 8 * 1024 * 1024


class Damaged(ValueError):
    """What is wrong with a record, in one line."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. data is a view that is valid as long as it is kept."""

    topic: str
    encoding: str
    schema: str
    sequence: int
    log_time_ns: int
    data: memoryview


@dataclass(slots=True)
class RecordReader:
    """Reads a file from its start to where it ends or makes no sense.

    After all `messages`: cut: there is no footer, so the file ends too early, and cut_at bytes of it were whole.
    damaged: how many parts were passed over; damage: what is wrong with the last of them.
    """

    stream: IO[bytes]
    size: int
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    cut: bool = False
    cut_at: int = 0
    damaged: int = 0
    damage: str = ""
    _schemas: dict[int, str] = field(default_factory=dict)
    _channels: dict[int, tuple[str, str, str]] = field(default_factory=dict)

    def messages(self) -> Iterator[Message]:
        """Every message that can be read, in the order of the file. Raises OSError where the disk fails."""
        self.cut, self.cut_at, self.damaged = False, len(MAGIC), 0
        self.stream.seek(self.cut_at)
        while (record := self._next()) is not None:
            opcode, body = record
            if opcode == FOOTER:
                return
            try:
                if opcode == CHUNK:
                    for inner, data in _split(_unpack_chunk(body)):
                        if (message := self._take(inner, data)) is not None:
                            yield message
                elif (message := self._take(opcode, body)) is not None:
                    yield message
            except Damaged as error:
                self.damaged += 1
                self.damage = str(error)
            self.cut_at = self.stream.tell()
        self.cut = True

    def _next(self) -> tuple[int, memoryview] | None:
        """The next record, None where no whole one is left; what nobody needs is passed over."""
        while True:
            start = self.stream.read(9)
            if len(start) < 9:
                return None
            opcode, length = start[0], int.from_bytes(start[1:], "little")
            if length > self.size - self.stream.tell():
                return None
            if opcode in _READ and length <= MAX_RECORD_BYTES:
                body = self.stream.read(length)
                return (opcode, memoryview(body)) if len(body) == length else None
            if opcode == CHUNK:
                self.damaged += 1
                self.damage = f"a chunk claims {length} bytes, at most {MAX_RECORD_BYTES} make sense"
            self.stream.seek(length, 1)

    def _take(self, opcode: int, body: memoryview) -> Message | None:
        part = _Fields(body)
        if opcode == MESSAGE:
            channel, sequence, log_time, _ = part.unpack("<HIQQ")
            if channel not in self._channels:
                raise Damaged(f"a message is on channel {channel}, which is not described before it")
            return Message(*self._channels[channel], sequence, log_time, part.rest())
        if opcode == SCHEMA:
            (number,) = part.unpack("<H")
            self._schemas[number] = part.text()
        elif opcode == CHANNEL:
            number, schema = part.unpack("<HH")
            topic, encoding = part.text(), part.text()
            self._channels[number] = (topic, encoding, self._schemas.get(schema, ""))
        elif opcode == METADATA:
            name = part.text()
            if len(self.metadata) < _MAX_CHANNELS:
                self.metadata.setdefault(name, part.texts())
        return None


class _Fields:
    """Takes a record's fields off its front. Raises Damaged where it is too short."""

    def __init__(self, body: memoryview) -> None:
        self._body, self._at = body, 0

    def unpack(self, layout: str) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        return struct.unpack(layout, self.take(size))

    def take(self, size: int) -> memoryview:
        if size > len(self._body) - self._at:
            raise Damaged("a record is shorter than what it says it holds")
        self._at += size
        return self._body[self._at - size : self._at]

    def text(self) -> str:
        (size,) = self.unpack("<I")
        return str(self.take(size), "utf-8", "replace")

    def texts(self) -> dict[str, str]:
        (size,) = self.unpack("<I")
        inner = _Fields(self.take(size))
        found = {}
        while inner._at < size:
            key = inner.text()
            found[key] = inner.text()
        return found

    def rest(self) -> memoryview:
        return self._body[self._at :]


def _unpack_chunk(body: memoryview) -> memoryview:
    """The records of a chunk. Raises Damaged for one that is not what it says."""
    part = _Fields(body)
    _, _, size, crc = part.unpack("<QQQI")
    packing = part.text()
    (packed_size,) = part.unpack("<Q")
    packed = part.take(packed_size)
    if size > MAX_RECORD_BYTES:
        raise Damaged(f"a chunk claims to unpack to {size} bytes, at most {MAX_RECORD_BYTES} make sense")
    data = memoryview(_unpack(packing, packed, size))
    if len(data) != size:
        raise Damaged(f"a chunk unpacks to {len(data)} bytes, it claims {size}")
    if crc and zlib.crc32(data) != crc:
        raise Damaged("a chunk's checksum is wrong")
    return data


def _unpack(packing: str, packed: memoryview, size: int) -> bytes | memoryview:
    """At most one byte more than `size` is ever made."""
    if packing == "":
        return packed
    if packing == "zstd":
        zstandard = need("zstandard", extra="vehicle")
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as stream:
                return _read(stream, size + 1)
        except (zstandard.ZstdError, MemoryError) as error:
            raise Damaged(f"a chunk can't be unpacked: {error}") from error
    raise Damaged(f"a chunk is packed with {packing!r}; what is read is zstd, or no packing")


def _read(stream: IO[bytes], most: int) -> bytes:
    """As much as there is, up to `most`; room is made as it comes, since `most` is only what the file claims."""
    if most <= _PIECE_BYTES:
        return stream.read(most)
    pieces, left = [], most
    while left and (piece := stream.read(min(_PIECE_BYTES, left))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _split(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    part, at = _Fields(data), 0
    while at < len(data):
        opcode, length = part.unpack("<BQ")
        yield opcode, part.take(length)
        at += 9 + length
