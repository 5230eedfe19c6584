"""An engine that answers another picture than the one it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import FakeCamera

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.health import Event
from edgetl_runtime.loop import run
from edgetl_runtime.result import Result
from edgetl_runtime.stuck import STUCK_NS, Answers

STEP_NS = 33_333_333
RNG = np.random.default_rng(0)


def pictures(levels: list[int]) -> list[NDArray[np.uint8]]:
    return [np.clip(RNG.normal(level, 1.0, (1, 64, 96, 3)), 0, 255).astype(np.uint8) for level in levels]


def answer(value: float) -> dict[str, NDArray[Any]]:
    return {"scores": np.full((1, 8), value, np.float32), "mask": np.ones((1, 4, 4), np.uint8)}


def first_stuck(levels: list[int], values: list[float]) -> int | None:
    """The frame at which it is said, None where it is not."""
    answers = Answers(["scores", "embedding"])
    shown = zip(pictures(levels), values, strict=True)
    said = [answers.stuck(picture, answer(value), i * STEP_NS) for i, (picture, value) in enumerate(shown)]
    return said.index(True) if any(said) else None


@pytest.mark.parametrize(
    ("levels", "values", "found"),
    [
        ([80 + i for i in range(90)], [0.3] * 90, 61),  # a drive, and always the same answer
        ([80] * 70 + [140] * 20, [0.3] * 90, 70),  # at once where the scene changes later
        ([80] * 90, [0.3] * 90, None),  # nothing moves but the noise
        ([80 + i for i in range(90)], [0.3 + i / 1000 for i in range(90)], None),
        ([80 + i for i in range(90)], [0.3 if i % 50 else 0.4 for i in range(90)], None),  # another one now and then
        ([80 + i for i in range(90)], [0.0] * 90, None),  # a graph that empties the rows where nothing is
    ],
)
def test_the_same_answer_for_another_picture(levels: list[int], values: list[float], found: int | None) -> None:
    assert first_stuck(levels, values) == found
    assert pytest.approx(STUCK_NS, rel=1e-6) == 60 * STEP_NS


def test_without_an_answer_that_changes_nothing_is_known() -> None:
    answers = Answers(["embedding"])
    shown = enumerate(pictures([80 + i for i in range(90)]))
    assert not any(answers.stuck(picture, answer(0.3), i * STEP_NS) for i, picture in shown)


class Stuck:
    """An engine whose outputs stay what they were after so many runs."""

    def __init__(self, engine: Engine, runs: int) -> None:
        self._engine, self._left = engine, runs
        self._last: Mapping[str, NDArray[Any]] = {}
        self.name, self.precision, self.inputs, self.outputs = (
            engine.name, engine.precision, engine.inputs, engine.outputs,
        )  # fmt: skip

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self._left -= 1
        if self._left >= 0:
            self._last = {name: values.copy() for name, values in self._engine.infer(inputs).items()}
        return self._last

    def close(self) -> None:
        self._engine.close()


def test_an_engine_that_is_stuck_is_said_and_loaded_again(shared_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_runtime.stuck.STUCK_NS", 200_000_000)
    bundle = open_bundle(shared_bundle)
    drive = [picture[0] for picture in pictures([60 + i for i in range(150)])]
    results: list[Result] = []
    events: list[Event] = []
    summary = run(
        bundle,
        FakeCamera(drive, delay_s=0.01),
        engine=Stuck(load_bundle_engine(bundle), 10),
        reload=lambda: load_bundle_engine(bundle),
        on_result=results.append,
        on_event=events.append,
    )
    events = [e for e in events if e.condition != "dark"]
    assert [(e.condition, e.began) for e in events] == [("engine", True), ("engine", False)]
    assert "the same to the bit, whatever picture" in events[0].detail
    assert summary.failed >= 3 and results[-1].frame_id == 149


def test_of_a_file_the_same_answer_is_its_own(shared_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_runtime.stuck.STUCK_NS", 0)
    bundle = open_bundle(shared_bundle)

    class File(FakeCamera):
        def read(self) -> Any:
            frame = super().read()
            return frame and type(frame)(frame.image, frame.frame_id, "f", frame.t_capture_ns, frame.frame_id / 30)

    drive = File([picture[0] for picture in pictures([60 + i for i in range(40)])], live=False)
    summary = run(bundle, drive, engine=Stuck(load_bundle_engine(bundle), 5))
    assert summary.processed == 40
