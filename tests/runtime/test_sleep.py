"""Suspend to RAM, told from two clocks."""

from __future__ import annotations

import time

import pytest

from edgetl_runtime import sleep
from edgetl_runtime.sleep import LEAST_NS, Sleep, slept_ns

HOUR_NS = 3_600_000_000_000


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How long the machine has slept; a test may change it."""
    said: list[int | None] = [7]
    monkeypatch.setattr(sleep, "slept_ns", lambda: said[0])
    return said


def test_this_machine_has_both_clocks_and_did_not_sleep_between_two_looks() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this system has no CLOCK_BOOTTIME")
    first, second = slept_ns(), slept_ns()
    assert first is not None and second is not None and abs(second - first) < LEAST_NS
    now_ns = time.monotonic_ns()
    assert Sleep().since(now_ns, now_ns) == 0


def test_pictures_of_before_are_older_by_the_sleep(slept: list[int | None]) -> None:
    watch = Sleep()
    assert watch.since(90, 100) == 0
    slept[0] = HOUR_NS + 7
    assert watch.since(110, 120) == HOUR_NS
    assert watch.since(119, 140) == HOUR_NS  # it was in a buffer
    assert watch.since(121, 150) == 0
    slept[0] = 3 * HOUR_NS
    assert watch.since(121, 160) == 2 * HOUR_NS - 7


@pytest.mark.parametrize("by_ns", [LEAST_NS, -HOUR_NS])
def test_clocks_that_are_read_apart_are_no_sleep(slept: list[int | None], by_ns: int) -> None:
    watch = Sleep()
    slept[0] = 7 + by_ns
    assert watch.since(90, 100) == 0


def test_clocks_that_could_not_be_read_together_are_asked_again(slept: list[int | None]) -> None:
    watch = Sleep()
    slept[0] = None
    assert watch.since(90, 100) == 0
    slept[0] = HOUR_NS
    assert watch.since(110, 120) == HOUR_NS - 7


def test_without_such_a_clock_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert slept_ns() is None
    assert Sleep().since(90, 100) == 0


def test_clocks_that_are_read_too_far_apart_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC, raising=False)
    ticks = iter(range(0, HOUR_NS, 10_000_000))
    monkeypatch.setattr(time, "monotonic_ns", lambda: next(ticks))
    assert slept_ns() is None
