"""Graphs for TensorRT: the precision is written into them, because strongly typed engines take it from there.

They can't be timed here. What they compute can be: ONNX Runtime rounds to half between nodes, and OpenVINO runs the
symmetric INT8 graph, so parity and metric are measured on what the device will be asked to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import structs

from edgetl_export.calibrate import Calibrator, observe
from edgetl_export.candidates import Candidate, Pair, Reference, judge
from edgetl_export.compile import FloatGraph
from edgetl_export.graph import float_tensors, save_model, without_outputs
from edgetl_export.passes.half import describe_islands, to_half
from edgetl_export.search import Found, Quantiser
from edgetl_runtime.engines import available_engines
from edgetl_runtime.spec import EngineName, Precision

HALF, INT8 = "trt-fp16", "trt-int8"


def typed_variants(
    graph: FloatGraph, quantiser: Quantiser | None, found: Found, reference: Reference, *, say: Callable[[str], None]
) -> tuple[list[Candidate], list[str]]:
    """FP16 with FP32 islands, and symmetric INT8 in the layers that the search left in INT8; and why others are not."""
    pairs = [_half(graph, reference, say)]
    if quantiser is not None and found.used:
        pairs.append(_int8(quantiser, found, say))
    candidates, left_out = [], []
    for pair, note in pairs:
        judged = judge(pair, reference)
        if isinstance(judged, str):
            left_out.append(judged)
            continue
        hop = structs.replace(
            judged.hop, hop=pair.variant, note=f"{judged.hop.note}, computed by {pair.engine}; {note}"
        )
        candidates.append(Candidate(pair, judged.measured, hop))
    return candidates, left_out


def _half(graph: FloatGraph, reference: Reference, say: Callable[[str], None]) -> tuple[Pair, str]:
    say(f"  {HALF}")
    work = graph.probe_file.parent
    seen = observe(graph.probe_file, float_tensors(graph.model), reference.frames, work)
    magnitudes = {name: max(-o.low, o.high) for name, o in seen.items()}
    model, islands = to_half(graph.model, magnitudes, reference.probes)
    pair = _pair(HALF, "fp16", "onnxruntime", work / f"{HALF}.onnx", graph.file.parent)
    save_model(model, pair.probe_file)
    save_model(without_outputs(model, reference.probes), pair.file)
    return pair, describe_islands(graph.model, islands)


def _int8(quantiser: Quantiser, found: Found, say: Callable[[str], None]) -> tuple[Pair, str]:
    say(f"  {INT8}")
    best = _best(found)
    float_layers: Sequence[str] = best.pair.float_layers if best else ()
    calibrator: Calibrator = found.calibrator_of(best) if best else next(iter(found.used.values()))
    quantiser.build(INT8, float_layers=float_layers, calibrator=calibrator, scheme="s8s8")
    engine: EngineName = "openvino" if "openvino" in available_engines() else "onnxruntime"
    pair = _pair(INT8, "int8", engine, quantiser.work / f"{INT8}.onnx", quantiser.ship, tuple(float_layers))
    return pair, f"symmetric, {len(float_layers)} layers left in float" if float_layers else "symmetric"


def _best(found: Found) -> Candidate | None:
    """The candidate within the budget that has the most layers in INT8."""
    within = [c for c in found.candidates if c.hop.passed]
    return min(within, key=lambda c: len(c.pair.float_layers), default=None)


def _pair(
    name: str, precision: Precision, engine: EngineName, probe_file: Path, ship: Path, left: tuple[str, ...] = ()
) -> Pair:
    return Pair(
        variant=name,
        precision=precision,
        engine=engine,
        probe_file=probe_file,
        file=ship / f"model.{name}.onnx",
        float_layers=left,
    )
