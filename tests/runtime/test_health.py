"""Conditions add up to a state; events are handed out once; moments are held long enough to be seen."""

from __future__ import annotations

import threading
from typing import get_args

import pytest

from edgetl_runtime import health
from edgetl_runtime.health import MEANS, Condition, Health, State


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that stands still until its one entry is changed."""
    clock = [10**9]
    monkeypatch.setattr(health.time, "monotonic_ns", lambda: clock[0])
    return clock


def test_every_condition_means_a_state_that_is_not_ok() -> None:
    assert set(MEANS) == set(get_args(Condition))
    assert set(MEANS.values()) == set(get_args(State)) - {"ok"}


@pytest.mark.parametrize(
    ("holding", "state"),
    [
        ([], "ok"),
        (["dark"], "degraded"),
        (["dark", "frozen"], "stale"),
        (["engine", "dark", "frozen"], "fault"),
        (["frozen", "resized"], "stale"),
    ],
)
def test_the_worst_condition_decides(holding: list[Condition], state: State) -> None:
    watched = Health("cam")
    for condition in holding:
        watched.set(condition, "why")
    assert watched.state == watched.status().state == state


def test_events_say_what_began_and_ended_and_are_handed_out_once(now: list[int]) -> None:
    watched = Health("cam")
    watched.set("frozen", "the same picture for 1 s")
    watched.set("frozen", "the same picture for 2 s")
    now[0] += 5
    watched.set("disconnected", "gone")
    watched.clear("frozen")
    watched.clear("frozen")
    watched.clear("disconnected")
    events = watched.tick()
    assert [(e.condition, e.began, e.state) for e in events] == [
        ("frozen", True, "stale"),
        ("disconnected", True, "fault"),
        ("frozen", False, "fault"),
        ("disconnected", False, "ok"),
    ]
    assert events[0].detail == "the same picture for 1 s"
    assert events[1].t_ns == 10**9 + 5
    assert watched.tick() == []
    assert watched.recent() == events
    assert watched.status().counts == {"frozen": 1, "disconnected": 1}
    assert watched.status().since_ns == 10**9 + 5


def test_a_moment_is_held_for_a_second_and_each_is_counted(now: list[int]) -> None:
    watched = Health("cam")
    watched.flash("duplicate", "frame 7 again")
    now[0] += health.HOLD_NS // 2
    watched.flash("duplicate", "frame 9 again")
    now[0] += health.HOLD_NS // 2
    assert [e.began for e in watched.tick()] == [True]
    assert watched.state == "degraded"
    now[0] += health.HOLD_NS // 2
    assert [(e.condition, e.began) for e in watched.tick()] == [("duplicate", False)]
    assert watched.state == "ok"
    assert watched.status().counts == {"duplicate": 2}


def test_a_moment_does_not_end_what_lasts(now: list[int]) -> None:
    watched = Health("cam")
    watched.set("engine", "failed")
    watched.flash("engine", "failed again")
    now[0] += 2 * health.HOLD_NS
    watched.tick()
    assert watched.state == "fault"
    watched.clear("engine")
    assert watched.state == "ok"


def test_what_began_for_a_moment_can_go_on(now: list[int]) -> None:
    watched = Health("cam")
    watched.flash("not_finite", "NaN")
    watched.set("not_finite", "NaN ten times in a row")
    now[0] += 2 * health.HOLD_NS
    watched.tick()
    assert watched.state == "fault"


def test_memory_is_bounded_and_threads_may_meet() -> None:
    watched = Health("cam")

    def work(condition: Condition) -> None:
        for _ in range(2000):
            watched.set(condition, "x")
            watched.flash(condition, "y")
            watched.clear(condition)

    threads = [threading.Thread(target=work, args=(c,)) for c in ("dark", "frozen", "engine")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(watched.recent()) == len(watched.tick()) == 256
    assert watched.state == "ok"
    assert watched.status().counts == {"dark": 4000, "frozen": 4000, "engine": 4000}
