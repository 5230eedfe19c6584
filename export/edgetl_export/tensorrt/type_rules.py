"""What the element types of a node's tensors show TensorRT will not take, by the codes of diagnostics."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

from edgetl_export.tensorrt.graph import STANDARD, Graph
from edgetl_runtime.tensorrt.operators import REWRITES

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
READS_UINT8 = ("Cast", *QUANTISERS)
SIXTEEN_BITS = ("INT16", "UINT16")
FOREIGN = frozenset({*SIXTEEN_BITS, "UINT32", "UINT64", "COMPLEX64", "COMPLEX128", "FLOAT8E5M2", "FLOAT8E4M3FNUZ"})
"""Element types that TensorRT has no tensors of; STRING and UINT4 have codes of their own."""
PRECISIONS = {"BFLOAT16": "bf16", "FLOAT8E4M3FN": "fp8", "FLOAT4E2M1": "fp4"}
"""Element types that only some GPUs and TensorRT versions have."""


def codes_of_types(graph: Graph, node: Any) -> Iterator[str]:
    """The codes of all that is wrong with the types one node reads and makes, each once."""
    read = [_name(graph.element_types.get(name, 0)) for name in node.input]
    made = [_name(graph.element_types.get(name, 0)) for name in node.output]
    quantiser = node.op_type in QUANTISERS
    if "STRING" in (*read, *made):
        yield "string-tensor"
    if node.op_type in REWRITES or node.domain not in STANDARD:
        return  # the operator itself is the trouble
    if "UINT4" in (*read, *made):
        yield "uint4-weights"
    if FOREIGN.intersection((*read, *made)):
        yield "int16-activations" if quantiser and set(SIXTEEN_BITS).intersection((*read, *made)) else "element-type"
    yield from _uint8(graph, node, read)
    if node.op_type == "DequantizeLinear" and read[:1] == ["INT32"]:
        yield "quantised-bias"
    elif node.op_type != "DequantizeLinear" and _reads_int8_constant(graph, node, read):
        yield "quantised-constant"
    if _mixes_types(graph, node):
        yield "mixed-types"


def missing_precisions(graph: Graph, precisions: Collection[str]) -> dict[str, Any]:
    """Precisions that the graph has and the target lacks, each with the first node that reads or makes it."""
    found: dict[str, Any] = {}
    if not precisions:
        return found
    for node in graph.nodes:
        for name in (*node.input, *node.output):
            precision = PRECISIONS.get(_name(graph.element_types.get(name, 0)))
            if precision and precision not in precisions:
                found.setdefault(precision, node)
    return found


def _uint8(graph: Graph, node: Any, read: list[str]) -> Iterator[str]:
    """A uint8 tensor may be a constant, an input that Cast reads, or an output that nothing reads."""
    inputs = {i.name for i in graph.model.graph.input}
    fresh = [n for n, t in zip(node.input, read, strict=True) if t == "UINT8" and n not in graph.constants]
    if fresh and node.op_type not in READS_UINT8:
        yield "uint8-read"
    first_is_stored = bool(node.input) and (node.input[0] in graph.constants or node.input[0] in inputs)
    if node.op_type == "DequantizeLinear" and read[:1] == ["UINT8"] and first_is_stored:
        yield "uint8-weights"


def _reads_int8_constant(graph: Graph, node: Any, read: list[str]) -> bool:
    """Zero points of QuantizeLinear are no data."""
    names = list(node.input)[:1] if node.op_type == "QuantizeLinear" else list(node.input)
    return any(t == "INT8" and n in graph.constants for n, t in zip(names, read, strict=False))


def _mixes_types(graph: Graph, node: Any) -> bool:
    """Whether inputs that ONNX wants of one type are of several."""
    kinds: dict[str, set[int]] = {}
    for name, variable in zip(
        node.input, _type_variables(node.op_type, graph.opset(""), len(node.input)), strict=False
    ):
        element = graph.element_types.get(name, 0)
        if element and variable:
            kinds.setdefault(variable, set()).add(element)
    return any(len(elements) > 1 for elements in kinds.values())


@functools.cache
def _type_variables(op: str, opset: int, count: int) -> tuple[str, ...]:
    """By input, the name that ONNX gives to its type; equal names mean equal types."""
    from onnx import defs

    if not defs.has(op, max_inclusive_version=max(opset, 1)):
        return ()
    formal = list(defs.get_schema(op, max(opset, 1), "").inputs)
    variables = [f.type_str for f in formal]
    if formal and formal[-1].option == defs.OpSchema.FormalParameterOption.Variadic:
        last = variables[-1] if formal[-1].is_homogeneous else ""
        variables = [*variables[:-1], *[last] * (count - len(variables) + 1)]
    return tuple(variables)


@functools.cache
def _name(element_type: int) -> str:
    from onnx import TensorProto

    known = element_type in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(element_type)) if known else ""
