"""What an ONNX file alone shows: what TensorRT will not take, and what may go wrong in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgetl_export.tensorrt.graph import Graph, label, module_of
from edgetl_export.tensorrt.node_rules import codes_of
from edgetl_export.tensorrt.type_rules import codes_of_types, missing_precisions
from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt import diagnostics
from edgetl_runtime.tensorrt.protocol import Finding

GRID_SAMPLE = (
    "TensorRT builds GridSample, and some versions then give wrong numbers without a word (its issues 4646 and 4813, "
    "seen with 10.13 to 11.1): compare what the engine gives on the device with the bundle's golden samples."
)
HARDWARE = "hardware-datatype"
WARNINGS = frozenset({"grid-sample", "opset-above-ceiling"})
"""Findings that do not keep a target from taking the graph."""


def lint(graph: Graph, *, opset_ceiling: int, precisions: Collection[str] = ()) -> Iterator[Finding]:
    """What TensorRT is known to reject, found without it. precisions: the target's, empty where not known."""
    opset = graph.opset("")
    if opset > opset_ceiling:
        advice = f"The file has opset {opset}; export for this target with {opset_ceiling} or lower."
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
    sampler = next((n for n in graph.all_nodes if n.op_type == "GridSample"), None)
    if sampler is not None:  # once: there are several in every layer of a decoder
        yield _finding(Check(code="grid-sample", advice=GRID_SAMPLE, **_where(sampler)))


def _where(node: Any) -> dict[str, str]:
    return {"op": node.op_type, "node": label(node), "module": module_of(node)}


def _finding(check: Check) -> Finding:
    return Finding(check, fatal=False)


def _known(code: str, *, op: str = "", node: str = "", module: str = "") -> Finding:
    rule = diagnostics.rule_of(code)
    return Finding(diagnostics.to_check(rule, op=op, node=node, module=module), fatal=False, tells=rule.tells)


def _is_dynamic(tensor: Any) -> bool:
    return any(not d.HasField("dim_value") or d.dim_value <= 0 for d in tensor.type.tensor_type.shape.dim)
