"""Ctrl-C during training: the step ends, everything is saved, and the run goes on later."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from edgetl_runtime.errors import EdgetlError


class TuneStopped(EdgetlError):
    """Ctrl-C: the run was saved and goes on with --resume."""

    code = "stopped"
    exit_status = 130


class Interrupt:
    """Turns the first Ctrl-C into a flag; the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupt:
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread: Ctrl-C is somebody else's
            self._before = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
