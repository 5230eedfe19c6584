"""The worker's end of the conversation: one job in, events out, stopped when its stdin closes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from edgetl_runtime.tensorrt.compiler import Emit
from edgetl_runtime.tensorrt.protocol import Event, Result, encode

Work = TypeVar("Work")


def serve(kind: Any, run: Callable[[Work, Emit, threading.Event], Result]) -> int:
    """Read one job of the type `kind` from stdin, write events to stdout, the result last."""
    out = _claim_stdout()

    def emit(event: Event) -> None:
        out.write(encode(event))

    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    stop = threading.Event()
    threading.Thread(target=_await_end, args=(stop,), daemon=True).start()
    emit(run(job, emit, stop))
    return 0


def _await_end(stop: threading.Event) -> None:
    while os.read(0, 64):  # not sys.stdin: a reader that waits there blocks the interpreter's end
        pass
    stop.set()


def _claim_stdout() -> Any:
    """A private handle on stdout; what native code prints goes to stderr from here on."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb", buffering=0)
