"""Every pair of variant and engine that this machine can run, measured by metric, parity and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl_export.parity import Infer, compare, record
from edgetl_runtime.bench import measure
from edgetl_runtime.engines import Engine, available_engines, load_engine
from edgetl_runtime.errors import EngineError, GateFailed
from edgetl_runtime.spec import Chosen, EngineName, Hop, Latency, Precision

PAIRS: tuple[tuple[str, Precision, EngineName], ...] = (
    ("fp32", "fp32", "onnxruntime"),
    ("fp32", "fp32", "openvino"),
    ("bf16", "bf16", "openvino"),
    ("int8", "int8", "onnxruntime"),
    ("int8", "int8", "openvino"),
)
"""Variant, precision and engine of every candidate on a CPU."""

FP32_REL_ERROR = 1e-2
"""What two correct fp32 engines may differ by, in the worst cell of a map."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loaded pair with its ONNX file, and a hop that says how it compares with torch."""

    variant: str
    engine: EngineName
    precision: Precision
    hop: Hop

    @property
    def key(self) -> str:
        """`engine/variant`, as tables and JSON name it."""
        return f"{self.engine}/{self.variant}"


Metric = Callable[[Infer], Mapping[str, float]]
"""The metric of every head in 0..1, of a network on the validation set."""


def mean_metric(values: Mapping[str, float]) -> float:
    """One figure for several heads: the mean of those that have a value."""
    known = [v for v in values.values() if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def largest_drop(reference: Mapping[str, float], values: Mapping[str, float]) -> tuple[str, float]:
    """The head that lost most against the reference, and how much, in 0..1; negative where all gained.

    A head that had a value and has none any more lost most of all (NaN); heads without one are not judged.
    """
    drops = {name: was - values[name] for name, was in reference.items() if np.isfinite(was)}
    if not drops:
        return next(iter(reference)), 0.0
    worst = max(drops, key=lambda name: drops[name] if np.isfinite(drops[name]) else np.inf)
    return worst, drops[worst]


def judge(
    files: dict[Precision, Path],
    *,
    frames: Sequence[NDArray[np.uint8]],
    probe_files: dict[Precision, Path],
    probes: Sequence[str],
    reference: Sequence[dict[str, NDArray[np.float32]]],
    reference_values: Mapping[str, float],
    metric: Metric,
    metric_name: str,
    max_drop: float,
    say: Callable[[str], None],
) -> tuple[list[Candidate], list[str]]:
    """Parity and metric of every pair that this machine can run, and why the others can't.

    files: ONNX by precision of the graph, `probe_files` the same with inner tensors as outputs. A pair
    passes when the metric of each head lies at most `max_drop` (in 0..1) under the reference. Raises GateFailed when an
    fp32 engine does not give what torch gives.
    """
    candidates, left_out = [], []
    for variant, precision, engine_name in PAIRS:
        graph: Precision = "int8" if precision == "int8" else "fp32"
        if graph not in files:
            continue
        if engine_name not in available_engines():
            left_out.append(f"{engine_name}/{variant}: the package is not installed")
            continue
        say(f"{engine_name}/{variant}")
        try:
            engine = load_engine(engine_name, probe_files[graph], precision=precision)
        except EngineError as error:
            left_out.append(f"{engine_name}/{variant}: {error.message}")
            continue
        try:
            infer = infer_of(engine)
            parity = compare(reference, record(infer, frames, probes))
            values = metric(infer)
        finally:
            engine.close()
        if precision == "fp32" and parity.max_rel_error > FP32_REL_ERROR:
            raise GateFailed(
                f"{engine_name} at fp32 differs from torch by {parity.max_rel_error:.2g} in {parity.tensor} "
                f"(frame {parity.frame}), more than {FP32_REL_ERROR:.2g}; nothing is shipped"
            )
        worst, drop = largest_drop(reference_values, values)
        hop = Hop(
            hop=f"{engine_name}/{variant}",
            metric=metric_name,
            value=mean_metric(values),
            max_rel_error=parity.max_rel_error,
            cosine=parity.cosine,
            passed=drop <= max_drop,
            note=f"{0.0 - 100 * drop:+.2f} points against torch{_of(worst, values)}, budget {100 * max_drop:.2f}",
            heads=dict(values) if len(values) > 1 else {},
        )
        candidates.append(Candidate(variant, engine_name, precision, hop))
    return candidates, left_out


def _of(head: str, values: Mapping[str, float]) -> str:
    return f" in {head}" if len(values) > 1 else ""


def infer_of(engine: Engine) -> Infer:
    """An engine as a function of one frame."""
    name = engine.inputs[0].name
    return lambda frame: engine.infer({name: frame})


def time_candidates(
    candidates: Sequence[Candidate], files: dict[Precision, Path], frame: NDArray[np.uint8], *, runs: int
) -> list[Latency]:
    """Latency of every pair, all loaded at once and run in turn, so that noise meets all alike."""
    engines = {
        c.key: load_engine(c.engine, files["int8" if c.precision == "int8" else "fp32"], precision=c.precision)
        for c in candidates
    }
    try:
        calls = {key: (lambda e=engine: e.infer({e.inputs[0].name: frame})) for key, engine in engines.items()}
        times = measure(calls, runs=runs, warmup=5)
    finally:
        for engine in engines.values():
            engine.close()
    rows = []
    for c in candidates:
        p50, p95, p99 = (float(v) for v in np.percentile(times[c.key], [50, 95, 99]))
        rows.append(
            Latency(engine=c.engine, variant=c.variant, p50_ms=p50, p95_ms=p95, p99_ms=p99, runs=len(times[c.key]))
        )
    return rows


def choose(candidates: Sequence[Candidate], latencies: Sequence[Latency]) -> Chosen:
    """The fastest pair within the budget by p50. Raises GateFailed when none is within it."""
    times = {f"{r.engine}/{r.variant}": r for r in latencies}
    within = [c for c in candidates if c.hop.passed]
    if not within:
        raise GateFailed("no variant meets the accuracy budget; raise --max-drop or give more calibration frames")
    best = min(within, key=lambda c: times[c.key].p50_ms)
    refused = [
        f"{c.key} ({times[c.key].p50_ms:.2f} ms, {c.hop.note.split(',')[0]})"
        for c in candidates
        if not c.hop.passed and times[c.key].p50_ms < times[best.key].p50_ms
    ]
    reason = f"fastest within the budget: {times[best.key].p50_ms:.2f} ms, {best.hop.note}"
    if refused:
        reason += f"; faster but over the budget: {', '.join(refused)}"
    return Chosen(variant=best.variant, engine=best.engine, reason=reason)
