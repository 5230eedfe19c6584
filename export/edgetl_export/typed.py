"""Graphs for TensorRT: the precision is written into them, because strongly typed engines take it from there.

They can't be timed here. What they compute can be measured: ONNX Runtime runs a graph with its roundings to FP16
written out. OpenVINO runs one faster that rounds by sums (BDD100K's detector on an Intel Xeon: in half the time), and
the symmetric INT8 graph without those roundings; on some processors wrongly, so it is asked only where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs
from onnx import ModelProto

from edgetl_export.calibrate import Calibrator, magnitudes
from edgetl_export.candidates import FP32_REL_ERROR, Candidate, Pair, Reference, Tensors, judge, recorded
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
from edgetl_runtime.spec import EngineName, Precision

Checks = Mapping[str, Mapping[str, HostCheck]]
"""By graph and target."""
Check = Callable[[Mapping[str, Path]], Checks]
"""What the host's compiler says of graphs, by name, for every target."""
AGREEMENT_FRAMES = 2
NEAR, ALIKE = 0.5, 1.2
"""How far apart two engines with the same roundings may be, as a share of what those cost, and by which factor that may
differ: BDD100K's detector 0.2 and 1.002; a small network without the roundings of its activations 0.7 and 1.46."""


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
    half, note = _half(graph, model, reference, largest)
    typed = _judged(half, note, reference, check, {FLOAT: floats.pair.file, HALF: half.exact.file})
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

    def made(more: Sequence[str]) -> tuple[TypedGraph, str]:
        graph, note = _int8(quantiser, calibrator, reference, largest, (*left, *more))
        return graph, f"{note}, {len(lacking)} of them for want of a kernel" if lacking else note

    def judged(more: Sequence[str]) -> Typed:
        graph, note = made(more)
        return _judged(graph, note, reference, check, {INT8: graph.exact.file})

    typed = judged(())
    if not typed.candidates or typed.candidates[0].hop.passed:
        return typed
    say("  symmetric INT8 everywhere costs more than the budget: which layers does it hurt?")
    rows = found.sensitivities or sensitivities(
        quantiser, reference, ("onnxruntime", "int8"), calibrator, scheme="s8s8"
    )
    order = [row.layer for row in rows if row.layer not in left]

    def passes(more: Sequence[str]) -> bool:
        candidate = made(more)[0].judge(reference)
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


@dataclass(frozen=True, slots=True)
class TypedGraph:
    """A graph with FP16, as ONNX Runtime computes it, exactly, and as OpenVINO does, where that is here."""

    exact: Pair
    fast: Pair | None

    def judge(self, reference: Reference) -> Candidate | str:
        """By OpenVINO where it gives nearly what ONNX Runtime gives."""
        fast = judge(self.fast, reference, partial(self._agrees, reference)) if self.fast else ""
        return fast if isinstance(fast, Candidate) else judge(self.exact, reference)

    def _agrees(self, reference: Reference, rows: Tensors) -> bool:
        """Whether these are as near to what ONNX Runtime gives as the precision lets them.

        Roundings of sums that are added in another order differ. But most are the same, and they cost about the same,
        unless they are left out.
        """
        pair = self.exact
        frames, tensors = reference.frames[:AGREEMENT_FRAMES], reference.tensors[:AGREEMENT_FRAMES]
        expected = recorded(pair.engine, pair.probe_file, pair.computed_in, frames, reference.probes)
        found = rows[:AGREEMENT_FRAMES]
        apart, cost, found_cost = rms_error(expected, found), rms_error(tensors, expected), rms_error(tensors, found)
        if pair.precision == "int8":
            return apart <= max(cost, FP32_REL_ERROR)
        return apart <= NEAR * cost and cost / ALIKE <= found_cost <= cost * ALIKE


def _graph(
    model: ModelProto,
    name: str,
    precision: Precision,
    reference: Reference,
    work: Path,
    ship: Path,
    left: tuple[str, ...] = (),
) -> TypedGraph:
    """The pairs of a graph with FP16, whose file that ships is written."""

    def pair(engine: EngineName, how: str) -> Pair:
        probe_file = _saved(_computable(model, engine, precision), work / f"{name}-{how}.onnx")
        return _pair(name, precision, engine, probe_file, ship, left)

    fast = pair("openvino", "fast") if "openvino" in available_engines() else None
    made = TypedGraph(pair("onnxruntime", "exact"), fast)
    save_model(without_outputs(model, reference.probes), made.exact.file)
    return made


def _judged(graph: TypedGraph, note: str, reference: Reference, check: Check, files: Mapping[str, Path]) -> Typed:
    judged, checks = both_at_once(lambda: graph.judge(reference), lambda: check(files))
    if isinstance(judged, str):
        return Typed(left_out=(judged,), checks=checks)
    pair = judged.pair
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
) -> tuple[TypedGraph, str]:
    model, islands = to_half(float_model, largest, reference.probes)
    made = _graph(model, HALF, "fp16", reference, graph.probe_file.parent, graph.file.parent)
    return made, describe_islands(graph.model, islands)


def _int8(
    quantiser: Quantiser,
    calibrator: Calibrator,
    reference: Reference,
    largest: Mapping[str, float],
    float_layers: tuple[str, ...],
) -> tuple[TypedGraph, str]:
    written, _ = quantiser.build(INT8, float_layers=float_layers, calibrator=calibrator, scheme="s8s8", shipped=False)
    model, _ = to_half(late_bytes(load_model(written)), largest, reference.probes)
    made = _graph(model, INT8, "int8", reference, quantiser.work, quantiser.ship, float_layers)
    left = f", {len(float_layers)} layers among it" if float_layers else ""
    return made, f"symmetric, the rest in FP16{left}"


def _saved(model: ModelProto, path: Path) -> Path:
    prune(model)
    save_model(model, path)
    return path


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
