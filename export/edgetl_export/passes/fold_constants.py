"""Compute once what does not depend on the frame.

Requires: nothing. Ensures: every node depends on an input, nodes have names, constants are initializers; outputs equal.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from edgetl_export.graph import copy_of, initializers, prune, set_initializer, set_nodes

LARGEST_BYTES = 32 * 1024 * 1024
"""A folded constant may not be larger: a small graph would become a large file."""
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def fold_constants(model: ModelProto) -> tuple[ModelProto, str]:
    """A model without constant nodes, and a note."""
    result = copy_of(model)
    named = _name_nodes(result)
    constants = initializers(result)
    kept, folded = [], 0
    for node in result.graph.node:
        values = _evaluate(result, node, constants)
        if values is None:
            kept.append(node)
            continue
        folded += 1
        for name, value in values.items():
            constants[name] = value
            set_initializer(result, name, value)
    if not folded:
        return (result if named else model), "not applied: no node is constant"
    set_nodes(result, kept)
    prune(result)
    return result, f"{folded} nodes computed once"


def _name_nodes(model: ModelProto) -> bool:
    """Give every node a name of its own: layers are known by it."""
    seen: set[str] = set()
    changed = False
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
            while node.name in seen:
                node.name += "_"
            changed = True
        seen.add(node.name)
    return changed


def _evaluate(
    model: ModelProto, node: NodeProto, constants: dict[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]] | None:
    """The node's results where all it reads is known and small; None where it isn't, or onnx can't compute it."""
    inputs = [name for name in node.input if name]
    if any(name not in constants for name in inputs) or node.op_type in RANDOM or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") or any(a.HasField("g") for a in node.attribute):
        return None
    feeds = {name: constants[name] for name in inputs}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "constant", infos, outputs)
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))
        values = [np.asarray(v) for v in evaluator.run(None, feeds)]
    except Exception:  # the reference has not every operator: leaving the node is always right
        return None
    if sum(v.nbytes for v in values) > LARGEST_BYTES or any(v.dtype.kind in "OUS" for v in values):
        return None
    return dict(zip((o.name for o in outputs), values, strict=True))
