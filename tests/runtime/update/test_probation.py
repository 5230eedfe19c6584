"""A slot on probation: committed after healthy time, taken back for its own faults and not for the camera's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from service_support import ROOTS, result_of
from update_support import SKIP, Fleet, killed_start, quiet

from edgetl_runtime.errors import BundleError, CameraError, EngineError, InputError, MissingPackage, UnfitBundle
from edgetl_runtime.health import Condition, Event
from edgetl_runtime.result import Frame
from edgetl_runtime.update.installing import update
from edgetl_runtime.update.pointer import Trial
from edgetl_runtime.update.probation import StoreSink
from edgetl_runtime.update.store import Store, slot_name

FRAME = Frame(np.zeros((4, 4, 3), np.uint8), 0, "cam", 0)


class Drive:
    """A run of release 2 on probation of 10 s, with a clock that the test turns."""

    def __init__(self, fleet: Fleet, name: str = "store") -> None:
        self.fleet, self.now_s, self.said = fleet, 0.0, list[str]()
        if not (fleet.folder / name).exists():
            store = fleet.store(name)
            update(store, fleet.release(1), SKIP, quiet)
            update(store, fleet.release(2), SKIP, quiet)
            pointer = store.pointer()
            assert pointer is not None and pointer.trial is not None
            store.judge(pointer.current, Trial(probation_s=10.0, within_s=60.0))
        self.store = Store(fleet.folder / name)
        self.start = self.store.start()
        self.sink = StoreSink(self.store, self.start, say=self.said.append, clock=lambda: self.now_s)

    def results(self, seconds: float, *, every_s: float = 0.1, **kind: str) -> None:
        """Results for so long."""
        for _ in range(round(seconds / every_s)):
            self.now_s += every_s
            self.sink.write(result_of(**kind), FRAME, None)  # type: ignore[arg-type]

    def event(self, condition: Condition, *, began: bool = True) -> None:
        """A condition begins or ends."""
        self.sink.event(Event(0, "cam", condition, began, "fault", "the detail"))

    def trial(self) -> Trial | None:
        """As it is written down."""
        pointer = self.store.pointer()
        assert pointer is not None
        return pointer.trial

    def end(self, error: BaseException | None = None) -> None:
        """The run is over."""
        self.sink.close()
        self.sink.ended(type(error) if error else None, error, None)

    def release(self) -> int:
        """What the next start runs."""
        return killed_start(self.store).bundle.manifest.release

    def kill(self) -> None:
        """The run is gone, without an end."""
        assert self.start.held is not None
        self.start.held.release()


def test_healthy_time_commits(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.results(9.5)
    assert drive.trial() is not None and "on probation" in drive.sink.notes[0]
    drive.results(1.0)
    assert drive.trial() is None and "is committed" in drive.said[0] and drive.sink.notes == []
    pointer = drive.store.pointer()
    assert pointer is not None and pointer.newest.release == 2, "nothing older is taken from now on"
    assert not drive.sink.stop
    for _ in range(5):
        drive.event("engine")
    assert not drive.sink.stop and drive.release() == 2, "after probation faults are for others to judge"


@pytest.mark.parametrize("kind", [{"state": "late"}, {"health": "stale"}, {"health": "fault"}])
def test_time_without_healthy_results_does_not_count(fleet: Fleet, kind: dict[str, str]) -> None:
    drive = Drive(fleet)
    drive.results(9.0, **kind)
    drive.results(5.0, every_s=2.5)
    drive.end()
    trial = drive.trial()
    assert trial is not None and trial.healthy_s == pytest.approx(1.0), "gaps between results count as a second"
    assert trial.running_s == pytest.approx(14.0)


def test_clean_ends_add_up_to_a_commit(fleet: Fleet) -> None:
    for _ in range(4):
        drive = Drive(fleet)
        drive.results(2.4)
        drive.end(KeyboardInterrupt())
        trial = drive.trial()
        assert trial is not None and trial.starts == 0
    drive = Drive(fleet)
    drive.results(2.0)
    assert drive.trial() is None


def test_a_camera_that_fails_is_not_the_bundles_fault(fleet: Fleet) -> None:
    for _ in range(6):
        drive = Drive(fleet)
        drive.event("disconnected")
        drive.event("stalled")
        drive.end(CameraError("gone"))
    assert drive.release() == 2 and not drive.sink.stop


@pytest.mark.parametrize(
    "error",
    [
        InputError("the port is taken"),
        MissingPackage("foxglove-sdk", extra="vehicle"),
        PermissionError(13, "Permission denied"),
        KeyboardInterrupt(),
    ],
)
def test_nor_is_what_is_refused_beside_it(fleet: Fleet, error: BaseException) -> None:
    for _ in range(4):
        drive = Drive(fleet)
        drive.end(error)
    trial = drive.trial()
    assert trial is not None and trial.starts == 0 and drive.release() == 2


@pytest.mark.parametrize(
    "error",
    [EngineError("it does not load"), BundleError("not whole"), UnfitBundle("no boxes to track"), ValueError("odd")],
)
def test_an_engine_that_fails_is(fleet: Fleet, error: Exception) -> None:
    for _ in range(3):
        drive = Drive(fleet)
        drive.end(error)
        trial = drive.trial()
        assert trial is not None
    assert trial.starts == 3 and drive.release() == 1


def test_a_run_beside_another_one_counts_nothing_and_clears_nothing(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.event("engine")
    for _ in range(5):
        beside = Drive(fleet)
        assert beside.start.held is None and beside.start.bundle.manifest.release == 2
        beside.results(11.0)
        for _ in range(4):
            beside.event("engine")
        assert not beside.sink.stop
        beside.end(EngineError("it does not load"))
    trial = drive.trial()
    assert trial is not None and trial.starts == 1 and trial.healthy_s == 0 and trial.fault.startswith("engine")
    drive.event("engine", began=False)
    drive.end()
    trial = drive.trial()
    assert trial is not None and trial.starts == 0 and trial.fault == ""


def test_a_run_that_goes_on_beside_one_that_was_killed_hides_nothing(fleet: Fleet) -> None:
    first = Drive(fleet)
    beside = Drive(fleet)
    first.kill()
    again = Drive(fleet)
    assert again.start.held is not None
    beside.end()
    trial = again.trial()
    assert trial is not None and trial.starts == 2, "one that was killed, and the one that runs"
    again.end()


def test_a_process_that_is_killed_is_seen_as_gone(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.end()
    code = (
        "import sys, time; from edgetl_runtime.update.store import Store; start = Store(sys.argv[1]).start(); "
        "print(start.held is not None, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-P", "-c", code, drive.store.folder],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert run.stdout is not None and run.stdout.readline() == "True\n"
        assert drive.store.start().held is None
        trial = drive.trial()
        assert trial is not None and trial.starts == 1
    finally:
        run.kill()
        run.communicate()
    start = drive.store.start()
    assert start.held is not None and start.pointer.trial is not None and start.pointer.trial.starts == 2
    start.held.release()


def test_a_second_start_of_a_slot_that_is_not_whole_goes_back(fleet: Fleet) -> None:
    drive = Drive(fleet)
    (drive.store.slot(drive.start.pointer.current) / "labels.txt").write_text("bits rot")
    start = drive.store.start()
    assert start.held is None and start.bundle.manifest.release == 1 and start.pointer.trial is None


def test_so_many_faults_in_one_run_go_back_at_once(fleet: Fleet) -> None:
    drive = Drive(fleet)
    for _ in range(2):
        drive.event("engine")
        drive.event("engine", began=False)
    assert not drive.sink.stop
    drive.event("not_finite")
    assert drive.sink.stop and drive.sink.exit_status == 75
    assert "3 faults in one run" in drive.said[0] and slot_name(fleet.release(1)) in drive.said[0]
    drive.end()
    assert drive.release() == 1
    assert drive.start.bundle.manifest.release == 2


def test_a_fault_that_lasts_when_the_run_is_killed_goes_back_at_the_next_start(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.event("engine")
    trial = drive.trial()
    assert trial is not None and trial.fault == "engine (the detail)"
    drive.kill()
    assert drive.release() == 1


def test_a_fault_that_is_over_is_forgotten(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.event("engine")
    drive.event("engine", began=False)
    drive.end()
    trial = drive.trial()
    assert trial is not None and trial.fault == "" and trial.starts == 0 and drive.release() == 2


def test_nothing_is_committed_while_a_fault_lasts(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.event("engine")
    drive.results(11.0)
    assert drive.trial() is not None
    drive.event("engine", began=False)
    drive.results(0.2)
    assert drive.trial() is None


def test_results_that_stay_late_go_back(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.results(9.0, state="late")
    drive.results(0.1)
    drive.results(9.9, state="late")
    assert not drive.sink.stop
    drive.results(1.0, state="late")
    assert drive.sink.stop and "late for 10 s" in drive.said[0] and drive.release() == 1


def test_too_long_without_getting_there_goes_back(fleet: Fleet) -> None:
    for _ in range(7):
        drive = Drive(fleet)
        drive.results(10.0, health="stale")
        drive.end()
    assert drive.release() == 1


def test_another_slot_that_becomes_current_ends_the_run(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.results(11.0)
    drive.results(2.0)
    assert not drive.sink.stop
    update(Store(drive.store.folder), fleet.release(3), SKIP, quiet)
    drive.results(1.5)
    assert drive.sink.stop and drive.sink.exit_status == 75 and "became current" in drive.said[-1]
    drive.end()
    trial = drive.trial()
    assert trial is not None and trial.starts == 0 and drive.release() == 3


def test_another_slot_is_seen_while_no_results_come(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.store.roll_back("an operator went back")
    assert not drive.sink.stop
    drive.now_s += 1.5
    assert drive.sink.stop and drive.sink.exit_status == 75


def test_a_way_back_by_hand_is_seen_by_a_run_that_just_wrote_how_it_stands(fleet: Fleet) -> None:
    drive = Drive(fleet)
    drive.results(2.0)
    drive.store.roll_back("an operator went back")
    drive.event("engine")
    drive.results(2.0)
    assert drive.sink.stop and drive.sink.exit_status == 75 and "became current" in drive.said[-1]


def test_nothing_to_go_back_to_is_said(fleet: Fleet) -> None:
    drive = Drive(fleet)
    pointer = drive.store.pointer()
    assert pointer is not None
    drive.store.free(pointer)
    for _ in range(3):
        drive.event("engine")
    assert not drive.sink.stop and "no way back" in drive.said[-1]
    drive.kill()
    start = killed_start(Store(drive.store.folder))
    assert start.bundle.manifest.release == 2 and "no slot to go back to" in start.notes[0]


def test_a_disk_that_takes_nothing_costs_the_probation_not_the_run(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = Drive(fleet)

    def full(slot: str, trial: Trial) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drive.store, "judge", full)
    drive.event("engine")
    drive.results(1.0)
    assert "can't be written down" in drive.said[0] and not drive.sink.stop


def test_a_store_that_may_not_be_written(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = Drive(fleet)
    drive.results(11.0)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    monkeypatch.setattr(drive.store, "changing", lambda: pytest.fail("a committed slot needs no lock"))
    assert drive.release() == 2
    assert isinstance(drive.store.folder, Path)
