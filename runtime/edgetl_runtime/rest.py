"""Python's garbage collector rests while frames are processed, and runs when the loop says so."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class CollectorRest:
    """A context in which nothing is collected but by `sweep`; what exists at its start is never looked at."""

    def __init__(self) -> None:
        self._was_on = gc.isenabled()

    def __enter__(self) -> CollectorRest:
        self._was_on = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.unfreeze()
        if self._was_on:
            gc.enable()

    def sweep(self) -> None:
        """Collect what is young, between frames."""
        gc.collect(1)
