"""Cores and priority of the loop, asked of the system and read back."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_LOWEST = 19


def parse_cpus(text: str) -> frozenset[int]:
    """`0,2-3` as {0, 2, 3}. Raises InputError for anything else."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 20:
            raise InputError(f"expected cores like 0,2-3, found {text!r}")
        end = int(last) if dash else int(first)
        if not int(first) <= end < 4096:
            raise InputError(f"expected cores like 0,2-3, found {text!r}")
        cpus.update(range(int(first), end + 1))
    return frozenset(cpus)


def pin(cpus: frozenset[int]) -> None:
    """Let this process, and every thread that it starts from now on, run on these cores only.

    Raises InputError where the machine has not all of them or the system does not allow it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system can't pin a process to cores")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        here = f"there are {','.join(map(str, sorted(os.sched_getaffinity(0))))}"
        raise InputError(f"can't run on the cores {sorted(cpus)}: {error.strerror}", remedy=here) from error
    found = os.sched_getaffinity(0)
    if found != cpus:
        raise InputError(f"asked for the cores {sorted(cpus)}, the system gives {sorted(found)}")


def check_priority(priority: int) -> None:
    """Raises InputError for what is no real-time priority of this system."""
    if not hasattr(os, "sched_setscheduler"):
        raise InputError("this system has no real-time priorities")
    low, high = os.sched_get_priority_min(os.SCHED_FIFO), os.sched_get_priority_max(os.SCHED_FIFO)
    if not low <= priority <= high:
        raise InputError(f"a priority is from {low} to {high}, found {priority}")


def raise_priority(priority: int) -> None:
    """Run the calling thread first in, first out before all ordinary ones (SCHED_FIFO); threads that it starts are not.

    priority: 1 to 99. Raises InputError where the system does not allow it.
    """
    check_priority(priority)
    # Threads for pages, recording and encoding must not push the engine's own aside.
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        raise InputError(
            f"the system does not give real-time priority {priority}: {error.strerror}",
            remedy="it takes CAP_SYS_NICE, or a limit on rtprio that allows it",
        ) from error
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_FIFO:
        raise InputError(f"asked for real-time priority {priority}, the system did not give it")


def run_lowly(work: Callable[[], T]) -> T:
    """What `work` gives or raises, done in a thread of the lowest priority (nice 19), as are threads that it starts."""
    done: list[T] = []
    raised: list[BaseException] = []

    def lowly() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST)
            done.append(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=lowly, name="lowly", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return done[0]


def set_opencv_threads(*, live: bool) -> None:
    """Let OpenCV work in the thread that calls it where the source is live, in two where it is a file; of this process.

    Beside a live source OpenCV's own threads wait for cores that its reader holds: the letterbox of a 1280x720 frame
    took 0.32 ms in the middle with two threads and 0.41 with one, but 2.6 to 3.6 ms at the 99th percentile, not 0.7.
    A file's reader waits until its frame is in the network's input, so the second core is free: 0.30 ms, not 0.43.
    """
    _cv2().setNumThreads(1 if live else 2)
