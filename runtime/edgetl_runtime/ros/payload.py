"""Messages as bytes; those that end in a long row of octets without a copy for each of them."""

from __future__ import annotations

from typing import Any

from pycdr2._support import Buffer, Endianness

_LENGTH_BYTES = 4


class Encoder:
    """Little-endian CDR of one thread's messages. pycdr2 keeps one buffer for each class, which threads would share."""

    def __init__(self) -> None:
        self._buffer = Buffer()

    def __call__(self, message: Any) -> bytes:
        """The message's bytes, from its encapsulation on. Raises struct.error for a number outside its field."""
        data: bytes = message.serialize(buffer=self._buffer, endianness=Endianness.Little)
        return data

    def with_octets(self, message: Any, octets: bytes | memoryview) -> bytes:
        """The same of an Image or CompressedImage whose data, its last field, is empty here and is `octets` instead."""
        return self(message)[:-_LENGTH_BYTES] + len(octets).to_bytes(_LENGTH_BYTES, "little") + octets
