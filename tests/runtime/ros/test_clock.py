"""The distance between the monotonic and the system clock: constant in noise, followed in steps."""

from __future__ import annotations

import itertools
import time

from edgetl_runtime.ros.clock import AGAIN_NS, STEP_NS, EpochClock


class Clocks:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.now_ns, self.offset_ns = 1000, 10**18
        self.cost_ns = itertools.cycle([0])

    def monotonic(self) -> int:
        self.now_ns += next(self.cost_ns)
        return self.now_ns

    def system(self) -> int:
        return self.now_ns + self.offset_ns

    def clock(self) -> EpochClock:
        return EpochClock(monotonic=self.monotonic, system=self.system)


def test_both_ways_are_the_inverse_of_each_other() -> None:
    clock = Clocks().clock()
    assert clock.epoch_ns(5) == 10**18 + 5 and clock.monotonic_ns(clock.epoch_ns(5)) == 5


def test_the_closest_pair_of_readings_counts() -> None:
    clocks = Clocks()
    clocks.cost_ns = itertools.cycle([0, 9000, 0, 9000, 0, 4, 0, 9000, 0, 9000])
    assert abs(clocks.clock().epoch_ns(0) - 10**18) <= 2


def test_noise_changes_nothing_and_stamps_rise_as_the_monotonic_clock_does() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    for noise in (STEP_NS - 1, 1 - STEP_NS, 3):
        clocks.offset_ns = 10**18 + noise
        clocks.now_ns += AGAIN_NS
        assert clock.epoch_ns(7) == 10**18 + 7
    assert clock.steps == 0


def test_a_machine_that_is_overloaded_steps_no_clock() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    clocks.cost_ns = itertools.cycle([6 * STEP_NS])
    clocks.now_ns += AGAIN_NS
    assert clock.epoch_ns(7) == 10**18 + 7 and clock.steps == 0
    clocks.offset_ns += 3600 * 10**9
    clocks.now_ns += AGAIN_NS
    assert clock.epoch_ns(7) > 10**18 + 3599 * 10**9 and clock.steps == 1, "a step is followed even so"


def test_a_step_is_followed_forwards_and_back_within_a_second() -> None:
    clocks = Clocks()
    clock = clocks.clock()
    for step_ns, steps in ((3600 * 10**9, 1), (-60 * 10**9, 2)):
        clocks.offset_ns = 10**18 + step_ns
        clocks.now_ns += AGAIN_NS - 1
        clock.epoch_ns(0)
        assert clock.steps == steps - 1
        clocks.now_ns += 1
        assert clock.epoch_ns(0) == clocks.offset_ns and clock.steps == steps


def test_the_real_clocks_agree_within_the_time_of_asking() -> None:
    clock = EpochClock()
    before, now_ns, after = time.time_ns(), time.monotonic_ns(), time.time_ns()
    assert before - STEP_NS <= clock.epoch_ns(now_ns) <= after + STEP_NS
