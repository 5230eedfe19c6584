"""Encoders of several threads that use one message class for the first time at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pycdr2 import IdlStruct
from pycdr2.types import float64

from edgetl_runtime.ros.payload import Encoder

THREADS, PARTS = 8, 20


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def fresh(number: int) -> tuple[Any, dict[str, Any]]:
    """A message class that nobody has used, and its parts."""

    @dataclass
    class Part(IdlStruct, typename=f"test/Part{number}"):
        value: float64 = 0.5

    names = [f"part{i}" for i in range(PARTS)]
    plain = type("Message", (IdlStruct,), {"__annotations__": dict.fromkeys(names, Part)}, typename=f"test/M{number}")
    return dataclass(plain), {name: Part() for name in names}


def test_every_thread_gets_the_same_bytes(eager: None) -> None:
    for number in range(20):
        message, parts = fresh(number)
        start, found = threading.Barrier(THREADS), list[bytes]()

        def encode(message: Any = message, parts: Any = parts, start: Any = start, found: Any = found) -> None:
            start.wait(10)
            found.append(Encoder(message)(message(**parts)))

        threads = [threading.Thread(target=encode) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == THREADS and len(set(found)) == 1 and len(found[0]) == 4 + PARTS * 8
