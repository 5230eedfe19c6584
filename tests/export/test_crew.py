"""A crew gives for every frame what one engine gives, in order, and works on several at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from networks import PROBES, folded, frames
from numpy.typing import NDArray

from edgetl_export.candidates import infer_of
from edgetl_export.crew import Crew, at_once, both_at_once, copied, crew_of, telling
from edgetl_export.memory import Memory
from edgetl_export.parity import Infer
from edgetl_export.search import quantiser_of
from edgetl_runtime.engines import available_engines, load_engine, load_side_by_side
from edgetl_runtime.errors import EngineError
from edgetl_runtime.spec import EngineName, Precision

WAIT_S = 30
RUNNERS: tuple[tuple[EngineName, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("openvino", "int8-bf16"),
)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [np.full((1, 2, 2, 3), value, np.uint8) for value in range(count)]


class Doubling:
    """Twice the frame, in a buffer that the next call overwrites; not for two threads at once."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._buffer = np.zeros((1, 2, 2, 3), np.int64)
        self._busy = threading.Lock()

    def __call__(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        assert self._busy.acquire(blocking=False), "two threads at once"
        self.calls.append(int(frame.flat[0]))
        self._buffer[:] = 2 * frame.astype(np.int64)
        self._busy.release()
        return {"y": self._buffer}


def values(infer: Infer, asked: list[NDArray[np.uint8]]) -> list[int]:
    return [int(np.asarray(infer(frame)["y"]).flat[0]) for frame in asked]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_every_frame_once_and_in_order(workers: int, count: int) -> None:
    infers = [Doubling() for _ in range(workers)]
    known = pictures(count)
    with Crew(infers) as crew:
        assert values(crew.over(known), known) == [2 * i for i in range(count)]
    assert sorted(call for infer in infers for call in infer.calls) == list(range(count))


def test_another_order_again_and_unknown_frames() -> None:
    known, unknown = pictures(6), np.full((1, 2, 2, 3), 50, np.uint8)
    with Crew([Doubling(), Doubling()]) as crew:
        infer = crew.over(known)
        asked = [known[4], known[0], unknown, known[0], known[5], known[5]]
        assert values(infer, asked) == [8, 0, 100, 0, 10, 10]


def test_what_was_given_stays() -> None:
    known = pictures(5)
    with Crew([Doubling()]) as crew:
        infer = crew.over(known)
        kept = [np.asarray(infer(frame)["y"]) for frame in known]
    assert [int(array.flat[0]) for array in kept] == [0, 2, 4, 6, 8]


def test_two_frames_are_in_work_at_once() -> None:
    meeting = threading.Barrier(2)

    def infer(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        meeting.wait(WAIT_S)  # nobody goes on alone
        return {"y": frame}

    known = pictures(4)
    with Crew([infer, infer]) as crew:
        assert values(crew.over(known), known) == [0, 1, 2, 3]


def test_a_failure_reaches_the_one_who_asked() -> None:
    def infer(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        if frame.flat[0] == 2:
            raise EngineError("the third")
        return {"y": frame}

    known = pictures(4)
    with Crew([infer, infer]) as crew:
        over = crew.over(known)
        assert values(over, known[:2]) == [0, 1]
        with pytest.raises(EngineError, match="the third"):
            over(known[2])
        assert values(over, known[3:]) == [3]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_buffer_that_is_overwritten(count: int) -> None:
    buffer = np.zeros((1, 2, 2, 3), np.uint8)
    ahead = 0

    def overwritten() -> Iterator[NDArray[np.uint8]]:
        nonlocal ahead
        for value in range(count):
            ahead += 1
            buffer[:] = value
            yield buffer

    found = []
    with Crew([Doubling(), Doubling()]) as crew:
        for frame, outputs in crew.each(overwritten(), copied):
            assert frame is buffer and ahead - len(found) <= 6, "it holds more and more frames"
            found.append(int(np.asarray(outputs["y"]).flat[0]))
    assert found == [2 * i for i in range(count)]


def test_what_is_known_is_not_run() -> None:
    known = pictures(5)
    runner = Doubling()
    with Crew([runner]) as crew:
        told = {id(known[1]): {"y": np.full((1, 2, 2, 3), 70)}, id(known[4]): {"y": np.full((1, 2, 2, 3), 80)}}
        rows = list(crew.each(known, copied, known=lambda frame: told.get(id(frame))))
    assert [int(np.asarray(outputs["y"]).flat[0]) for _, outputs in rows] == [0, 70, 4, 6, 80]
    assert [id(frame) for frame, _ in rows] == [id(frame) for frame in known]
    assert sorted(runner.calls) == [0, 2, 3]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small network in float and in INT8."""
    folder = tmp_path_factory.mktemp("crew")
    path = folded(folder / "net.onnx")
    quantiser = quantiser_of(path, PROBES, frames(4, seed=3), work=folder, ship=folder)
    return {"float": path, "int8": quantiser.build("int8")[0]}


@pytest.mark.parametrize(("engine", "precision"), RUNNERS)
def test_the_same_bits_as_one_engine_with_all_threads(
    graphs: dict[str, Path], engine: EngineName, precision: Precision
) -> None:
    path = graphs["int8" if precision.startswith("int8") else "float"]
    if engine not in available_engines():
        pytest.skip(f"needs {engine}")
    try:
        alone = load_engine(engine, path, precision=precision)
    except EngineError as error:
        pytest.skip(error.message)
    asked = frames(12)
    expected = [{name: np.array(array) for name, array in infer_of(alone)(frame).items()} for frame in asked]
    with crew_of(engine, path, precision) as crew:
        infer = crew.over(asked)
        for frame, row in zip(asked, expected, strict=True):
            found = infer(frame)
            assert set(found) == set(row)
            for name in row:
                np.testing.assert_array_equal(found[name], row[name])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_side_by_side_outlive_one_another(graphs: dict[str, Path], engine: EngineName) -> None:
    if engine not in available_engines():
        pytest.skip(f"needs {engine}")
    first, second = load_side_by_side(engine, graphs["float"], precision="fp32", copies=2)
    frame = frames(1)[0]
    before = {name: np.array(array) for name, array in infer_of(first)(frame).items()}
    first.close()
    after = infer_of(second)(frame)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    with pytest.raises(EngineError, match="closed"):
        infer_of(first)(frame)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_calls_give_their_results_in_order(monkeypatch: pytest.MonkeyPatch, cores: int, count: int) -> None:
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: cores)
    assert at_once([partial(str, i) for i in range(count)]) == [str(i) for i in range(count)]


def test_two_calls_are_in_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: 2)
    meeting = threading.Barrier(2)
    assert sorted(at_once([lambda: meeting.wait(WAIT_S)] * 2)) == [0, 1]


def test_the_first_failure_in_order_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: 2)
    second_failed = threading.Event()

    def first() -> None:
        assert second_failed.wait(WAIT_S)
        raise EngineError("the first")

    def second() -> None:
        second_failed.set()
        raise EngineError("the second")

    with pytest.raises(EngineError, match="the first"):
        at_once([first, second])


def test_a_failure_stops_the_crew_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: 2)
    begun = threading.Event()
    asked: list[int] = []

    def failing() -> None:
        assert begun.wait(WAIT_S)
        raise EngineError("the first")

    def long() -> None:
        known = pictures(200)
        with Crew([Doubling()]) as crew:
            infer = crew.over(known)
            for frame in known:
                infer(frame)
                asked.append(1)
                begun.set()
                time.sleep(0.02)

    with pytest.raises(EngineError, match="the first"):
        at_once([failing, long])
    assert 0 < len(asked) < 200, "it went on to its end"


def test_a_failure_stops_what_the_other_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are made at once may make others at once."""
    monkeypatch.setattr("edgetl_export.crew.usable_cores", lambda: 2)
    begun = threading.Event()
    asked: list[int] = []

    def failing() -> None:
        assert begun.wait(WAIT_S)
        raise EngineError("the first")

    def long() -> None:
        with Crew([Doubling()]) as crew:
            for _ in crew.each(pictures(200), copied):
                asked.append(1)
                begun.set()
                time.sleep(0.02)

    with pytest.raises(EngineError, match="the first"):
        at_once([failing, lambda: at_once([long, lambda: None])])
    assert 0 < len(asked) < 200, "it went on to its end"


def test_both_at_once_gives_each_its_own() -> None:
    assert both_at_once(lambda: "a", lambda: 1) == ("a", 1)


def test_a_crew_is_as_large_as_memory_allows(graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_export.crew.crew_size", lambda most: (2, 1))
    monkeypatch.setattr("edgetl_export.crew._MEMORY", Memory(free=lambda: 1 << 20))
    said: list[str] = []
    with telling(said.append):
        found = at_once([lambda: asked_of(graphs["float"]), lambda: asked_of(graphs["float"])])
    assert np.array_equal(*found)
    assert len(said) == 2 and all("1 instead of 2 frames at a time" in text for text in said)


def asked_of(path: Path) -> NDArray[np.generic]:
    with crew_of("onnxruntime", path, "fp32") as crew:
        return next(iter(crew.over(())(frames(1)[0]).values()))
