"""What is wrong with a result: late, or shifted, or something beside it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_runtime import sleep
from edgetl_runtime.domain import DomainState, ShiftScore
from edgetl_runtime.health import Health, State, worst
from edgetl_runtime.judge import Judge
from edgetl_runtime.result import Result

RESULT = Result(frame_id=0, camera_id="cam", t_capture_ns=0, t_publish_ns=50_000_000, outputs={}, size_hw=(1, 1))


def test_a_late_result_is_a_condition_until_one_is_in_time() -> None:
    health = Health("cam")
    judge = Judge(health, None, deadline_ms=40)
    late = judge.judged(dataclasses.replace(RESULT, state="late"))
    assert late.health == "stale" and health.status().conditions == {
        "late": "results are older than 40 ms when they are published"
    }
    assert judge.judged(RESULT) is RESULT and health.state == "ok"


@pytest.mark.parametrize("beside", ["ok", "degraded", "stale", "fault"])
def test_what_it_needs_is_part_of_its_state(beside: State) -> None:
    health = Health("cam")
    judge = Judge(health, None, deadline_ms=0)
    assert judge.judged(RESULT, beside=beside).health == beside
    health.set("ladder", "one frame in two")
    assert judge.judged(RESULT, beside=beside).health == worst((beside, "degraded"))
    assert health.state == "degraded"


class Watching:
    """In a monitor's place: which times it is told."""

    def __init__(self) -> None:
        self.told_ns: list[int] = []

    def observe(self, embedding: NDArray[np.floating], *, t_capture_ns: int) -> DomainState:
        self.told_ns.append(t_capture_ns)
        return DomainState(ShiftScore(1.0, 0.5, typical=True), "typical", 0.0)


def test_a_domain_changes_in_the_time_of_a_file_not_in_that_of_reading_it() -> None:
    domain = Watching()
    judge = Judge(Health("cam"), domain, deadline_ms=0)  # type: ignore[arg-type]
    result = dataclasses.replace(RESULT, t_capture_ns=7, embedding=np.zeros(3, np.float32))
    judge.judged(result)
    judge.judged(dataclasses.replace(result, media_time_s=2.5))
    assert domain.told_ns == [7, 2_500_000_000]


def test_a_picture_from_before_the_machine_slept_is_late_and_says_how_old_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept = [0]
    monkeypatch.setattr(sleep, "slept_ns", lambda: slept[0])
    health = Health("cam")
    judge = Judge(health, None, deadline_ms=80)
    result = dataclasses.replace(RESULT, t_capture_ns=10_000, t_publish_ns=60_000_000, valid_until_ns=80_010_000)
    assert judge.judged(result) is result
    slept[0] = 3_600_000_000_000
    found = judge.judged(result)
    assert found.state == "late" and found.health == "stale"
    assert found.age_ms == pytest.approx(3_600_060, abs=0.1)
    assert found.valid_until_ns == 80_010_000 - slept[0]
    assert health.status().conditions == {"late": "the machine slept for 3600.0 s after the picture was taken"}
    assert judge.judged(dataclasses.replace(result, t_capture_ns=60_000_001, t_publish_ns=99_000_000)).state == "fresh"
    assert health.state == "ok"


def test_of_a_file_sleep_makes_nothing_late(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = [0]
    monkeypatch.setattr(sleep, "slept_ns", lambda: slept[0])
    judge = Judge(Health("cam"), None, deadline_ms=0)
    slept[0] = 9_000_000_000
    for result in (dataclasses.replace(RESULT, media_time_s=0.1), dataclasses.replace(RESULT, name="a.jpg")):
        assert judge.judged(result) is result
    assert judge.judged(RESULT).state == "late"


def test_the_worst_of_states() -> None:
    assert worst(()) == "ok"
    assert worst(("stale", "ok", "fault", "degraded")) == "fault"
