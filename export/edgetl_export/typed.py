"""Graphs for TensorRT: the precision is written into them, because strongly typed engines take it from there.

They can't be timed here. What they compute can be measured: ONNX Runtime runs the FP16 graph with its roundings written
out, and the symmetric INT8 graph as it is; OpenVINO does the latter faster, and on some processors wrongly, so it is
asked only where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from edgetl_export.calibrate import Calibrator, magnitudes
from edgetl_export.candidates import FP32_REL_ERROR, Candidate, Pair, Reference, judge, recorded
from edgetl_export.compile import FloatGraph
from edgetl_export.crew import both_at_once
from edgetl_export.graph import prune, save_model, watchable, without_outputs
from edgetl_export.parity import rms_error
from edgetl_export.passes.half import describe_islands, to_half
from edgetl_export.passes.rounded import rounded
from edgetl_export.search import Found, Quantiser
from edgetl_export.tensorrt.check import HostCheck
from edgetl_runtime.engines import available_engines
from edgetl_runtime.spec import EngineName, Precision

FLOAT, HALF, INT8 = "fp32", "trt-fp16", "trt-int8"
Checks = Mapping[str, Mapping[str, HostCheck]]
"""By graph and target."""
Check = Callable[[Mapping[str, Path]], Checks]
"""What the host's compiler says of graphs, by name, for every target."""
AGREEMENT_FRAMES = 2


@dataclass(frozen=True, slots=True)
class Typed:
    """Graphs for TensorRT: those that were judged, why others were not, and what the host's compiler says of each."""

    candidates: Sequence[Candidate] = ()
    left_out: Sequence[str] = ()
    checks: Checks = field(default_factory=dict)

    def __add__(self, other: Typed) -> Typed:
        """What both hold."""
        return Typed(
            (*self.candidates, *other.candidates),
            (*self.left_out, *other.left_out),
            {**self.checks, **other.checks},
        )


def float_graphs(graph: FloatGraph, reference: Reference, check: Check, *, say: Callable[[str], None]) -> Typed:
    """FP32, which is judged elsewhere, and FP16 with FP32 islands."""
    pair, note = _half(graph, reference, say)
    return _judged(pair, note, reference, check, {FLOAT: graph.file, HALF: pair.file})


def int8_graph(
    quantiser: Quantiser | None, found: Found, reference: Reference, check: Check, *, say: Callable[[str], None]
) -> Typed:
    """Symmetric INT8 in the layers that the search left in INT8; nothing where it left none."""
    if quantiser is None or not found.used:
        return Typed()
    pair, note = _int8(quantiser, found, reference, say)
    return _judged(pair, note, reference, check, {INT8: pair.file})


def _judged(pair: Pair, note: str, reference: Reference, check: Check, graphs: Mapping[str, Path]) -> Typed:
    judged, checks = both_at_once(lambda: judge(pair, reference), lambda: check(graphs))
    if isinstance(judged, str):
        return Typed(left_out=(judged,), checks=checks)
    hop = structs.replace(judged.hop, hop=pair.variant, note=f"{judged.hop.note}, computed by {pair.engine}; {note}")
    return Typed((Candidate(pair, judged.measured, hop),), (), checks)


def _half(graph: FloatGraph, reference: Reference, say: Callable[[str], None]) -> tuple[Pair, str]:
    say(f"  {HALF}")
    work = graph.probe_file.parent
    largest = magnitudes(graph.probe_file, watchable(graph.model), reference.frames, work)
    model, islands = to_half(graph.model, largest, reference.probes)
    pair = _pair(HALF, "fp16", "onnxruntime", work / f"{HALF}.onnx", graph.file.parent)
    wide = rounded(model)
    prune(wide)
    save_model(wide, pair.probe_file)
    save_model(without_outputs(model, reference.probes), pair.file)
    return pair, describe_islands(graph.model, islands)


def _int8(quantiser: Quantiser, found: Found, reference: Reference, say: Callable[[str], None]) -> tuple[Pair, str]:
    say(f"  {INT8}")
    best = _best(found)
    float_layers: Sequence[str] = best.pair.float_layers if best else ()
    calibrator: Calibrator = found.calibrator_of(best) if best else next(iter(found.used.values()))
    quantiser.build(INT8, float_layers=float_layers, calibrator=calibrator, scheme="s8s8")
    probe_file = quantiser.work / f"{INT8}.onnx"
    engine = _symmetric_runner(probe_file, reference)
    pair = _pair(INT8, "int8", engine, probe_file, quantiser.ship, tuple(float_layers))
    return pair, f"symmetric, {len(float_layers)} layers left in float" if float_layers else "symmetric"


def _symmetric_runner(probe_file: Path, reference: Reference) -> EngineName:
    """OpenVINO where it computes the graph as ONNX Runtime does, else ONNX Runtime."""
    if "openvino" not in available_engines():
        return "onnxruntime"
    frames = reference.frames[:AGREEMENT_FRAMES]
    expected = recorded("onnxruntime", probe_file, "int8", frames, reference.probes)
    found = recorded("openvino", probe_file, "int8", frames, reference.probes)
    apart, from_float = rms_error(expected, found), rms_error(reference.tensors[:AGREEMENT_FRAMES], expected)
    return "openvino" if apart <= max(from_float, FP32_REL_ERROR) else "onnxruntime"


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
