"""FFmpeg's options for one opening: OpenCV takes them from the environment only, which all threads share."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class OptionsGate:
    """Lets openings with the same options run side by side, and those with others wait until the last has ended.

    OpenCV reads the variable somewhere inside of its open call, so it must hold for as long as that runs: a dead
    camera's opening must not hold up another stream's, and a video file's must not see a stream's options.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._current = ""
        self._users = 0
        self._tickets = 0
        self._turn = 0
        self._users_own = False

    @contextmanager
    def using(self, options: str) -> Iterator[bool]:
        """Hold these options, "" for none, in the environment; gives False where the user's own are kept instead.

        A variable that the program was started with stays as it is. First come, first served, so that streams that
        are opened again and again can't keep a file waiting for ever.
        """
        ours = self._enter(options)
        try:
            yield ours
        finally:
            self._leave()

    def _enter(self, options: str) -> bool:
        with self._changed:
            ticket, self._tickets = self._tickets, self._tickets + 1
            self._changed.wait_for(lambda: self._turn == ticket and (not self._users or self._current == options))
            self._turn += 1
            self._users += 1
            if self._users == 1:
                self._current = options
                self._users_own = bool(os.environ.get(VARIABLE))
                if options and not self._users_own:
                    os.environ[VARIABLE] = options
            self._changed.notify_all()
            return not self._users_own

    def _leave(self) -> None:
        with self._changed:
            self._users -= 1
            if not self._users and self._current and not self._users_own:
                os.environ.pop(VARIABLE, None)
            self._changed.notify_all()


GATE = OptionsGate()
"""The process's environment is one, so is its gate."""
