"""What an ONNX file alone shows: what TensorRT will not take, and what may go wrong in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from edgetl_export.targets import Release
from edgetl_export.tensorrt.graph import STANDARD, Graph, label, module_of
from edgetl_export.tensorrt.node_rules import codes_of
from edgetl_export.tensorrt.type_rules import codes_of_types, missing_precisions
from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt import diagnostics
from edgetl_runtime.tensorrt.operators import SINCE
from edgetl_runtime.tensorrt.protocol import Finding

GRID_SAMPLE = (
    "TensorRT builds GridSample, and some versions then give wrong numbers without a word (its issues 4646 and 4813, "
    "seen with 10.13 to 11.1): compare what the engine gives on the device with the bundle's golden samples."
)
HARDWARE = "hardware-datatype"
NO_KERNEL = "int8-without-kernel"
TOO_NEW, SOME_TOO_OLD = "operator-too-new", "release-too-old"
REFUSALS = frozenset({HARDWARE, TOO_NEW})
"""Findings that keep a target from taking a graph that the host's compiler takes."""
WARNINGS = frozenset({"grid-sample", "opset-above-ceiling", SOME_TOO_OLD, NO_KERNEL})
"""Findings that do not keep a target from taking the graph."""


def lint(
    graph: Graph, *, opset_ceiling: int, precisions: Collection[str] = (), releases: Sequence[Release] = ()
) -> Iterator[Finding]:
    """What TensorRT is known to reject, found without it.

    precisions, releases: the target's, empty where not known.
    """
    opset = graph.opset("")
    if opset > opset_ceiling:
        advice = (
            f"The file has opset {opset}, the target's parser reads {opset_ceiling}: `edgetl export` writes graphs in "
            "that where nothing in them is newer."
        )
        yield _finding(Check(code="opset-above-ceiling", advice=advice))
    for tensor in graph.model.graph.input:
        if tensor.name not in graph.constants and _is_dynamic(tensor):
            yield _known("dynamic-shape", node=tensor.name)
    for node in graph.all_nodes:
        for code in (*codes_of(graph, node), *codes_of_types(graph, node)):
            yield _known(code, **_where(node))
    for precision, node in missing_precisions(graph, precisions).items():
        have = ", ".join(precisions)
        advice = f"The graph has {precision.upper()}, this target runs {have}: choose another precision for the target."
        yield _finding(Check(code=HARDWARE, advice=advice, **_where(node)))
    yield from _too_new(graph, releases)
    yield from _without_kernel(graph, releases)
    sampler = next((n for n in graph.all_nodes if n.op_type == "GridSample"), None)
    if sampler is not None:  # once: there are several in every layer of a decoder
        yield _finding(Check(code="grid-sample", advice=GRID_SAMPLE, **_where(sampler)))


def _too_new(graph: Graph, releases: Sequence[Release]) -> Iterator[Finding]:
    """Operators that all releases lack in one finding, those that some lack or may lack in another."""
    first = {node.op_type: node for node in reversed(graph.all_nodes) if node.domain in STANDARD}
    said: dict[str, dict[str, str]] = {TOO_NEW: {}, SOME_TOO_OLD: {}}
    for op in [op for op in first if op in SINCE]:
        lack, may = _without(op, releases)
        if lack or may:
            code = TOO_NEW if len(lack) == len(releases) else SOME_TOO_OLD
            said[code][op] = _lacking(op, lack, may)
    for code, ops in said.items():
        if ops:
            advice = f"{' '.join(ops.values())} Write it out of other operators, or take a later release."
            yield _finding(Check(code=code, advice=advice, **_where(first[next(iter(ops))])))


def _without_kernel(graph: Graph, releases: Sequence[Release]) -> Iterator[Finding]:
    """INT8 convolutions that the full TensorRT may have no kernel for, in one finding; that for RTX makes its own."""
    if not any(r.tensorrt for r in releases):
        return
    found = [node for node in graph.all_nodes if _has_no_kernel(node, graph)]
    if found:
        advice = (
            f"The full TensorRT may have no INT8 kernel for {len(found)} of the convolutions, this one first (too few "
            "channels, or a small kernel in groups; NVIDIA's own quantiser leaves them out), and builds no engine "
            "then: take the Q/DQ pairs before them out."
        )
        yield _finding(Check(code=NO_KERNEL, advice=advice, **_where(found[0])))


def _has_no_kernel(node: Any, graph: Graph) -> bool:
    """Whether this is a convolution of INT8 values by INT8 constants, of a shape that has no kernel."""
    if node.op_type != "Conv" or node.domain not in STANDARD:
        return False
    from onnx import TensorProto

    from edgetl_export.tensorrt.kernels import has_int8_kernel

    pairs = [graph.makers.get(name) for name in node.input[:2]]
    held = [pair.input[0] for pair in pairs if pair is not None and pair.op_type == "DequantizeLinear"]
    if [graph.element_types.get(name) for name in held] != [TensorProto.INT8, TensorProto.INT8]:
        return False
    quantiser = graph.makers.get(held[1])
    weight = graph.constants.get(quantiser.input[0] if quantiser is not None else held[1])
    return weight is not None and not has_int8_kernel(node, tuple(weight.dims))


def _without(op: str, releases: Sequence[Release]) -> tuple[list[Release], list[Release]]:
    """The releases that lack an operator, and those of which it is not known."""
    without, since = SINCE[op]
    known = [r for r in releases if r.tensorrt]
    lack = [r for r in known if _number(r.tensorrt) <= _number(without)]
    has = [r for r in known if since and _number(r.tensorrt) >= _number(since)]
    return lack, [r for r in known if r not in lack and r not in has]


def _lacking(op: str, lack: Sequence[Release], may: Sequence[Release]) -> str:
    without, since = SINCE[op]
    came = f"it came with {since}" if since else "no release is known to have it"
    later = f", {since} has" if since else ""
    sentences = [
        f"{op} is not in {_names(lack)}: {came}." if lack else "",
        f"Whether {op} is in {_names(may)} is not known: {without} has it not{later}." if may else "",
    ]
    return " ".join(filter(None, sentences))


def _names(releases: Sequence[Release]) -> str:
    return ", ".join(f"TensorRT {r.tensorrt} ({r.name})" for r in releases)


def _number(release: str | None) -> tuple[int, ...]:
    """8.6 of 8.6.12."""
    return tuple(int(part) for part in (release or "").split(".")[:2])


def _where(node: Any) -> dict[str, str]:
    return {"op": node.op_type, "node": label(node), "module": module_of(node)}


def _finding(check: Check) -> Finding:
    return Finding(check, fatal=False)


def _known(code: str, *, op: str = "", node: str = "", module: str = "") -> Finding:
    rule = diagnostics.rule_of(code)
    return Finding(diagnostics.to_check(rule, op=op, node=node, module=module), fatal=False, tells=rule.tells)


def _is_dynamic(tensor: Any) -> bool:
    return any(not d.HasField("dim_value") or d.dim_value <= 0 for d in tensor.type.tensor_type.shape.dim)
