"""Probes say yes only when it is so, and else why."""

from __future__ import annotations

import time

import pytest
from runtime_support import snapshot_of

from edgetl_runtime.health import Condition, Health
from edgetl_runtime.result import Result, ResultState
from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.snapshot import Snapshot
from edgetl_runtime.web.probes import any_unready_because, dead_because, told_together, unready_because
from edgetl_runtime.web.shown import OneLoop


def published(ago_s: float, state: ResultState = "fresh", *conditions: Condition) -> Snapshot:
    t_ns = time.monotonic_ns()
    at_ns = t_ns - int(ago_s * 1e9)
    health = Health("cam")
    for condition in conditions:
        health.set(condition, f"why {condition}")
    newest = Result(1, "cam", at_ns - 70_000_000, at_ns, {}, (8, 8), state=state)
    return snapshot_of(t_ns=t_ns, newest=newest, health=health)


@pytest.mark.parametrize(("ago_s", "dead"), [(0.0, False), (9.9, False), (10.1, True), (3600.0, True)])
def test_alive_while_the_loop_turns(ago_s: float, dead: bool) -> None:
    t_ns = time.monotonic_ns() + 10**13
    reason = dead_because(snapshot_of(t_ns=t_ns, turned_ns=t_ns - int(ago_s * 1e9)), 10.0)
    assert bool(reason) is dead and (not dead or f"{ago_s:.1f} s" in reason)


def test_before_the_loop_begins() -> None:
    assert dead_because(None, 10.0) == unready_because(None, 1.0) == "starting: the loop has not begun"


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (published(0.1), ""),
        (published(0.1, "fresh", "dark"), ""),
        (published(1.5), "the newest result was published 1.5 s ago, 1 s are allowed"),
        (published(0.1, "late"), "the newest result was late at publish, 70 ms old"),
        (published(0.1, "fresh", "dark", "frozen"), "stale: frozen (why frozen)"),
        (
            published(0.1, "fresh", "frozen", "engine", "disconnected"),
            "fault: engine (why engine), disconnected (why",
        ),
        (snapshot_of(), "no result yet"),
    ],
)
def test_ready_only_with_a_fresh_result_and_a_good_state(snapshot: Snapshot, reason: str) -> None:
    found = unready_because(snapshot, 1.0)
    assert found.startswith(reason) and bool(found) is bool(reason)
    assert "\n" not in found


def test_one_loop_is_told_without_a_name() -> None:
    assert any_unready_because(None, 1.0) == "starting: the loop has not begun"
    assert any_unready_because(OneLoop(lambda: published(0.1)), 1.0) == ""
    assert any_unready_because(OneLoop(snapshot_of), 1.0) == "no result yet"


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ({}, ""),
        ({LaneName("left", "road"): ""}, ""),
        ({LaneName("left", "road"): "", LaneName("right", "road"): "no result yet"}, "right/road: no result yet"),
        (
            {
                LaneName("left", "road"): "gone",
                LaneName("left", "signs"): "gone",
                LaneName("rear", "road"): "no result yet",
            },
            "left/road, left/signs: gone; rear/road: no result yet",
        ),
    ],
)
def test_lanes_with_one_reason_are_told_together(reasons: dict[LaneName, str], told: str) -> None:
    assert told_together(reasons) == told
