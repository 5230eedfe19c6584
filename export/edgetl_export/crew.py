"""Many frames through one network, several at a time: where accuracy is measured, no frame's own time matters.

An engine with all threads on one frame leaves cores idle between layers and while the answer is scored. Engines with
one thread each, as many as there are cores, take 15 to 40 % less processor time a frame (ONNX Runtime 1.32 and OpenVINO
2026.4, EfficientNet-Lite at 640x352, 2 cores), and gave the same bits.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgetl_export.memory import Memory
from edgetl_export.parity import Infer
from edgetl_runtime.engines import load_side_by_side
from edgetl_runtime.machine import usable_cores
from edgetl_runtime.spec import EngineName, Precision

MOST_AT_ONCE = 8
"""More cores than this are shared out among so many workers."""
AHEAD = 2
"""Frames in work or waiting, for each worker."""
PAIRS = 2
"""Networks that are judged at a time; more would only take more memory."""

T = TypeVar("T")
U = TypeVar("U")
Outputs = Mapping[str, NDArray[np.generic]]


class _Stop:
    """Set where nobody waits for the results of a thread any more, or of the one that began it."""

    def __init__(self, before: _Stop | None = None) -> None:
        self._before, self._event = before, threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        """Raise CancelledError where it is set."""
        if self._event.is_set():
            raise CancelledError
        if self._before is not None:
            self._before.check()


_NEVER = _Stop()
_STOP: ContextVar[_Stop] = ContextVar("stop")
_SAY: ContextVar[Callable[[str], None]] = ContextVar("say", default=lambda text: None)
_MEMORY = Memory()
"""The process's own."""


class Crew:
    """Workers that each run the same network, each in a thread of its own.

    infers: one function for each worker, which only one thread calls at a time. Use as a context manager.
    """

    def __init__(self, infers: Sequence[Infer]) -> None:
        self._size = len(infers)
        self._idle: queue.SimpleQueue[Infer] = queue.SimpleQueue()
        for infer in infers:
            self._idle.put(infer)
        self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="crew")
        self._stop = _STOP.get(_NEVER)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def over(self, frames: Sequence[NDArray[np.uint8]]) -> Infer:
        """A function of a frame that works ahead: asked for one of these, it begins with those that follow.

        Frames are told apart by identity and must stay unchanged; what is asked for in another order, twice, or is not
        among them is computed all the same. Outputs are copies.
        """
        place = {id(frame): index for index, frame in enumerate(frames)}
        begun: dict[int, Future[Outputs]] = {}

        def infer(frame: NDArray[np.uint8]) -> Outputs:
            self._stop.check()
            at = place.get(id(frame))
            if at is None:
                return self._pool.submit(self._run, frame, copied).result()
            for index in range(at, min(at + 1 + AHEAD * self._size, len(frames))):
                if index not in begun:
                    begun[index] = self._pool.submit(self._run, frames[index], copied)
            return begun.pop(at).result()

        return infer

    def each(
        self,
        frames: Iterable[NDArray[np.uint8]],
        of: Callable[[Outputs], T],
        *,
        known: Callable[[NDArray[np.uint8]], Outputs | None] = lambda frame: None,
    ) -> Iterator[tuple[NDArray[np.uint8], T]]:
        """Frames with what `of` makes of their outputs, in order; it is called in the worker's thread.

        Copies are run, so that a frame may be overwritten by the next. Outputs are valid within `of` alone. known: the
        outputs of frames that need not be run.
        """
        begun: deque[tuple[NDArray[np.uint8], Future[T]]] = deque()
        for frame in frames:
            self._stop.check()
            outputs = known(frame)
            run = (self._run, frame.copy(), of) if outputs is None else (of, outputs)
            begun.append((frame, self._pool.submit(*run)))
            if len(begun) > AHEAD * self._size:
                first, made = begun.popleft()
                yield first, made.result()
        for last, made in begun:
            yield last, made.result()

    def close(self) -> None:
        """End the threads; what was begun and not asked for is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, frame: NDArray[np.uint8], of: Callable[[Outputs], T]) -> T:
        infer = self._idle.get()
        try:
            return of(infer(frame))
        finally:
            self._idle.put(infer)


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What these give, in their order, PAIRS of them at a time.

    While one is compiled or scored, which is one thread's work, another has the cores. The first failure in their order
    is raised; then, and when this is interrupted, crews of the others stop at their next frame, and so does what asks
    `going_on`.
    """
    if len(calls) < 2 or usable_cores() < 2:
        return [call() for call in calls]
    stop = _Stop(_STOP.get(_NEVER))
    pool = ThreadPoolExecutor(PAIRS, thread_name_prefix="pair")

    def begin(call: Callable[[], T]) -> Future[T]:
        context = copy_context()
        context.run(_STOP.set, stop)
        return pool.submit(context.run, call)

    try:
        return [each.result() for each in [begin(call) for call in calls]]
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def going_on() -> Callable[[], None]:
    """What raises CancelledError once nobody waits for this thread's results any more; any thread may call it."""
    return _STOP.get(_NEVER).check


def both_at_once(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """What these two give, like `at_once`."""
    done: dict[str, T | U] = {}
    at_once([lambda: done.update(first=first()), lambda: done.update(second=second())])
    return cast("T", done["first"]), cast("U", done["second"])


@contextmanager
def telling(say: Callable[[str], None]) -> Iterator[None]:
    """Where crews of this thread, and of those that it begins, say what memory kept them from."""
    before = _SAY.set(say)
    try:
        yield
    finally:
        _SAY.reset(before)


def copied(outputs: Outputs) -> Outputs:
    """Outputs that stay."""
    return {name: np.array(array) for name, array in outputs.items()}


def crew_size(most: int = MOST_AT_ONCE) -> tuple[int, int]:
    """How many workers suit this machine, and how many threads each."""
    cores = usable_cores()
    workers = min(cores, most)
    return workers, cores // workers


@contextmanager
def crew_of(engine: EngineName, file: Path, precision: Precision, *, most: int = MOST_AT_ONCE) -> Iterator[Crew]:
    """A graph on an engine as a crew of at most so many workers, fewer where memory is short: see `Memory`.

    Not within another in one thread: it may wait for that one's end. Raises as `load_engine` does.
    """
    wanted, threads = crew_size(most)
    with _MEMORY.room_for(file, wanted, going_on=going_on()) as room:
        if room.note:
            _SAY.get()(f"  {room.note}")
        engines = load_side_by_side(engine, file, precision=precision, copies=room.workers, threads=threads)
        try:
            name = engines[0].inputs[0].name
            infers = [_infer(each.infer, name) for each in engines]
            with Crew(infers) as crew:
                yield crew
        finally:
            for each in engines:
                each.close()


def _infer(call: Callable[[Mapping[str, NDArray[np.generic]]], Outputs], name: str) -> Infer:
    return lambda frame: call({name: frame})
