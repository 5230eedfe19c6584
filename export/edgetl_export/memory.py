"""How much memory networks may take that run side by side: by their size, and by what the machine has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgetl_runtime.free_memory import free_bytes

OF_NETWORK = 4
"""Times the size of a network's file that an engine holds, whose workers share it. Measured with ONNX Runtime and
OpenVINO: 2.2 to 2.8 times for ResNet-50 (102 MB) once it has run."""
ACTIVATIONS = 128 << 20
"""Bytes for each worker besides. Measured with EfficientNet-Lite at 640x352: 80 to 110 MB for all that an engine with
one worker takes beyond its file."""
SHARE = 0.7
"""Of the memory that is free, what networks may take."""
WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class Granted:
    """workers: how many may run. taken: bytes that they are reckoned with. note: what was bounded, else empty."""

    workers: int
    taken: int
    note: str = ""


class Memory:
    """Shares memory out among networks that run at the same time; those that find too little left wait.

    free: bytes that are free now. Those that networks inside are reckoned with are taken off it, since they may not
    have taken them yet.
    """

    def __init__(self, free: Callable[[], int | None] = free_bytes) -> None:
        self._free = free
        self._changed = threading.Condition()
        self._inside: list[int] = []

    @contextmanager
    def room_for(self, file: Path, workers: int, *, going_on: Callable[[], None] = lambda: None) -> Iterator[Granted]:
        """Wait for room for a network, and hold it: for one worker at least, for so many at most.

        A network that is alone is let in with one worker whatever its size: nothing smaller can be done. going_on:
        called while it waits; what it raises ends that.
        """
        granted = self._enter(file, workers, going_on)
        try:
            yield granted
        finally:
            with self._changed:
                self._inside.remove(granted.taken)
                self._changed.notify_all()

    def _enter(self, file: Path, workers: int, going_on: Callable[[], None]) -> Granted:
        size, waited = file.stat().st_size if file.is_file() else 0, False
        with self._changed:
            while True:
                going_on()
                free = self._free()
                fitting = workers if free is None else _fitting(size, int(SHARE * free) - sum(self._inside))
                if fitting >= 1 or not self._inside:
                    count = max(min(workers, fitting), 1)
                    break
                waited = True
                self._changed.wait(WAIT_S)
            granted = Granted(count, _need(size, count), _note(file, size, workers, count, free, waited))
            self._inside.append(granted.taken)
        return granted


def _need(size: int, workers: int) -> int:
    return OF_NETWORK * size + workers * ACTIVATIONS


def _fitting(size: int, limit: int) -> int:
    """How many workers of a network of this size fit."""
    return max((limit - OF_NETWORK * size) // ACTIVATIONS, 0)


def _note(file: Path, size: int, wanted: int, count: int, free: int | None, waited: bool) -> str:
    parts = ["it waited for another network"] if waited else []
    parts += [f"{count} instead of {wanted} frames at a time"] if count < wanted else []
    if not parts or free is None:
        return ""
    return f"memory: {file.name} has {size / 1e6:.0f} MB, {free / 1e6:.0f} MB are free: {', '.join(parts)}"
