"""Planned faults: what they do to frames and runs, and how a plan is read."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from runtime_support import FakeCamera, scene

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.errors import CameraError, EngineError, InputError
from edgetl_runtime.inject import KINDS, Fault, Injector, parse_faults
from edgetl_runtime.result import Frame


def camera(plan: str, count: int = 12) -> tuple[Injector, list[Frame]]:
    """The injector, and every frame that its camera gives."""
    injector = Injector(parse_faults(plan))
    faulty = injector.camera(FakeCamera([scene(8, 12, i) for i in range(count)]))
    frames = []
    while (frame := faulty.read()) is not None:
        frames.append(frame)
    return injector, frames


def test_a_plan_is_read() -> None:
    assert parse_faults("stall=2.5@100, nan@50/400") == (Fault("stall", 2.5, 100), Fault("nan", 1.0, 50, 400))
    assert [n for n in range(12) if Fault("nan", 1, 3, 4).starts(n)] == [3, 7, 11]
    assert [n for n in range(12) if Fault("nan", 1, 3).starts(n)] == [3]


@pytest.mark.parametrize("plan", ["", "stall", "stall@", "crash@5", "stall=@5", "nan@5/0", "stall=-1@5", "nan@5,,"])
def test_what_is_no_plan_is_refused_with_the_kinds(plan: str) -> None:
    with pytest.raises(InputError, match="stall, disconnect, freeze"):
        parse_faults(plan)


def test_frozen_frames_have_new_numbers_and_stamps() -> None:
    injector, frames = camera("freeze=3@4")
    assert [f.frame_id for f in frames] == list(range(12))
    same = [np.array_equal(a.image, b.image) for a, b in itertools.pairwise(frames)]
    assert same == [i in (4, 5) for i in range(11)]
    assert len({f.t_capture_ns for f in frames}) == 12
    assert injector.injected == {"freeze": 1}


def test_black_and_smaller_frames() -> None:
    _, frames = camera("black=2@3,resize=2@7")
    assert [i for i, f in enumerate(frames) if not f.image.any()] == [3, 4]
    assert [i for i, f in enumerate(frames) if f.image.shape == (4, 6, 3)] == [7, 8]


def test_a_frame_comes_twice_and_two_change_places() -> None:
    injector, frames = camera("duplicate@3/5,disorder@6")
    assert [f.frame_id for f in frames] == [0, 1, 2, 3, 3, 4, 5, 7, 6, 8, 8, 9, 10, 11]
    assert injector.injected == {"duplicate": 2, "disorder": 1}
    assert frames[3].t_capture_ns == frames[4].t_capture_ns and frames[7].t_capture_ns > frames[8].t_capture_ns


def test_stamps_run_ahead_until_the_fault_comes_again() -> None:
    _, frames = camera("clock=5@3/4")
    ahead = [f.t_capture_ns > time.monotonic_ns() + 10**9 for f in frames]
    assert ahead == [3 <= i < 7 or i == 11 for i in range(12)]


def test_a_stall_lasts_and_ends_with_the_camera() -> None:
    began = time.monotonic()
    _, frames = camera("stall=0.2@2", count=4)
    assert len(frames) == 4 and 0.2 <= time.monotonic() - began < 2


def test_a_lost_camera_can_not_be_opened_until_it_is_back() -> None:
    injector = Injector(parse_faults("disconnect=1@2"))
    made: list[FakeCamera] = []

    def source() -> FakeCamera:
        made.append(FakeCamera([scene(8, 12)] * 9))
        return made[-1]

    faulty = injector.camera(source())
    assert faulty.read() is not None and faulty.read() is not None
    with pytest.raises(CameraError, match="disconnected"):
        faulty.read()
    with pytest.raises(CameraError, match="gone for"):
        injector.camera(source())
    assert made[1].closed
    time.sleep(1.05)
    again = injector.camera(source())
    assert again.read() is not None and again.read() is not None, "the plan is not begun anew"


def test_an_engine_that_fails_and_one_that_gives_nan(shared_bundle: Path) -> None:
    injector = Injector(parse_faults("engine=2@1,nan@4"))
    engine = injector.engine(load_bundle_engine(open_bundle(shared_bundle)))
    inputs = {engine.inputs[0].name: np.zeros(engine.inputs[0].shape, np.uint8)}
    found = []
    for _ in range(6):
        try:
            outputs = engine.infer(inputs)
            found.append("nan" if np.isnan(outputs["scores"]).all() else "good")
            assert outputs["classes"].dtype.kind == "i"
        except EngineError as error:
            found.append("failed")
            assert "injected" in error.message
    assert found == ["good", "failed", "failed", "good", "nan", "good"]
    engine.close()
    assert injector.injected == {"engine": 1, "nan": 1}


def test_every_kind_says_what_its_number_counts() -> None:
    assert all(amount > 0 and what for amount, what in KINDS.values())


@pytest.mark.parametrize("text", ["nan@" + "9" * 5000, "stall=" + "9" * 400 + "@1", "nan@1/" + "9" * 20, "nan@\u0663"])
def test_numbers_that_make_no_sense(text: str) -> None:
    with pytest.raises(InputError, match="expected faults like") as refused:
        parse_faults(text)
    assert len(str(refused.value)) < 400
