"""What a process has one of is made once, also where two threads ask for it first at the same moment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest

from edgetl_runtime.engines import openvino, tensorrt
from edgetl_runtime.once import once


class Making:
    """A function that is under way for long enough to meet itself, where another thread may run it too."""

    def __init__(self) -> None:
        self.made = 0
        self._meeting = Barrier(2)

    def __call__(self, *_: object) -> object:
        self.made += 1
        with suppress(BrokenBarrierError):  # nobody else came, as it should be
            self._meeting.wait(0.5)
        return object()


class Library:
    """OpenVINO's module, as far as it is looked at here."""

    def __init__(self, core: Callable[[], object]) -> None:
        self.Core = core


def asked_by_two(ask: Callable[[], object]) -> list[object]:
    start = Barrier(2)

    def asked(_: int) -> object:
        start.wait()
        return ask()

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(asked, range(2)))


def test_two_threads_get_the_same() -> None:
    making = Making()
    one, other = asked_by_two(once(making))
    assert one is other and making.made == 1


def test_other_arguments_get_another_and_a_failure_is_tried_again() -> None:
    calls: list[int] = []

    @once
    def half(number: int) -> list[int]:
        calls.append(number)
        if len(calls) == 1:
            raise ValueError
        return [number // 2]

    with pytest.raises(ValueError):
        half(4)
    assert half(4) is half(4) and half(6) == [3] and calls == [4, 4, 6]


def test_openvino_has_one_core() -> None:
    """A second one would be freed, see `_core`."""
    making = Making()
    library = Library(making)
    one, other = asked_by_two(lambda: openvino._core(library))
    assert one is other and making.made == 1


def test_tensorrt_has_one_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT keeps the first one that it gets, without owning it."""
    making = Making()
    monkeypatch.setattr(tensorrt, "make_logger", making)
    library = object()
    one, other = asked_by_two(lambda: tensorrt._logger(library))
    assert one is other and making.made == 1


def test_ros_has_one_clock() -> None:
    """A camera's stamp comes out of the sink to the nanosecond only where both converted it with the same one."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from test_once import Making, asked_by_two\n"
        "from edgetl_runtime.ros import clock\n"
        "clock.EpochClock = Making()\n"
        "one, other = asked_by_two(clock.process_clock)\n"
        "print(one is other)\n"
    )
    command = [sys.executable, "-c", code, *(p for p in [__file__.rpartition("/")[0], *sys.path] if p)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["True"]
