"""The ledger's percentiles against numpy's, in fixed memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl_runtime.ledger import STAGES, Histogram, Ledger


@settings(deadline=None)
@given(
    values=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=400),
    q=st.sampled_from([1, 50, 90, 95, 99, 99.9, 100]),
)
def test_within_one_percent_of_numpy(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    expected = float(np.percentile(values, q, method="inverted_cdf"))
    assert histogram.percentile(q) == pytest.approx(expected, rel=0.0101)
    assert histogram.max_ms == max(values)
    assert histogram.count == len(values)


@given(value=st.floats(max_value=1e12, allow_nan=False))
def test_any_duration_is_counted(value: float) -> None:
    histogram = Histogram()
    histogram.add(value)
    assert histogram.count == 1
    assert histogram.percentile(50) >= 0 or value < 0


def test_memory_does_not_grow() -> None:
    histogram = Histogram()
    before = histogram._counts.nbytes
    for value in np.random.default_rng(0).lognormal(2, 1, 5000):
        histogram.add(float(value))
    assert histogram._counts.nbytes == before < 10_000
    assert histogram._counts.sum() == 5000


def test_an_empty_histogram() -> None:
    assert Histogram().percentile(50) == 0.0
    assert Ledger().snapshot() == {}


def test_snapshot_and_table() -> None:
    ledger = Ledger()
    for ms in range(1, 101):
        ledger.add_all({"infer": float(ms), "decode": 0.5})
    row = ledger.snapshot()["infer"]
    assert list(ledger.snapshot()) == ["infer", "decode"]
    assert set(row) == {"p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "count"}
    assert row["p50_ms"] == pytest.approx(50, rel=0.011)
    assert (row["max_ms"], row["count"]) == (100.0, 100)
    lines = ledger.table().splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "infer", "decode"]
    assert "100.00" in lines[1]


def test_an_unknown_stage_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Ledger().add("dance", 1.0)
    assert "age" in STAGES
