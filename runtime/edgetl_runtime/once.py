"""What a process has one of, made when it is first asked for, whoever asks at the same moment."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


def once(make: Callable[P, T]) -> Callable[P, T]:
    """The function, run once for the same hashable arguments; who asks meanwhile waits and gets the same object.

    functools.cache runs it for every thread that asks before the first one is done, and gives each its own.
    """
    kept = cast("Callable[P, T]", functools.cache(make))
    lock = threading.Lock()

    @functools.wraps(make)
    def given(*args: P.args, **kwargs: P.kwargs) -> T:
        with lock:
            return kept(*args, **kwargs)

    return given
