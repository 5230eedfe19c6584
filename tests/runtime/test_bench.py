"""The measuring function is fair and counts right; the bench of a bundle has its stable keys."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from runtime_support import write_test_bundle

from edgetl_runtime.bench import BASELINE, bench_bundle, choose_threads, measure, percentiles
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.spec import Chosen, TensorSpec, Variant


def test_candidates_take_turns_in_small_batches() -> None:
    calls: list[str] = []
    times = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, runs=12, warmup=3)
    assert {name: len(t) for name, t in times.items()} == {"a": 12, "b": 12}
    assert calls[:6] == ["a"] * 3 + ["b"] * 3
    batches = [6, 6, 6, 6, 3, 3]  # five counted and one not; the last round has two left
    order = "abbaab"
    assert "".join(calls[6:]) == "".join(name * n for name, n in zip(order, batches, strict=True))
    assert gc.isenabled()


def test_it_measures_milliseconds() -> None:
    times = measure({"slow": lambda: time.sleep(0.004), "fast": lambda: None}, runs=6, warmup=1)
    assert min(times["slow"]) >= 4.0
    assert max(times["fast"]) < min(times["slow"])


def test_a_time_limit_leaves_every_candidate_measured() -> None:
    times = measure({"a": lambda: time.sleep(0.002), "b": lambda: None}, runs=10_000, warmup=1, seconds=0.05)
    assert 1 <= len(times["a"]) == len(times["b"]) < 1000


@pytest.mark.parametrize(("candidates", "runs"), [({}, 5), ({"a": lambda: None}, 0)])
def test_nothing_to_measure_is_refused(candidates: dict[str, object], runs: int) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        measure(candidates, runs=runs)  # type: ignore[arg-type]


def test_percentiles() -> None:
    assert percentiles([1.0, 2.0, 3.0])["p50_ms"] == 2.0
    assert list(percentiles([1.0])) == ["p50_ms", "p95_ms", "p99_ms"]


def test_a_bundle(shared_bundle: Path) -> None:
    rounds: list[int] = []
    document = bench_bundle(open_bundle(shared_bundle), runs=12, on_round=rounds.append)
    json.dumps(document)
    assert {(r["engine"], r["variant"]) for r in document["rows"]} == {  # type: ignore[attr-defined]
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
    }
    for row in document["rows"]:  # type: ignore[attr-defined]
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] and row["runs"] == 12
    assert document["baseline"] == BASELINE == "onnxruntime/fp32"
    assert document["speedup"] > 0  # type: ignore[operator]
    assert rounds == [5, 10, 12]


def test_what_can_not_run_is_listed_and_not_dropped_in_silence(tmp_path: Path) -> None:
    variants = (
        Variant(name="fp32", file="model.fp32.onnx", precision="fp32", engines=("onnxruntime",)),
        Variant(name="bf16", file="model.fp32.onnx", precision="bf16", engines=("onnxruntime",)),
    )
    chosen = Chosen(variant="bf16", engine="onnxruntime", reason="wrongly")
    document = bench_bundle(open_bundle(write_test_bundle(tmp_path / "b", variants=variants, chosen=chosen)), runs=2)
    assert len(document["rows"]) == 1  # type: ignore[arg-type]
    assert document["speedup"] is None
    assert "bf16" in document["skipped"][0]["why"]  # type: ignore[index]


def test_the_fewest_threads_of_those_that_are_as_fast_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    now_ns = 0

    class Timed:
        """Slow with one thread, as fast with two as with four."""

        def __init__(self, count: int) -> None:
            self.count = count
            self.inputs = (TensorSpec(name="frame", dtype="uint8", shape=(1, 4, 4, 3)),)

        def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
            assert inputs["frame"].shape == (1, 4, 4, 3)
            nonlocal now_ns
            now_ns += {1: 8_000_000, 2: 2_040_000, 4: 2_000_000}[self.count]
            return {}

        def close(self) -> None:
            closed.append(self.count)

    clock = SimpleNamespace(perf_counter_ns=lambda: now_ns, monotonic=lambda: now_ns / 1e9)
    monkeypatch.setattr("edgetl_runtime.bench.time", clock)
    best, found = choose_threads(Timed, [1, 2, 4], runs=10)  # type: ignore[arg-type]
    assert best == 2 and [found[n]["p50_ms"] for n in (1, 2, 4)] == [8.0, 2.04, 2.0]
    assert closed == [1, 2, 4]
