"""Choosing a pair: the fastest within the budget, with what was refused named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgetl_export.candidates import (
    Candidate,
    choose,
    infer_of,
    judge,
    largest_drop,
    mean_metric,
    time_candidates,
)
from edgetl_export.parity import Infer
from edgetl_runtime.engines import ONNX_ENGINES, available_engines, load_engine
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.spec import EngineName, Hop, Latency, Precision

SIZE_HW = (64, 96)


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
    return Candidate(variant, engine, variant, hop)


def latency(of: Candidate, p50_ms: float) -> Latency:
    return Latency(engine=of.engine, variant=of.variant, p50_ms=p50_ms, p95_ms=p50_ms + 1, p99_ms=p50_ms + 2, runs=10)


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


def test_a_slower_pair_over_the_budget_is_not() -> None:
    chosen = choose([FP32, INT8], [latency(FP32, 4.0), latency(INT8, 5.0)])
    assert "int8" not in chosen.reason


@pytest.mark.parametrize("candidates", [[], [INT8]], ids=["none", "over the budget"])
def test_none_within_the_budget(candidates: list[Candidate]) -> None:
    with pytest.raises(GateFailed, match="--max-drop"):
        choose(candidates, [latency(c, 3.0) for c in candidates])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    """A network that takes the mean of each colour, as fp32; there is no INT8 one."""
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
    return {"fp32": path}


def frames() -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(i).integers(0, 255, (1, *SIZE_HW, 3), np.uint8) for i in range(2)]


def truth(offset: float = 0.0) -> list[dict[str, NDArray[np.float32]]]:
    return [{"y": (f.mean((1, 2)) + offset).astype(np.float32)} for f in frames()]


def judged(
    files: dict[Precision, Path],
    *,
    offset: float = 0.0,
    value: float = 0.5,
    max_drop: float = 0.0,
    others: dict[str, float] | None = None,
) -> tuple[list[Candidate], list[str]]:
    """Judge the network; every pair's metric is `value` where torch had 0.5."""

    def metric(infer: Infer) -> dict[str, float]:
        assert infer(frames()[0])["y"].shape == (1, 3)
        return {"detect": value, **(others or {})}

    return judge(
        files,
        frames=frames(),
        probe_files=files,
        probes=["y"],
        reference=truth(offset),
        reference_values={"detect": 0.5, **dict.fromkeys(others or {}, 0.5)},
        metric=metric,
        metric_name="ap50",
        max_drop=max_drop,
        say=lambda text: None,
    )


def test_every_pair_is_judged_or_said_why_not(files: dict[Precision, Path]) -> None:
    candidates, left_out = judged(files)
    keys = [c.key for c in candidates]
    assert {f"{engine}/fp32" for engine in ONNX_ENGINES if engine in available_engines()} <= set(keys)
    assert not [k for k in keys if k.endswith("int8")], "there is no INT8 file"
    assert len(keys) + len(left_out) == 3
    fp32 = next(c.hop for c in candidates if c.key == "onnxruntime/fp32")
    assert fp32.passed and fp32.max_rel_error < 1e-4 and fp32.cosine > 0.9999


@pytest.mark.parametrize(
    ("value", "max_drop", "passed"),
    [(0.5, 0.0, True), (0.6, 0.0, True), (0.49, 0.0, False), (0.49, 0.02, True), (float("nan"), 1.0, False)],
)
def test_the_budget_is_kept(files: dict[Precision, Path], value: float, max_drop: float, passed: bool) -> None:
    candidates, _ = judged(files, value=value, max_drop=max_drop)
    assert [c.hop.passed for c in candidates] == [passed] * len(candidates)


NAN = float("nan")


@pytest.mark.parametrize(
    ("others", "passed", "worst"),
    [
        ({"ground": 0.5}, True, "+0.00 points against torch in detect"),
        ({"ground": 0.6}, True, "+0.00 points against torch in detect"),
        ({"ground": 0.4}, False, "-10.00 points against torch in ground"),
        ({"ground": 0.9, "light": 0.48}, False, "-2.00 points against torch in light"),
        ({"ground": NAN}, False, "points against torch in ground"),
    ],
)
def test_the_head_that_lost_most_decides(
    files: dict[Precision, Path], others: dict[str, float], passed: bool, worst: str
) -> None:
    """One head that gained must not pay for another's loss."""
    for candidate in judged(files, others=others)[0]:
        assert candidate.hop.passed is passed and worst in candidate.hop.note
        assert set(candidate.hop.heads) == {"detect", *others}


def test_one_figure_for_several_heads() -> None:
    assert mean_metric({"a": 0.2, "b": 0.6}) == pytest.approx(0.4)
    assert mean_metric({"a": 0.2, "b": NAN}) == pytest.approx(0.2)
    assert np.isnan(mean_metric({"a": NAN})) and np.isnan(mean_metric({}))


def test_heads_without_a_figure_in_torch_are_not_judged() -> None:
    assert largest_drop({"a": 0.5, "b": NAN}, {"a": 0.4, "b": 0.0}) == ("a", pytest.approx(0.1))
    assert largest_drop({"a": 0.5, "b": 0.3}, {"a": 0.4, "b": NAN})[0] == "b"
    assert largest_drop({"a": NAN}, {"a": NAN})[1] <= 0, "nothing was measured, nothing was lost"


@pytest.mark.parametrize("offset", [10.0, float("nan")])
def test_an_fp32_engine_that_differs_from_torch_fails_the_gate(files: dict[Precision, Path], offset: float) -> None:
    with pytest.raises(GateFailed, match=r"fp32 differs from torch .* in y \(frame"):
        judged(files, offset=offset)


def test_an_engine_that_can_not_load_is_left_out(files: dict[Precision, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    broken: dict[Precision, Path] = {**files, "int8": tmp_path / "broken.onnx"}
    candidates, left_out = judged(broken)
    assert not [c for c in candidates if c.precision == "int8"]
    assert {"onnxruntime/int8", "openvino/int8"} <= {text.partition(":")[0] for text in left_out}


def test_every_candidate_is_timed_as_often(files: dict[Precision, Path]) -> None:
    candidates, _ = judged(files)
    times = time_candidates(candidates, files, frames()[0], runs=6)
    assert [f"{t.engine}/{t.variant}" for t in times] == [c.key for c in candidates]
    assert all(t.runs == 6 and 0 < t.p50_ms <= t.p95_ms <= t.p99_ms for t in times)


CTRL_C = """
import signal, sys
import numpy as np
from pathlib import Path
from edgetl_export.candidates import Candidate, time_candidates
signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
pair = Candidate("fp32", "openvino", "fp32", None)
twice = [pair, Candidate("again", "openvino", "fp32", None)]
time_candidates(twice, {"fp32": Path(sys.argv[1])}, np.zeros((1, 64, 96, 3), np.uint8), runs=2)
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.skipif("openvino" not in available_engines(), reason="needs openvino")
def test_ctrl_c_after_timing_is_handled(files: dict[Precision, Path]) -> None:
    """OpenVINO sets the thread's signal stack: engines freed in the wrong order made the next signal a crash."""
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C, str(files["fp32"])], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "handled"), ended.stderr


def test_an_engine_as_a_function(files: dict[Precision, Path]) -> None:
    engine = load_engine("onnxruntime", files["fp32"], precision="fp32")
    np.testing.assert_allclose(infer_of(engine)(frames()[1])["y"], truth()[1]["y"], rtol=1e-5)
    engine.close()
