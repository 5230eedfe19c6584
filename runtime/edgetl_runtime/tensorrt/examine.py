"""What a built engine is on this device: the precision of its layers, its outputs, its latency."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.bench import measure, percentiles
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines.tensorrt import TensorRTEngine
from edgetl_runtime.golden import read_golden, replay_golden
from edgetl_runtime.tensorrt.onnx_file import read_onnx
from edgetl_runtime.tensorrt.precision import asked_precisions, layer_precisions, layers_of, prove
from edgetl_runtime.tensorrt.protocol import Examine, Examined, Progress, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.tensorrt.compiler import Emit


def examine(job: Examine, emit: Emit, stop: threading.Event) -> Result:
    """Load every plan, say what each is, and time them in turns. Raises EdgetlError for a plan that does not load."""
    bundle = open_bundle(job.bundle, verify=False)
    variants = {plan.variant: bundle.manifest.variant(plan.variant) for plan in job.plans}
    engines: dict[str, TensorRTEngine] = {}
    try:
        for plan in job.plans:
            engines[plan.variant] = TensorRTEngine(
                Path(plan.file), precision=variants[plan.variant].precision, module=job.module
            )
        goldens = {name: replay_golden(bundle, engine, variant=name) for name, engine in engines.items()}
        frame = read_golden(bundle).frames[:1].copy()
        calls = {name: _call(engine, frame) for name, engine in engines.items()}
        times = measure(
            calls,
            runs=job.runs,
            seconds=job.seconds,
            on_round=lambda done: emit(Progress("measuring", done, job.runs)),
        )
        for name, engine in engines.items():
            layers = layers_of(engine.layer_information())
            asked = asked_precisions(read_onnx(bundle.model_path(variants[name])))
            emit(
                Examined(
                    variant=name,
                    proof=prove(layers, asked),
                    layers=layer_precisions(layers),
                    golden_error=goldens[name].worst_rel_error,
                    golden_tolerance=goldens[name].tolerance,
                    runs=len(times[name]),
                    **percentiles(times[name]),
                )
            )
    finally:
        for engine in engines.values():
            engine.close()
    return Result(kind="canceled" if stop.is_set() else "ok")


def _call(engine: TensorRTEngine, frame: object) -> Callable[[], object]:
    inputs = {engine.inputs[0].name: frame}
    return lambda: engine.infer(inputs)  # type: ignore[arg-type]
