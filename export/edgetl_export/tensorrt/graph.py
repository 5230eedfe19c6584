"""An ONNX graph as the lint sees it: every node with its place, every tensor's element type, every constant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgetl_runtime.tensorrt import onnx_file

STANDARD = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class OpUse:
    """How often one operator is used, and by which modules of the network as far as the file says."""

    op: str
    count: int
    modules: tuple[str, ...] = ()


class Graph:
    """A loaded ONNX model (weights outside the file stay there).

    nodes: the outer graph's, in its order; all_nodes: with those inside If, Loop, Scan and local functions. makers: the
    node that gives a tensor.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.all_nodes: list[Any] = [*_inner(self.nodes), *(n for f in model.functions for n in _inner(f.node))]
        self.makers: dict[str, Any] = {name: node for node in self.all_nodes for name in node.output if name}
        self.constants: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant" and node.domain in STANDARD:
                self.constants |= [(node.output[0], a.t) for a in node.attribute if a.name == "value"]
        self.element_types = _element_types(model, self.constants)

    def opset(self, domain: str) -> int:
        """The version of a domain that the file asks for, 0 where it names none."""
        same = STANDARD if domain in STANDARD else (domain,)
        return max((o.version for o in self.model.opset_import if o.domain in same), default=0)


def label(node: Any) -> str:
    """The node's name as TensorRT says it."""
    return onnx_file.label_of(node.name, node.output)


def operator(node: Any) -> str:
    """`Conv`, or with the domain where it isn't ONNX's own."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"


def module_of(node: Any) -> str:
    """The PyTorch module that a node comes from, "" where the file does not say."""
    return onnx_file.module_of(node.name, {prop.key: prop.value for prop in getattr(node, "metadata_props", ())})


def op_uses(graph: Graph) -> list[OpUse]:
    """Every operator with its count and modules, most used first."""
    modules: dict[str, dict[str, None]] = {}
    counts: dict[str, int] = {}
    for node in graph.all_nodes:
        op = operator(node)
        counts[op] = counts.get(op, 0) + 1
        names = modules.setdefault(op, {})
        if module := module_of(node):
            names[module] = None
    return [OpUse(op, n, tuple(modules[op])) for op, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _inner(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _inner(body.node)


def _element_types(model: Any, constants: dict[str, Any]) -> dict[str, int]:
    """By tensor name, of the outer graph; inferred where the file does not state them."""
    from edgetl_export.graph import bare_with_shapes

    try:
        graph = bare_with_shapes(model).graph
    except Exception:  # above 2 GiB, or types that contradict each other: what the file states must do
        graph = model.graph
    stated = (*graph.value_info, *graph.output, *graph.input)
    types = {v.name: v.type.tensor_type.elem_type for v in stated if v.type.tensor_type.elem_type}
    return types | {name: tensor.data_type for name, tensor in constants.items()}
