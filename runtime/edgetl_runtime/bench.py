"""Latency, measured so that a noisy machine is unfair to nobody: candidates take turns in small batches."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.engines import available_engines, load_bundle_engine, load_engine
from edgetl_runtime.errors import EdgetlError, EngineError
from edgetl_runtime.golden import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine

BASELINE = "onnxruntime/fp32"
"""ONNX Runtime with its own default options on the fp32 model: what one gets without trying."""

_BATCH = 5
_WARMUP = 10


def measure(
    candidates: Mapping[str, Callable[[], object]],
    *,
    runs: int,
    warmup: int = _WARMUP,
    seconds: float | None = None,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each call, `runs` for every candidate, fewer where `seconds` in all run out first.

    Rounds of small batches, the order turned by one each round; the first call of a batch refills the caches
    and is not counted. Every candidate gets at least one batch. `on_round` is told the runs done.
    """
    if runs < 1 or not candidates:
        raise ValueError(f"measure needs candidates and at least one run, found {len(candidates)} and {runs}")
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        for _ in range(warmup):
            call()
    order = list(candidates.items())
    was_on, done, start = gc.isenabled(), 0, time.monotonic()
    gc.disable()
    try:
        while done < runs and (not done or seconds is None or time.monotonic() - start < seconds):
            batch = min(_BATCH, runs - done)
            for name, call in order:
                times[name] += _batch(call, batch)
            order.append(order.pop(0))
            done += batch
            if on_round is not None:
                on_round(done)
    finally:
        if was_on:
            gc.enable()
    return times


def _batch(call: Callable[[], object], runs: int) -> list[float]:
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def percentiles(times_ms: Sequence[float]) -> dict[str, float]:
    """p50_ms, p95_ms, p99_ms of measured times, rounded to a microsecond."""
    values = np.percentile(np.asarray(times_ms, np.float64), (50, 95, 99))
    return {f"p{q}_ms": round(float(v), 3) for q, v in zip((50, 95, 99), values, strict=True)}


def choose_threads(
    load: Callable[[int], Engine], counts: Sequence[int], *, runs: int = 40
) -> tuple[int, dict[int, dict[str, float]]]:
    """The number of threads with which an engine is fastest here, and the percentiles of each that was tried.

    Engines take turns on an empty frame. Of those within 3 % of the fastest median the fewest threads win: what they
    leave is there for cameras and encoders. Raises EngineError where the engine does not load.
    """
    engines: dict[int, Engine] = {}
    try:
        for count in counts:
            engines[count] = load(count)
        inputs = {t.name: np.zeros(t.shape, t.dtype) for t in engines[counts[0]].inputs}
        times = measure({str(n): _call(engine, inputs) for n, engine in engines.items()}, runs=runs)
    finally:
        for engine in engines.values():
            engine.close()
    found = {count: percentiles(times[str(count)]) for count in counts}
    limit = 1.03 * min(row["p50_ms"] for row in found.values())
    return min(count for count, row in found.items() if row["p50_ms"] <= limit), found


def bench_bundle(
    bundle: Bundle,
    *,
    runs: int = 200,
    seconds: float | None = None,
    threads: int = 0,
    engine_dir: Path | None = None,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, object]:
    """Every variant and engine of a bundle that works here, on a golden frame, beside the baseline.

    Returns {rows, baseline, baseline_p50_ms, chosen, speedup, skipped}; the pairs that can't run are in
    `skipped` with the reason. speedup is the baseline's median over the chosen pair's; None without either.
    """
    skipped: list[dict[str, str]] = []
    engines = _load_all(bundle, threads, engine_dir, skipped)
    baseline = _load_baseline(bundle, skipped)
    if not engines:
        reasons = "; ".join(row["why"] for row in skipped)
        raise EngineError(f"no engine of the bundle {bundle.path} runs here: {reasons}")
    try:
        inputs = {bundle.manifest.inputs[0].name: read_golden(bundle).frames[:1].copy()}
        everyone = {**engines, **({("", ""): baseline} if baseline else {})}
        calls = {f"{e}/{v}": _call(loaded, inputs) for (e, v), loaded in everyone.items()}
        times = measure(calls, runs=runs, seconds=seconds, on_round=on_round)
    finally:
        for loaded in (*engines.values(), *([baseline] if baseline else [])):
            loaded.close()
    rows = [
        {"engine": e, "variant": v, **percentiles(times[f"{e}/{v}"]), "runs": len(times[f"{e}/{v}"])}
        for e, v in engines
    ]
    chosen = bundle.manifest.chosen
    base = percentiles(times["/"])["p50_ms"] if baseline else None
    mine = times.get(f"{chosen.engine}/{chosen.variant}")
    speedup = round(base / percentiles(mine)["p50_ms"], 3) if base and mine else None
    return {
        "rows": sorted(rows, key=lambda row: float(str(row["p50_ms"]))),
        "baseline": BASELINE,
        "baseline_p50_ms": base,
        "chosen": {"variant": chosen.variant, "engine": chosen.engine},
        "speedup": speedup,
        "skipped": skipped,
    }


def _load_all(
    bundle: Bundle, threads: int, engine_dir: Path | None, skipped: list[dict[str, str]]
) -> dict[tuple[str, str], Engine]:
    engines: dict[tuple[str, str], Engine] = {}
    for variant in bundle.manifest.variants:
        for name in variant.engines:
            try:
                engines[name, variant.name] = load_bundle_engine(
                    bundle, variant=variant.name, engine=name, threads=threads, engine_dir=engine_dir
                )
            except EdgetlError as error:
                skipped.append({"engine": name, "variant": variant.name, "why": str(error)})
    return engines


def _load_baseline(bundle: Bundle, skipped: list[dict[str, str]]) -> Engine | None:
    name, precision = BASELINE.split("/")
    fp32 = next((v for v in bundle.manifest.variants if v.precision == precision), None)
    if fp32 is None or name not in available_engines():
        why = "the bundle has no fp32 variant" if fp32 is None else f"{name} is not installed"
        skipped.append({"engine": name, "variant": "baseline", "why": why})
        return None
    return load_engine(name, bundle.model_path(fp32), precision="fp32", spin="default")


def _call(
    engine: Engine, inputs: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
) -> Callable[[], object]:
    return lambda: engine.infer(inputs)
