"""Choosing a pair: the fastest within the budget, with what was refused named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec import structs
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetl_export.budget import Budget, Measured
from edgetl_export.candidates import (
    FLOAT_RUNNERS,
    SURE,
    Answers,
    Candidate,
    Pair,
    Reference,
    Shipped,
    choose,
    contenders,
    infer_of,
    judge,
    time_candidates,
)
from edgetl_export.parity import Infer
from edgetl_runtime.bench import BASELINE
from edgetl_runtime.engines import ONNX_ENGINES, available_engines, load_engine
from edgetl_runtime.errors import EngineError, GateFailed
from edgetl_runtime.spec import EngineName, Hop, Latency, Precision, TensorSpec

SIZE_HW = (64, 96)


def pair_of(engine: EngineName, precision: Precision, path: Path) -> Pair:
    return Pair(variant=precision, precision=precision, engine=engine, probe_file=path, file=path)


def candidate(engine: EngineName, variant: Precision, *, drop: float = 0.0, passed: bool = True) -> Candidate:
    note = f"{-100 * drop:+.2f} points against torch, budget 0.50"
    hop = Hop(
        hop=f"{engine}/{variant}",
        metric="ap50",
        value=0.6 - drop,
        max_rel_error=0.0,
        cosine=1.0,
        passed=passed,
        note=note,
    )
    return Candidate(pair_of(engine, variant, Path("none.onnx")), Measured({"detect": hop.value}), hop)


def latency(of: Candidate, p50_ms: float) -> Latency:
    engine, variant = of.pair.engine, of.pair.variant
    return Latency(engine=engine, variant=variant, p50_ms=p50_ms, p95_ms=p50_ms + 1, p99_ms=p50_ms + 2, runs=10)


FP32 = candidate("onnxruntime", "fp32")
BF16 = candidate("openvino", "bf16", drop=0.001)
INT8 = candidate("openvino", "int8", drop=0.02, passed=False)


def test_the_fastest_within_the_budget() -> None:
    chosen = choose([FP32, BF16], [latency(BF16, 4.0), latency(FP32, 9.0)])
    assert (chosen.engine, chosen.variant) == ("openvino", "bf16")
    assert "4.00 ms" in chosen.reason and "-0.10 points" in chosen.reason
    assert "faster but" not in chosen.reason


def test_a_faster_pair_over_the_budget_is_named() -> None:
    chosen = choose([FP32, BF16, INT8], [latency(FP32, 9.0), latency(BF16, 4.0), latency(INT8, 3.0)])
    assert (chosen.engine, chosen.variant) == ("openvino", "bf16")
    assert "faster but over the budget: openvino/int8 (3.00 ms, -2.00 points" in chosen.reason


def test_who_left_the_race_is_not_chosen_for_its_early_times() -> None:
    """The machine became slower for those that went on."""
    early = structs.replace(latency(FP32, 9.0), runs=5)
    chosen = choose([FP32, BF16], [early, latency(BF16, 12.0)])
    assert chosen.variant == "bf16" and "fp32" not in chosen.reason


def test_a_slower_pair_over_the_budget_is_not() -> None:
    chosen = choose([FP32, INT8], [latency(FP32, 4.0), latency(INT8, 5.0)])
    assert "int8" not in chosen.reason


@pytest.mark.parametrize("candidates", [[], [INT8]], ids=["none", "over the budget"])
def test_none_within_the_budget(candidates: list[Candidate]) -> None:
    with pytest.raises(GateFailed, match="--max-drop"):
        choose(candidates, [latency(c, 3.0) for c in candidates])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that takes the mean of each colour."""
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    path = tmp_path_factory.mktemp("candidates") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def frames() -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(i).integers(0, 255, (1, *SIZE_HW, 3), np.uint8) for i in range(2)]


def truth(offset: float = 0.0) -> list[dict[str, NDArray[np.float32]]]:
    return [{"y": (f.mean((1, 2)) + offset).astype(np.float32)} for f in frames()]


def judged(
    net: Path,
    *,
    offset: float = 0.0,
    value: float = 0.5,
    max_drop: float = 0.0,
    others: dict[str, float] | None = None,
) -> tuple[list[Candidate], list[str]]:
    """Judge the network on every engine; every pair's metric is `value` where torch had 0.5."""

    def metric(infer: Infer) -> Measured:
        assert infer(frames()[0])["y"].shape == (1, 3)
        return Measured({"detect": value, **(others or {})})

    reference = Reference(
        name="torch",
        frames=frames(),
        probes=["y"],
        tensors=truth(offset),
        measured=Measured({"detect": 0.5, **dict.fromkeys(others or {}, 0.5)}),
        metric=metric,
        metric_name="ap50",
        budget=Budget(max_drop),
    )
    found = [judge(pair_of(engine, precision, net), reference) for engine, precision in FLOAT_RUNNERS]
    return [c for c in found if isinstance(c, Candidate)], [c for c in found if isinstance(c, str)]


