"""stderr for a run: whoever reads it may be slow, gone, or a disk that is full, and the loop goes on."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import TextIO

MOST = 1000
"""Pieces of text that wait for the reader; further ones are left out."""
END_S = 1.0
"""How long the end of a run waits for the reader."""


class Aside(io.TextIOBase):
    """Takes text at once and writes it to `stream` in a thread of its own; what can't be written is left out.

    left_out: pieces of text that were not written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._descriptor = stream, _descriptor(stream)
        self.left_out = 0
        self._texts: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="stderr", daemon=True)
        self._thread.start()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's own."""
        return self._stream.encoding or "utf-8"

    def isatty(self) -> bool:
        """Whether a person looks at the stream."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str, /) -> int:
        """Hand over one text; never waits, never raises."""
        if self._texts.qsize() < MOST:
            self._texts.put(text)
        else:
            self.left_out += 1
        return len(text)

    def finish(self) -> None:
        """Wait for what was handed over, END_S at the most."""
        if self.left_out:
            self._texts.put(f"{self.left_out} lines before this one were not told: nobody took them in time\n")
        self._texts.put(None)
        self._thread.join(END_S)

    def _work(self) -> None:
        while (text := self._texts.get()) is not None:
            try:
                self._put(text)
            except (OSError, ValueError):
                self.left_out += 1

    def _put(self, text: str) -> None:
        """By the descriptor where there is one: a stream keeps what it could not write, and holds its lock meanwhile,
        which the end of the process would wait for."""
        if self._descriptor is None:
            self._stream.write(text)
            self._stream.flush()
            return
        left = text.encode(self.encoding, "backslashreplace")
        while left:
            left = left[os.write(self._descriptor, left) :]


def _descriptor(stream: TextIO) -> int | None:
    try:
        stream.flush()
        return stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return None


@contextmanager
def stderr_aside() -> Iterator[None]:
    """sys.stderr takes text at once meanwhile, and never fails; also as a decorator."""
    before = sys.stderr
    aside = Aside(before)
    sys.stderr = aside
    try:
        yield
    finally:
        aside.finish()
        sys.stderr = before
        with suppress(OSError, ValueError):
            before.flush()
