"""A bus that is full, down or gone, at logical times."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

import can
import pytest
from can_support import MS, Clock, FakeBus

from edgetl_runtime.can.cycle import CanFrame
from edgetl_runtime.can.link import LONGEST_WAIT_S, Link

FRAMES = [CanFrame(i, bytes(8)) for i in range(3)]
FULL = can.CanOperationError("Transmit buffer full")
DOWN = can.CanOperationError("the interface is down", errno.ENETDOWN)


class Case:
    """A link whose buses fail as `error` says; sleeping moves the clock."""

    def __init__(self) -> None:
        self.clock, self.said = Clock(), list[str]()
        self.buses: list[FakeBus] = []
        self.error: Exception | None = None
        self.opening: Exception | None = None
        self.link = Link(
            self.open, say=self.said.append, clock_ns=self.clock, sleep=lambda s: self.clock.pass_ms(s * 1000)
        )

    def open(self) -> FakeBus:
        if self.opening is not None:
            raise self.opening
        self.buses.append(FakeBus(fails=lambda: self.error))
        return self.buses[-1]

    def cycle(self) -> bool:
        self.clock.pass_ms(50)
        return self.link.send(FRAMES, self.clock() + 25 * MS)


def test_the_frames_go_out_in_order() -> None:
    case = Case()
    assert case.cycle() and [i for i, _ in case.buses[0].sent] == [0, 1, 2]
    assert (case.link.sent, case.link.failed, case.said) == (1, 0, [])


def test_a_buffer_that_is_full_for_a_moment_loses_nothing() -> None:
    case = Case()
    answers = iter([None, FULL, FULL, None, None])
    case.buses[0].fails = lambda: next(answers)
    before = case.clock()
    assert case.cycle() and [i for i, _ in case.buses[0].sent] == [0, 1, 2]
    assert case.clock() - before == 52 * MS and not case.said


def test_a_buffer_that_stays_full_costs_half_a_cycle_and_is_told_once() -> None:
    case = Case()
    case.error = FULL
    before = case.clock()
    assert not case.cycle()
    assert case.clock() - before == 75 * MS
    assert not case.cycle()
    assert len(case.buses) == 1 and case.said == ["the bus takes no frames, trying on: Transmit buffer full"]
    case.error = None
    assert case.cycle()
    assert case.said[1:] == ["the bus takes frames again, 2 cycles were not sent"]


def test_a_bus_that_is_gone_is_opened_again_ever_more_rarely() -> None:
    case = Case()
    case.error = DOWN
    assert not case.cycle() and case.buses[0].closed == 1
    case.opening = OSError(errno.ENODEV, "No such device")
    tries: list[int] = []
    inner = case.open

    def counted() -> FakeBus:
        tries.append(case.clock())
        return inner()

    case.link._open = counted
    for _ in range(1000):
        assert not case.cycle()
    gaps = [round((b - a) / MS) for a, b in itertools.pairwise(tries)]
    assert gaps[:5] == [200, 400, 800, 1600, 3200] and set(gaps[6:]) == {round(LONGEST_WAIT_S * 1000)}
    case.opening = case.error = None
    for _ in range(101):
        case.cycle()
    assert len(case.buses) == 2 and case.buses[1].sent
    assert case.link.problem == "[Errno 19] No such device"
    assert len(case.said) == 2


@pytest.mark.parametrize("error", [ValueError("a driver's own"), RuntimeError(), OSError(errno.EIO, "I/O")])
def test_no_error_of_a_driver_gets_out(error: Exception) -> None:
    case = Case()
    case.error = error
    for _ in range(4):
        assert not case.cycle()
    assert case.buses[0].closed == 1 and case.link.problem in (str(error), type(error).__name__)
    assert (case.link.sent, case.link.failed) == (0, 4)


def test_the_first_opening_may_fail() -> None:
    def refuse() -> FakeBus:
        raise OSError("no such bus")

    with pytest.raises(OSError, match="no such bus"):
        Link(refuse)


def test_nobody_needs_to_listen_and_a_bus_may_fail_to_close() -> None:
    def broken(_: str) -> None:
        raise OSError("closed pipe")

    def refuse() -> None:
        raise can.CanOperationError("already gone")

    bus = FakeBus(fails=lambda: DOWN)
    closing: Callable[[], None] = refuse
    bus.shutdown = closing  # type: ignore[method-assign]
    link = Link(lambda: bus, say=broken)
    assert not link.send(FRAMES, 0)
    link.close()