def test_every_pair_is_judged_or_said_why_not(net: Path) -> None:
    candidates, left_out = judged(net)
    keys = [c.key for c in candidates]
    assert {f"{engine}/fp32" for engine in ONNX_ENGINES if engine in available_engines()} <= set(keys)
    assert len(keys) + len(left_out) == len(FLOAT_RUNNERS)
    fp32 = next(c.hop for c in candidates if c.key == "onnxruntime/fp32")
    assert fp32.passed and fp32.max_rel_error < 1e-4 and fp32.cosine > 0.9999


@pytest.mark.parametrize(
    ("value", "max_drop", "passed"),
    [(0.5, 0.0, True), (0.6, 0.0, True), (0.49, 0.0, False), (0.49, 0.02, True), (float("nan"), 0.9, False)],
)
def test_the_budget_is_kept(net: Path, value: float, max_drop: float, passed: bool) -> None:
    candidates, _ = judged(net, value=value, max_drop=max_drop)
    assert [c.hop.passed for c in candidates] == [passed] * len(candidates)


def test_several_heads_are_named(net: Path) -> None:
    for candidate in judged(net, others={"ground": 0.4})[0]:
        assert not candidate.hop.passed and "-10.00 points against torch in ground, budget 0.00" in candidate.hop.note
        assert set(candidate.hop.heads) == {"detect", "ground"}


@pytest.mark.parametrize("offset", [10.0, float("nan")])
def test_an_fp32_engine_that_differs_from_torch_fails_the_gate(net: Path, offset: float) -> None:
    with pytest.raises(GateFailed, match=r"fp32 differs from torch .* in y \(frame"):
        judged(net, offset=offset)


def test_an_engine_that_can_not_load_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    candidates, left_out = judged(tmp_path / "broken.onnx")
    assert not candidates
    assert {"onnxruntime/fp32", "openvino/fp32"} <= {text.partition(":")[0] for text in left_out}


def test_every_candidate_is_timed_as_often(net: Path) -> None:
    candidates, _ = judged(net)
    times = time_candidates(candidates, frames()[0], runs=6)
    assert [f"{t.engine}/{t.variant}" for t in times] == [c.key for c in candidates]
    assert all(t.runs == 6 and 0 < t.p50_ms <= t.p95_ms <= t.p99_ms for t in times)


