"""What a node's operator, attributes and constants show TensorRT will not take, by the codes of diagnostics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgetl_export.tensorrt.graph import STANDARD, Graph
from edgetl_runtime.tensorrt.diagnostics import TOPK_LIMIT
from edgetl_runtime.tensorrt.operators import PLUGINS, REWRITES

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
SCATTERS = ("ScatterElements", "ScatterND")
BY_OPERATOR = {"NonMaxSuppression": "nms-not-in-rtx", "RoiAlign": "needs-gpu"}
PARSER_DOMAINS = frozenset({"trt", "trt.plugins"})
"""Domains whose operators TensorRT's own tools write for its parser."""


def codes_of(graph: Graph, node: Any) -> Iterator[str]:
    """The codes of all that is wrong with one node; what follows from element types is in type_rules."""
    standard = node.domain in STANDARD
    if standard and node.op_type in REWRITES:
        yield "unsupported-op"
    elif PLUGINS.match(node.op_type):
        yield "missing-plugin"
    elif not standard or not _is_onnx(graph, node):
        if node.domain not in PARSER_DOMAINS and not _is_local(graph, node):
            yield "custom-op"
    elif node.op_type in BY_OPERATOR:
        yield BY_OPERATOR[node.op_type]
    elif node.op_type == "TopK":
        most = _whole_number(graph, node, 1)
        if most is not None and most > TOPK_LIMIT:
            yield "topk-limit"
    elif node.op_type == "Resize":
        if any(a.name == "antialias" and a.i for a in node.attribute):
            yield "antialias"
    elif node.op_type in SCATTERS:
        if any(a.name == "reduction" and a.s not in (b"", b"none") for a in node.attribute):
            yield "scatter-reduction"
    elif node.op_type in QUANTISERS and _any_nonzero(_constant(graph, node, 2)):
        yield "asymmetric-quantisation"


def _is_onnx(graph: Graph, node: Any) -> bool:
    from onnx import defs

    return bool(defs.has(node.op_type, max_inclusive_version=max(graph.opset(""), 1)))


def _is_local(graph: Graph, node: Any) -> bool:
    return any((f.domain, f.name) == (node.domain, node.op_type) for f in graph.model.functions)


def _constant(graph: Graph, node: Any, index: int) -> Any | None:
    """The array of a constant input, None where it is no constant of this file."""
    import onnx

    tensor = graph.constants.get(node.input[index]) if len(node.input) > index else None
    if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    return onnx.numpy_helper.to_array(tensor)


def _whole_number(graph: Graph, node: Any, index: int) -> int | None:
    array = _constant(graph, node, index)
    return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _any_nonzero(array: Any | None) -> bool:
    return array is not None and bool((array.astype("float32") != 0).any())
