"""Messages as bytes; those that end in a long row of octets without a copy for each of them."""

from __future__ import annotations

import threading
from typing import Any

from pycdr2._support import Buffer, Endianness

_LENGTH_BYTES = 4
_populating = threading.Lock()


class Encoder:
    """Little-endian CDR of one thread's messages, of these classes.

    pycdr2 keeps one buffer for each class, which threads would share, and is not ready for a second thread while a
    first one uses a class for the first time: that is done here.
    """

    def __init__(self, *messages: Any) -> None:
        self._buffer = Buffer()
        with _populating:
            for message in messages:
                message.__idl__.populate()

    def __call__(self, message: Any) -> bytes:
        """The message's bytes, from its encapsulation on. Raises struct.error for a number outside its field."""
        data: bytes = message.serialize(buffer=self._buffer, endianness=Endianness.Little)
        return data

    def with_octets(self, message: Any, octets: bytes | memoryview) -> bytes:
        """The same of an Image or CompressedImage whose data, its last field, is empty here and is `octets` instead."""
        return self(message)[:-_LENGTH_BYTES] + len(octets).to_bytes(_LENGTH_BYTES, "little") + octets