def spread(median_ms: float, runs: int) -> list[float]:
    """So many times around a median, some of them far off where so few may leave."""
    half = [median_ms + 0.1 * i for i in range(runs // 2)]
    far = [0.1 * median_ms, 9 * median_ms] if SURE[runs] > 2 else [median_ms] * 2
    return [*half[::-1], *(2 * median_ms - value for value in half[:-2]), *far]


@pytest.mark.parametrize("runs", SURE)
@pytest.mark.parametrize(
    ("within", "left"),
    [
        ({"a", "b", "c"}, ["a", "b"]),
        ({"c"}, ["a", "b", "c"]),
        ({"b", "c"}, ["a", "b"]),
        (set(), ["a", "b", "c"]),
    ],
    ids=["the slow one", "none above the only one within", "faster ones over the budget stay", "none within"],
)
def test_who_may_still_be_the_fastest(within: set[str], left: list[str], runs: int) -> None:
    times = {"a": spread(10.0, runs), "b": spread(10.5, runs), "c": spread(14.0, runs)}
    assert contenders(times, within) == left


class FakeTime:
    """A clock that only engines move: how long they take does not depend on who else is at work."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter_ns(self) -> int:
        return round(self.now_s * 1e9)

    def monotonic(self) -> float:
        return self.now_s


class Slow:
    """An engine that takes this long."""

    def __init__(self, seconds: float, clock: FakeTime) -> None:
        self.inputs = (TensorSpec(name="frame", dtype="uint8", shape=(1, 1, 1, 3)),)
        self._seconds, self._clock = seconds, clock

    def infer(self, inputs: object) -> dict[str, NDArray[np.generic]]:
        self._clock.now_s += self._seconds
        return {}


def timed(monkeypatch: pytest.MonkeyPatch, seconds: list[tuple[Candidate, float]], runs: int) -> dict[str, int]:
    """How many runs of each candidate were timed, where each takes this long."""
    clock = FakeTime()
    monkeypatch.setattr("edgetl_runtime.bench.time", clock)
    engines = {c.key: Slow(each, clock) for c, each in seconds}
    shipped = Shipped()
    monkeypatch.setattr(shipped, "engine", lambda pair: engines[pair.key])
    found = time_candidates([c for c, _ in seconds], frames()[0], runs=runs, shipped=shipped)
    return {f"{row.engine}/{row.variant}": row.runs for row in found}


def test_who_can_not_win_is_timed_less(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = candidate("openvino", "fp32")
    runs = timed(monkeypatch, [(slow, 0.02), (BF16, 0.0), (INT8, 0.0)], 30)
    assert runs[slow.key] == min(SURE) and runs[BF16.key] == 30, "what is slower for sure takes as many runs"


def test_the_baseline_is_timed_as_often_as_the_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speed-up is a ratio of these two."""
    assert FP32.key == BASELINE
    runs = timed(monkeypatch, [(FP32, 0.02), (BF16, 0.0)], 30)
    assert runs == {FP32.key: 30, BF16.key: 30}


@pytest.mark.parametrize("runs", [1, min(SURE), max(SURE), max(SURE) + 1])
def test_no_more_runs_than_asked_for(monkeypatch: pytest.MonkeyPatch, runs: int) -> None:
    assert max(timed(monkeypatch, [(FP32, 0.0), (BF16, 0.0)], runs).values()) == runs


def answering(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    return {"y": np.full(4, frame[0, 0, 0, 0], np.float32), "other": np.zeros(9, np.float32)}


def test_answers_are_kept_by_pair_and_frame() -> None:
    asked, unasked = frames()
    answers = Answers(["y"])
    infer = answers.through(BF16.key, answering)
    assert set(infer(asked)) == {"y", "other"}
    kept = answers.of(BF16.key, asked)
    assert kept is not None and set(kept) == {"y"} and kept["y"][0] == asked[0, 0, 0, 0]
    assert answers.of(BF16.key, unasked) is None and answers.of(INT8.key, asked) is None


def test_answers_to_all_frames_are_one_array_for_each_output() -> None:
    first, second = frames()
    answers = Answers(["y"])
    infer = answers.through("net", answering)
    infer(first)
    assert answers.all_of("net", [first, second]) is None and answers.all_of("net", []) is None
    infer(first)
    infer(second)
    found = answers.all_of("net", [second, first])
    assert found is not None and found["y"].shape == (2, 4)
    assert [row[0] for row in found["y"]] == [second[0, 0, 0, 0], first[0, 0, 0, 0]]


def test_no_more_answers_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_export.candidates.KEPT_BYTES", 40)
    first, second = frames()
    answers = Answers(["y", "other"])
    infer = answers.through(BF16.key, lambda frame: {"y": np.zeros(4, np.float32), "other": np.zeros(4, np.float32)})
    assert set(infer(first)) == set(infer(second)) == {"y", "other"}
    assert answers.of(BF16.key, first) is not None and answers.of(BF16.key, second) is None


def test_what_ships_is_loaded_once_and_left_open_where_it_is_needed(net: Path) -> None:
    one, two = (pair_of("onnxruntime", precision, net) for precision in ("fp32", "int8"))
    with Shipped() as shipped:
        first, second = shipped.engine(one), shipped.engine(two)
        assert shipped.engine(one) is first and second is not first
        shipped.leave(one)
        assert shipped.engine(one) is first and infer_of(first)(frames()[0])
        with pytest.raises(EngineError, match="closed"):
            infer_of(second)(frames()[0])
    with pytest.raises(EngineError, match="closed"):
        infer_of(first)(frames()[0])


CTRL_C = """
import signal, sys
import numpy as np
from pathlib import Path
from edgetl_export.candidates import Candidate, Pair, time_candidates
signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
path = Path(sys.argv[1])
twice = [
    Candidate(Pair(variant=name, precision="fp32", engine="openvino", probe_file=path, file=path), None, None)
    for name in ("fp32", "again")
]
time_candidates(twice, np.zeros((1, 64, 96, 3), np.uint8), runs=2)
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.skipif("openvino" not in available_engines(), reason="needs openvino")
def test_ctrl_c_after_timing_is_handled(net: Path) -> None:
    """OpenVINO sets the thread's signal stack: engines freed in the wrong order made the next signal a crash."""
    ended = subprocess.run([sys.executable, "-c", CTRL_C, str(net)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "handled"), ended.stderr


def test_an_engine_as_a_function(net: Path) -> None:
    engine = load_engine("onnxruntime", net, precision="fp32")
    np.testing.assert_allclose(infer_of(engine)(frames()[1])["y"], truth()[1]["y"], rtol=1e-5)
    engine.close()
