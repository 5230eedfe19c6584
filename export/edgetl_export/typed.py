"""Graphs for TensorRT: the precision is written into them, because strongly typed engines take it from there.

They can't be timed here. What they compute can be measured: ONNX Runtime runs a graph with its roundings to FP16
written out. OpenVINO runs one faster that rounds by sums (BDD100K's detector on an Intel Xeon: in half the time), and
the symmetric INT8 graph without those roundings; on some processors wrongly, so it is asked only where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import structs
from onnx import ModelProto

from edgetl_export.calibrate import Calibrator, magnitudes
from edgetl_export.candidates import FP32_REL_ERROR, Candidate, Pair, Reference, judge, recorded
from edgetl_export.compile import FloatGraph
from edgetl_export.crew import both_at_once
from edgetl_export.graph import load_model, prune, save_model, watchable, without_outputs
from edgetl_export.islands import least_prefix
from edgetl_export.parity import rms_error
from edgetl_export.passes.half import describe_islands, to_half
from edgetl_export.passes.late_bytes import late_bytes
from edgetl_export.passes.lower_opset import lower_opset
from edgetl_export.passes.rounded import rounded, widened
from edgetl_export.search import Found, Quantiser, sensitivities
from edgetl_export.targets import FLOAT, HALF, INT8, OLDEST_OPSET
from edgetl_export.tensorrt.check import HostCheck
from edgetl_export.tensorrt.kernels import without_int8_kernel
from edgetl_runtime.engines import available_engines
from edgetl_runtime.errors import EngineError
from edgetl_runtime.spec import EngineName, Precision

Checks = Mapping[str, Mapping[str, HostCheck]]
"""By graph and target."""
Check = Callable[[Mapping[str, Path]], Checks]
"""What the host's compiler says of graphs, by name, for every target."""
AGREEMENT_FRAMES = 2
ALIKE = 1.5
"""What the same roundings cost in two engines differs by less than this factor."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Graphs for TensorRT: those that were judged, why others were not, and what the host's compiler says of each.

    largest: the largest magnitude of the float graph's inner tensors on the parity frames.
    """

    candidates: Sequence[Candidate] = ()
    left_out: Sequence[str] = ()
    checks: Checks = field(default_factory=dict)
    largest: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Typed) -> Typed:
        """What both hold."""
        return Typed(
            (*self.candidates, *other.candidates),
            (*self.left_out, *other.left_out),
            {**self.checks, **other.checks},
            {**self.largest, **other.largest},
        )


def float_graphs(graph: FloatGraph, reference: Reference, check: Check, *, say: Callable[[str], None]) -> Typed:
    """FP32, which gives the bits of the float graph, and FP16 with FP32 islands; both read by old parsers too."""
    say(f"  {HALF}")
    largest = magnitudes(graph.probe_file, watchable(graph.model), reference.frames, graph.probe_file.parent)
    model = lower_opset(late_bytes(graph.model), OLDEST_OPSET)
    floats = _float(graph, model, reference)
    pair, note = _half(graph, model, reference, largest)
    typed = _judged(pair, note, reference, check, {FLOAT: floats.pair.file, HALF: pair.file})
    return Typed((floats,), largest=largest) + typed


def int8_graph(
    quantiser: Quantiser,
    found: Found,
    reference: Reference,
    largest: Mapping[str, float],
    check: Check,
    *,
    say: Callable[[str], None],
) -> Typed:
    """Symmetric INT8 in the layers that the search left in it, and FP16 with FP32 islands; none where it left none.

    Layers that TensorRT has no INT8 kernel for are FP16. It has half as many steps behind a ReLU: where that costs more
    than the budget, more layers are left in FP16, the most sensitive first, as few as it takes.
    """
    if not found.used:
        return Typed()
    say(f"  {INT8}")
    best = _best(found)
    known = {layer.name for layer in quantiser.eligible}
    lacking = without_int8_kernel(quantiser.model) & known
    left = tuple(sorted({*(best.pair.float_layers if best else ()), *lacking} & known))
    if len(left) == len(known):
        return Typed(left_out=(f"{INT8}: TensorRT has a kernel for none of the layers that may be INT8",))
    calibrator: Calibrator = found.calibrator_of(best) if best else next(iter(found.used.values()))

    def made(more: Sequence[str]) -> tuple[Pair, str]:
        pair, note = _int8(quantiser, calibrator, reference, largest, (*left, *more))
        return pair, f"{note}, {len(lacking)} of them for want of a kernel" if lacking else note

    def judged(more: Sequence[str]) -> Typed:
        pair, note = made(more)
        return _judged(pair, note, reference, check, {INT8: pair.file})

    typed = judged(())
    if not typed.candidates or typed.candidates[0].hop.passed:
        return typed
    say("  symmetric INT8 everywhere costs more than the budget: which layers does it hurt?")
    rows = found.sensitivities or sensitivities(
        quantiser, reference, ("onnxruntime", "int8"), calibrator, scheme="s8s8"
    )
    order = [row.layer for row in rows if row.layer not in left]

    def passes(more: Sequence[str]) -> bool:
        candidate = judge(made(more)[0], reference)
        passed = isinstance(candidate, Candidate) and candidate.hop.passed
        note = candidate.hop.note if isinstance(candidate, Candidate) else candidate
        say(f"  {len(more)} of {len(order)} layers in FP16: {note}, {'within' if passed else 'over'} the budget")
        return passed

    more = least_prefix(order, passes)
    return judged(more) if more else typed


