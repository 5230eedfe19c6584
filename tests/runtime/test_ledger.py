"""The ledger's percentiles against numpy's, in fixed memory."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl_runtime.ledger import LONGEST_WINDOW_S, STAGES, Histogram, Ledger, merged


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
    now = [0.0]
    values = np.random.default_rng(0).lognormal(2, 1, 5000).tolist()
    histogram = Histogram(clock=lambda: now[0])
    for second in range(70):  # every slice was used
        now[0] = float(second)
        histogram.add(1.0)
    arrays = (histogram._counts, histogram._slices, histogram._maxima, histogram._seconds)
    assert sum(a.nbytes for a in arrays) < 300_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i, value in enumerate(values):
            now[0] = 70 + i / 50
            histogram.add(value)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1000, "bytes for 5000 samples in 100 seconds"
    assert histogram.count == histogram.snapshot()["count"] == 5070


def test_an_empty_histogram() -> None:
    assert Histogram().percentile(50) == 0.0
    assert Ledger().snapshot() == {}


def test_snapshot_and_table() -> None:
    ledger = Ledger()
    for ms in range(1, 101):
        ledger.add_all({"infer": float(ms), "decode": 0.5})
    row = ledger.snapshot()["infer"]
    assert list(ledger.snapshot()) == ["infer", "decode"]
    assert list(row) == ["p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "count"]
    assert list(ledger.window(10)["infer"]) == list(row)
    assert row["p50_ms"] == pytest.approx(50, rel=0.011)
    assert (row["max_ms"], row["count"]) == (100.0, 100)
    lines = ledger.table().splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "infer", "decode"]
    assert "100.00" in lines[1]


def test_an_unknown_stage_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Ledger().add("dance", 1.0)
    assert "age" in STAGES


class Clock:
    """Seconds that a test sets."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def test_a_window_forgets_and_the_run_does_not() -> None:
    clock = Clock()
    ledger = Ledger(clock=clock)
    ledger.add("infer", 500.0)
    clock.at += 5
    ledger.add("infer", 10.0)
    assert ledger.window(10)["infer"]["max_ms"] == 500.0
    clock.at += 7
    ledger.add("infer", 20.0)
    recent = ledger.window(10)["infer"]
    assert (recent["count"], recent["max_ms"]) == (2, 20.0)
    assert ledger.window(60)["infer"]["max_ms"] == 500.0
    clock.at += 60
    assert ledger.window(60)["infer"]["count"] == 1, "what was 60 s ago is in, what was 67 s ago is not"
    clock.at += 1
    assert ledger.window(60) == {}
    whole = ledger.snapshot()["infer"]
    assert (whole["count"], whole["max_ms"]) == (3, 500.0)
    assert ledger.histograms["infer"].sum_ms == 530.0


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 7.0, 61.0, 200.0]), st.floats(0.01, 1e4)), max_size=200),
    seconds=st.integers(1, LONGEST_WINDOW_S),
)
def test_a_window_holds_what_numpy_would(steps: list[tuple[float, float]], seconds: int) -> None:
    clock = Clock()
    histogram = Histogram(clock)
    taken: list[tuple[float, float]] = []
    for step, ms in steps:
        clock.at += step
        histogram.add(ms)
        taken.append((clock.at, ms))
    inside = [ms for at, ms in taken if int(at) >= int(clock.at) - seconds]
    window = histogram.window(seconds)
    assert window["count"] == len(inside) == sum(histogram.bars(seconds).counts)
    if inside:
        assert window["max_ms"] == round(max(inside), 3)
        for name, q in (("p50_ms", 50), ("p99_ms", 99), ("p999_ms", 99.9)):
            expected = float(np.percentile(inside, q, method="inverted_cdf"))
            assert window[name] == pytest.approx(expected, rel=0.0101, abs=6e-4)


@pytest.mark.parametrize("seconds", [0, -1, 61])
def test_a_window_that_is_not_kept_is_refused(seconds: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 60"):
        Histogram().window(seconds)


def test_bars_hold_everything_between_their_edges() -> None:
    histogram = Histogram()
    assert histogram.bars(60).counts == ()
    values = [0.5, 3.0, 3.1, 40.0]
    for value in values:
        histogram.add(value)
    bars = histogram.bars(60)
    assert sum(bars.counts) == 4 and bars.counts[0] and bars.counts[-1]
    for i, count in enumerate(bars.counts):
        low = bars.first_ms * bars.growth**i
        assert count == sum(low <= v < low * bars.growth for v in values)


def test_one_thread_adds_while_others_read() -> None:
    ledger, ended = Ledger(), threading.Event()
    seen: list[float] = []

    def read() -> None:
        while not ended.is_set():
            for row in (ledger.window(10), ledger.snapshot()):
                if "age" in row:
                    seen.append(row["age"]["p50_ms"])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(40_000):
        ledger.add("age", 5.0)
    ended.set()
    for reader in readers:
        reader.join()
    assert seen and all(value == 5.0 for value in seen)
    assert ledger.snapshot()["age"]["count"] == ledger.window(60)["age"]["count"] == 40_000


def test_adding_is_cheap() -> None:
    histogram, n = Histogram(), 20_000

    def once() -> float:
        t0 = time.thread_time()  # not what others take meanwhile
        for _ in range(n):
            histogram.add(3.3)
        return (time.thread_time() - t0) / n * 1e6

    assert min(once() for _ in range(5)) < 4.0, "microseconds; 0.8 on a quiet machine"


def test_ledgers_together_are_as_one() -> None:
    whole, parts = Ledger(), [Ledger(), Ledger(("infer", "age")), Ledger()]
    rng = np.random.default_rng(0)
    for i, ms in enumerate(rng.lognormal(1, 2, 3000).tolist()):
        whole.add("infer", ms)
        parts[i % 2].add("infer", ms)
    whole.add("decode", 2.0)
    parts[0].add("decode", 2.0)
    assert merged(parts) == whole.snapshot()
    assert merged([]) == {} and merged(parts[2:]) == {}
