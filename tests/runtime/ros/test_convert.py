"""The state of a loop as diagnostics, and what is known of a camera at other sizes."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from ros_support import boxes, result_of
from runtime_support import snapshot_of

from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Condition, Health
from edgetl_runtime.ledger import Ledger
from edgetl_runtime.ros import Intrinsics
from edgetl_runtime.ros.convert import ERROR, OK, STALE, WARN, camera_message, diagnostics_message, header
from edgetl_runtime.ros.messages import DiagnosticArray, Header

K = (100.0, 0.0, 319.5, 0.0, 110.0, 239.5, 0.0, 0.0, 1.0)


def told(health: Health | None = None, *, result_s: float | None = 0.0, **changes: Any) -> DiagnosticArray:
    """Of a loop whose newest result is result_s old."""
    newest = None
    if result_s is not None:
        newest, _ = result_of(boxes(1))
        newest = dataclasses.replace(newest, t_publish_ns=time.monotonic_ns() - int(result_s * 1e9))
    snapshot = snapshot_of(health=health, newest=newest, **changes)
    return diagnostics_message(snapshot, "edgetl", "cam", Header())


@pytest.mark.parametrize(("condition", "level"), [(None, OK), ("dark", WARN), ("frozen", STALE), ("engine", ERROR)])
def test_the_level_is_that_of_the_worst_condition(condition: Condition | None, level: int) -> None:
    health = Health("cam")
    if condition:
        health.set(condition, "why it is")
    whole, _ = told(health).status
    assert whole.level == level
    assert ("why it is" in whole.message) == (condition is not None)


def test_without_results_it_is_stale_unless_it_is_worse() -> None:
    assert told(result_s=None).status[0].level == STALE
    old = told(result_s=10.0).status[0]
    assert old.level == STALE and old.message == "no result for 10.0 s; ok".removesuffix("; ok")
    health = Health("cam")
    health.set("engine", "out of memory")
    assert told(health, result_s=10.0).status[0].level == ERROR


def test_a_loop_that_hangs_is_an_error() -> None:
    whole = told(turned_ns=time.monotonic_ns() - 5 * 10**9).status[0]
    assert whole.level == ERROR and "has not turned for 5.0 s" in whole.message


def test_times_are_those_of_the_last_seconds() -> None:
    ledger = Ledger()
    for _ in range(50):
        ledger.add("infer", 10.0)
    times = told(ledger=ledger, processed=50, states={"late": 3}).status[1]
    values = {pair.key: float(pair.value) for pair in times.values}
    assert values["infer p50 [ms], last 10 s"] == pytest.approx(10, rel=0.01)
    assert (times.level, times.message) == (OK, "3 of 50 results were late")


def test_stamps_are_seconds_and_nanoseconds() -> None:
    head = header(1_700_000_000_999_999_999, "f")
    assert (head.stamp.sec, head.stamp.nanosec, head.frame_id) == (1_700_000_000, 999_999_999, "f")


def test_intrinsics_scale_with_the_picture_and_keep_its_centre() -> None:
    known = Intrinsics((480, 640), K, (0.1, 0.2))
    info = camera_message((240, 320), known, Header())
    assert list(info.k) == [50.0, 0.0, 159.5, 0.0, 55.0, 119.5, 0.0, 0.0, 1.0]
    assert list(info.p) == [50.0, 0.0, 159.5, 0.0, 0.0, 55.0, 119.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert list(info.d) == [0.1, 0.2] and info.distortion_model == "plumb_bob"
    assert known.scaled((480, 640)) is known
    back = known.scaled((240, 320)).scaled((480, 640))
    assert back.k == pytest.approx(known.k)
    with pytest.raises(InputError, match="calibrated at 640x480 and gives 640x360"):
        known.scaled((360, 640))


def test_without_intrinsics_k_is_zero_as_ros_wants_it() -> None:
    info = camera_message((48, 64), None, Header())
    assert (info.height, info.width, set(info.k)) == (48, 64, {0.0})


@pytest.mark.parametrize("wrong", [{"k": K[:8]}, {"p": K}, {"size_hw": (0, 640)}, {"r": ()}])
def test_intrinsics_of_other_shapes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="intrinsics need a size and k, r and p"):
        Intrinsics(**({"size_hw": (480, 640), "k": K} | wrong))