def computed_here(pair: Pair, work: Path) -> Path:
    """What ships, in the form that its engine here computes it in, as `work` holds it then."""
    model = _computable(load_model(pair.file), pair.engine, pair.precision)
    return _saved(model, work / f"{pair.variant}-ships.onnx")


def _computable(model: ModelProto, engine: EngineName, precision: Precision) -> ModelProto:
    """A graph with FP16 in the form that this engine computes it in."""
    if engine != "openvino":
        return rounded(model)
    return widened(model) if precision == "int8" else rounded(model, by="sums")


def _judged(pair: Pair, note: str, reference: Reference, check: Check, graphs: Mapping[str, Path]) -> Typed:
    judged, checks = both_at_once(lambda: judge(pair, reference), lambda: check(graphs))
    if isinstance(judged, str):
        return Typed(left_out=(judged,), checks=checks)
    hop = structs.replace(judged.hop, hop=pair.variant, note=f"{judged.hop.note}, computed by {pair.engine}; {note}")
    return Typed((replace(judged, hop=hop),), (), checks)


def _float(graph: FloatGraph, model: ModelProto, reference: Reference) -> Candidate:
    """The float graph for TensorRT: what the other was found to do is so of it, if it gives the same bits."""
    pair = _pair(FLOAT, "fp32", "onnxruntime", graph.probe_file, graph.file.parent)
    save_model(without_outputs(model, reference.probes), pair.file)
    judged = judge(replace(pair, for_device=False), reference)
    assert isinstance(judged, Candidate), judged
    return replace(judged, pair=pair, hop=structs.replace(judged.hop, hop=FLOAT))


def _half(
    graph: FloatGraph, float_model: ModelProto, reference: Reference, largest: Mapping[str, float]
) -> tuple[Pair, str]:
    model, islands = to_half(float_model, largest, reference.probes)
    engine, probe_file = _computed(model, HALF, "fp16", graph.probe_file.parent, reference)
    pair = _pair(HALF, "fp16", engine, probe_file, graph.file.parent)
    save_model(without_outputs(model, reference.probes), pair.file)
    return pair, describe_islands(graph.model, islands)


def _int8(
    quantiser: Quantiser,
    calibrator: Calibrator,
    reference: Reference,
    largest: Mapping[str, float],
    float_layers: tuple[str, ...],
) -> tuple[Pair, str]:
    written, _ = quantiser.build(INT8, float_layers=float_layers, calibrator=calibrator, scheme="s8s8", shipped=False)
    model, _ = to_half(late_bytes(load_model(written)), largest, reference.probes)
    engine, probe_file = _computed(model, INT8, "int8", quantiser.work, reference)
    pair = _pair(INT8, "int8", engine, probe_file, quantiser.ship, float_layers)
    save_model(without_outputs(model, reference.probes), pair.file)
    left = f", {len(float_layers)} layers among it" if float_layers else ""
    return pair, f"symmetric, the rest in FP16{left}"


def _saved(model: ModelProto, path: Path) -> Path:
    prune(model)
    save_model(model, path)
    return path


def _computed(
    model: ModelProto, name: str, precision: Precision, work: Path, reference: Reference
) -> tuple[EngineName, Path]:
    """Which engine here computes a graph with FP16, and the graph in its form: OpenVINO where it agrees with ONNX
    Runtime, which is exact."""
    exact = _saved(_computable(model, "onnxruntime", precision), work / f"{name}-exact.onnx")
    if "openvino" not in available_engines():
        return "onnxruntime", exact
    fast = _saved(_computable(model, "openvino", precision), work / f"{name}-fast.onnx")
    return ("openvino", fast) if _agree(exact, fast, precision, reference) else ("onnxruntime", exact)


def _agree(exact: Path, fast: Path, precision: Precision, reference: Reference) -> bool:
    """Whether OpenVINO gives for one graph what ONNX Runtime gives for the other, as nearly as the precision lets them.

    Roundings of sums that are added in another order differ. But they cost about the same, unless they are left out.
    """
    asked: Precision = "fp32" if precision == "fp16" else precision
    frames, tensors = reference.frames[:AGREEMENT_FRAMES], reference.tensors[:AGREEMENT_FRAMES]
    expected = recorded("onnxruntime", exact, asked, frames, reference.probes)
    try:
        found = recorded("openvino", fast, asked, frames, reference.probes)
    except EngineError:
        return False
    apart, cost, found_cost = rms_error(expected, found), rms_error(tensors, expected), rms_error(tensors, found)
    if precision == "int8":
        return apart <= max(cost, FP32_REL_ERROR)
    return apart <= cost and cost / ALIKE <= found_cost <= cost * ALIKE


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
        for_device=True,
    )
