"""Which run of a slot is the one that its probation counts: the one that holds a lock on the slot's folder.

The lock lasts as long as the run does: the kernel lets go of an flock(2) when the process that holds it is gone,
however it went. So whoever gets the lock knows that the run before is over, and a mark that this one left tells how.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Held:
    """A slot's folder, held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """The next run is the one that counts; releasing twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def hold(slot: Path) -> Held | None:
    """Hold a slot's folder; None where another run does, or where there is no such folder."""
    try:
        descriptor = os.open(slot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # whoever opens the slot as a bundle says what is wrong with it
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Held(descriptor)
