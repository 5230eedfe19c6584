"""What an ONNX file alone shows: its operators, where they come from, and what TensorRT will not take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgetl_runtime.spec import Check
from edgetl_runtime.tensorrt import diagnostics, onnx_file
from edgetl_runtime.tensorrt.protocol import Finding, OpUse

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
GRID_SAMPLE = (
    "TensorRT builds GridSample, and some versions then give wrong numbers without a word (its issues 4646 and 4813, "
    "seen with 10.13 to 11.1): compare what the engine gives on the device with the bundle's golden samples."
)


class Graph:
    """A loaded ONNX model with look-ups by node and tensor name (weights outside the file stay there)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.by_name = {node.name: node for node in self.nodes if node.name}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def find(self, name: str, index: int, op: str) -> Any | None:
        """The node that a parser error names: by name, else by index where the operator agrees."""
        if name in self.by_name:
            return self.by_name[name]
        if 0 <= index < len(self.nodes) and (not op or self.nodes[index].op_type == op):
            return self.nodes[index]
        return None

    def named_in(self, text: str) -> Any | None:
        """The node whose name stands in a free text; the builder may add `_0` to it."""
        for name in sorted(self.by_name, key=len, reverse=True):
            if re.search(rf"(?<![\w/.]){re.escape(name)}(_\d+)?(?![\w/.])", text):
                return self.by_name[name]
        return None


def module_of(node: Any) -> str:
    """The PyTorch module that a node comes from, "" where the file does not say."""
    return onnx_file.module_of(node.name, {prop.key: prop.value for prop in getattr(node, "metadata_props", ())})


def op_uses(graph: Graph) -> list[OpUse]:
    """Every operator with its count and modules, most used first."""
    modules: dict[str, dict[str, None]] = {}
    counts: dict[str, int] = {}
    for node in graph.nodes:
        op = f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        counts[op] = counts.get(op, 0) + 1
        names = modules.setdefault(op, {})
        if module := module_of(node):
            names[module] = None
    return [OpUse(op, n, tuple(modules[op])) for op, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def lint(graph: Graph, *, opset_ceiling: int) -> Iterator[Finding]:
    """What TensorRT is known to reject, found without it."""
    for opset in graph.model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > opset_ceiling:
            advice = f"The file has opset {opset.version}; export for this target with {opset_ceiling} or lower."
            yield Finding(Check(code="opset-above-ceiling", advice=advice), fatal=False)
    for tensor in graph.model.graph.input:
        if tensor.name not in graph.constants and _is_dynamic(tensor):
            yield Finding(_check("dynamic-shape", node=tensor.name), fatal=False)
    frames = {t.name for t in graph.model.graph.input if t.type.tensor_type.elem_type == _uint8()}
    for node in graph.nodes:
        yield from _lint_node(graph, node, frames)
    sampler = next((n for n in graph.nodes if n.op_type == "GridSample"), None)
    if sampler is not None:  # once: there are several in every layer of a decoder
        where = {"op": sampler.op_type, "node": sampler.name, "module": module_of(sampler)}
        yield Finding(Check(code="grid-sample", advice=GRID_SAMPLE, **where), fatal=False)


def _lint_node(graph: Graph, node: Any, frames: set[str]) -> Iterator[Finding]:
    where = {"op": node.op_type, "node": node.name, "module": module_of(node)}
    if node.op_type != "Cast" and frames.intersection(node.input):
        yield Finding(_check("uint8-read", **where), fatal=False)
    if node.op_type not in QUANTISERS:
        return
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is not None and _any_nonzero(zero):
        yield Finding(_check("asymmetric-quantisation", **where), fatal=False)
    data = graph.constants.get(node.input[0])
    if node.op_type == "DequantizeLinear" and data is not None and data.data_type == _int32():
        yield Finding(_check("quantised-bias", **where), fatal=False)


def _check(code: str, *, op: str = "", node: str = "", module: str = "") -> Check:
    rule = next(rule for rule in diagnostics.RULES if rule.code == code)
    return Check(code=code, op=op, node=node, module=module, advice=rule.advice)


def _is_dynamic(tensor: Any) -> bool:
    return any(not d.HasField("dim_value") or d.dim_value <= 0 for d in tensor.type.tensor_type.shape.dim)


def _any_nonzero(tensor: Any) -> bool:
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    return bool((onnx.numpy_helper.to_array(tensor).astype("float32") != 0).any())


def _uint8() -> int:
    import onnx

    return int(onnx.TensorProto.UINT8)


def _int32() -> int:
    import onnx

    return int(onnx.TensorProto.INT32)
