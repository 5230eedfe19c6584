"""An older opset: for a TensorRT whose parser reads no newer one, and would take an input of today for nothing.

Release 8 reads opset 17 (onnx-tensorrt, docs/operators.md), in which ReduceMax and its kind have their axes as an
attribute and Split its number of parts by its outputs. torch.export writes 18 and later.

Requires: inferred shapes; constants as initializers. Ensures: every node says in the older opset what it said in the
newer one; the very same model where one can't.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, defs, helper

from edgetl_export.graph import (
    attribute,
    copy_of,
    initializers,
    inner_reads,
    prune,
    set_initializer,
    shapes_of,
)
from edgetl_export.tensorrt.graph import STANDARD

REDUCES = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
"""Operators whose axes are an input from opset 18 on."""
ONLY_NEWER: dict[str, tuple[str, tuple[bytes, ...]]] = {
    "Pad": ("mode", (b"wrap",)),
    "ScatterElements": ("reduction", (b"max", b"min")),
    "ScatterND": ("reduction", (b"max", b"min")),
}
"""Values of an attribute that it had not before opset 18."""


def lower_opset(model: ModelProto, opset: int) -> ModelProto:
    """The graph in this opset; the same model where it has that or a lower one, or something in it is newer."""
    now = _opset(model)
    if now <= opset:
        return model
    result = copy_of(model)
    graph = _Graph(now, opset, initializers(result), shapes_of(result), {})
    if not all(_lowered(node, graph) for node in result.graph.node):
        return model
    for name, value in graph.made.items():
        set_initializer(result, name, value)
    for each in result.opset_import:
        if each.domain in STANDARD:
            each.version = opset
    prune(result)
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return model
    return result


@dataclass(frozen=True, slots=True)
class _Graph:
    """What nodes are lowered by. made: new constants."""

    now: int
    opset: int
    constants: Mapping[str, NDArray[np.generic]]
    shapes: Mapping[str, tuple[int, ...]]
    made: dict[str, NDArray[np.generic]]


def _opset(model: ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in STANDARD), default=0)


def _lowered(node: NodeProto, graph: _Graph) -> bool:
    """Whether the node says the same in the older opset, after what is changed here in place."""
    if node.domain not in STANDARD:
        return True
    if inner_reads(node) or not defs.has(node.op_type, max_inclusive_version=graph.opset):
        return False
    old, new = (defs.get_schema(node.op_type, version) for version in (graph.opset, graph.now))
    if old.since_version == new.since_version:
        return True
    name, newer = ONLY_NEWER.get(node.op_type, ("", ()))
    return (
        attribute(node, name) not in newer
        and (node.op_type not in REDUCES or _axes_as_attribute(node, graph))
        and (node.op_type != "Split" or _parts_as_sizes(node, graph))
        and _without_defaults(node, old, new)
        and len(node.input) <= old.max_input
    )


def _axes_as_attribute(node: NodeProto, graph: _Graph) -> bool:
    if len(node.input) < 2 or not node.input[1]:
        return not attribute(node, "noop_with_empty_axes")
    axes = graph.constants.get(node.input[1])
    if axes is None or not axes.size:
        return False
    del node.input[1:]
    node.attribute.append(helper.make_attribute("axes", [int(a) for a in axes]))
    return True


def _parts_as_sizes(node: NodeProto, graph: _Graph) -> bool:
    """Their sizes, since an older Split can't make a last part that is smaller."""
    count = attribute(node, "num_outputs")
    if count is None:
        return True
    shape = graph.shapes.get(node.input[0], ())
    axis = attribute(node, "axis") or 0
    assert isinstance(count, int) and isinstance(axis, int)
    side = shape[axis] if -len(shape) <= axis < len(shape) else 0
    if not side:
        return False
    part = -(-side // count)
    name = f"{node.name or node.output[0]}/sizes"
    graph.made[name] = np.array([part] * (count - 1) + [side - part * (count - 1)], np.int64)
    node.input[1:] = [name]
    kept = [a for a in node.attribute if a.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return True


def _without_defaults(node: NodeProto, old: defs.OpSchema, new: defs.OpSchema) -> bool:
    """Drop attributes that are newer and say what went without saying; False where one says something else."""
    kept = []
    for a in node.attribute:
        if a.name in old.attributes:
            kept.append(a)
        elif helper.get_attribute_value(a) != _default(new, a.name):
            return False
    copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(copies)
    return True


def _default(schema: defs.OpSchema, name: str) -> object | None:
    default = schema.attributes[name].default_value
    return helper.get_attribute_value(default) if default.type else None
