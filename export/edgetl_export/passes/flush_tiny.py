"""Set weights to zero that are too small to matter, and drop branches that add nothing.

Training with weight decay leaves dead channels whose weights shrink for ever. At 1e-38 float32 becomes subnormal, which
many processors compute a hundred times slower: half the time of a network can go into channels that do nothing.

Requires: nothing. Ensures: no weight of a layer lies between 0 and TINY; outputs equal up to rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, shape_inference

from edgetl_export.graph import consumers, copy_of, initializers, needed_whole, producers, prune, set_initializer

TINY = 1e-18
"""A weight of which a million times an input is still nothing beside the other terms of a float32 sum."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "PRelu", "BatchNormalization"})
"""Operators whose constants are weights. Those of others may be there to keep a division or a logarithm safe."""


def flush_tiny(model: ModelProto) -> tuple[ModelProto, str]:
    """A model without tiny weights, and a note; the same model where it has none."""
    result = copy_of(model)
    flushed = _flush_weights(result)
    dropped = _drop_branches(result)
    if not flushed and not dropped:
        return model, f"not applied: no weight lies between 0 and {TINY:.0e}"
    prune(result)
    parts = [f"{flushed} weights below {TINY:.0e} are zero"] if flushed else []
    if dropped:
        parts.append(f"{dropped} branch{'es' if dropped > 1 else ''} that added nothing dropped")
    return result, ", ".join(parts)


def _flush_weights(model: ModelProto) -> int:
    readers, whole, flushed = consumers(model), needed_whole(model), 0
    for name, value in initializers(model).items():
        if value.dtype != np.float32 or name in whole or any(n.op_type not in WEIGHTED for n in readers.get(name, [])):
            continue
        tiny = _tiny(value) & (value != 0)
        if tiny.any():
            flushed += int(tiny.sum())
            set_initializer(model, name, np.where(tiny, np.float32(0), value))
    return flushed


def _tiny(value: NDArray[np.generic]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(np.asarray(value, np.float64)) < TINY)


def _drop_branches(model: ModelProto) -> int:
    """Let readers of a + b * c read a, where c is a tiny constant."""
    constants, made, dropped = initializers(model), producers(model), 0
    outputs = {o.name for o in model.graph.output}
    graph = shape_inference.infer_shapes(model).graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in infos}
    for node in model.graph.node:
        if node.op_type != "Add" or node.output[0] in outputs:
            continue
        for kept, other in (tuple(node.input), tuple(reversed(node.input))):
            if _adds_nothing(made.get(other), constants) and shapes.get(kept) == shapes.get(node.output[0]) is not None:
                _replace(model, node.output[0], kept)
                dropped += 1
                break
    return dropped


def _adds_nothing(node: NodeProto | None, constants: dict[str, NDArray[np.generic]]) -> bool:
    return (
        node is not None
        and node.op_type == "Mul"
        and any(constants[i].dtype == np.float32 and _tiny(constants[i]).all() for i in node.input if i in constants)
    )


def _replace(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
