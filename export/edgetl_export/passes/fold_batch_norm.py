"""Fold a batch-norm into the convolution or matrix product before it.

Requires: BatchNormalization in inference form whose constants are initializers, as the only reader of its layer.
Ensures: the layer's weights and bias hold it; the tensor keeps the batch-norm's name; outputs equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgetl_export.graph import (
    attribute,
    consumers,
    copy_of,
    initializers,
    needed_whole,
    producers,
    prune,
    set_initializer,
    set_nodes,
)
from edgetl_export.layers import weight_axis


def fold_batch_norm(model: ModelProto) -> tuple[ModelProto, str]:
    """A model with as few batch-norms as can be, and a note."""
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    if not norms:
        return model, "not applied: no batch-norm"
    result = copy_of(model)
    made, readers, constants = producers(result), consumers(result), initializers(result)
    whole = needed_whole(result)
    gone = set()
    for norm in [n for n in result.graph.node if n.op_type == "BatchNormalization"]:
        layer = made.get(norm.input[0])
        if layer is None or len(readers[norm.input[0]]) > 1 or norm.input[0] in whole:
            continue
        if _fold(result, layer, norm, constants):
            gone.add(norm.name)
    set_nodes(result, [n for n in result.graph.node if n.name not in gone])
    prune(result)
    return result, f"{len(gone)} of {len(norms)} batch-norms folded"


def affine_of(
    norm: NodeProto, constants: Mapping[str, NDArray[np.generic]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What a batch-norm with constants does, (x - mean) * factor + shift: factor, shift and mean, (C,) each."""
    scale, shift, mean, variance = (np.asarray(constants[i], np.float64) for i in norm.input[1:5])
    epsilon = attribute(norm, "epsilon")
    factor = scale / np.sqrt(variance + (1e-5 if epsilon is None else float(epsilon)))  # type: ignore[arg-type]
    return factor, shift, mean


def _fold(model: ModelProto, layer: NodeProto, norm: NodeProto, constants: dict[str, NDArray[np.generic]]) -> bool:
    """Put one batch-norm into its layer; False where the pattern does not hold."""
    if layer.op_type not in ("Conv", "ConvTranspose", "Gemm") or any(i not in constants for i in norm.input[1:]):
        return False
    if any(name not in constants for name in layer.input[1:] if name):
        return False
    if layer.op_type == "ConvTranspose" and attribute(layer, "group") not in (None, 1):
        return False
    if layer.op_type == "Gemm" and any(attribute(layer, k) not in (None, 1.0) for k in ("alpha", "beta")):
        return False
    factor, shift, mean = affine_of(norm, constants)
    weight = np.asarray(constants[layer.input[1]], np.float64)
    shape = [1] * weight.ndim
    shape[weight_axis(layer)] = -1
    has_bias = len(layer.input) > 2 and layer.input[2]
    bias = np.asarray(constants[layer.input[2]], np.float64) if has_bias else np.zeros(len(factor))
    names = (f"{layer.name}/folded_weight", f"{layer.name}/folded_bias")
    set_initializer(model, names[0], (weight * factor.reshape(shape)).astype(np.float32))
    set_initializer(model, names[1], ((bias - mean) * factor + shift).astype(np.float32))
    inputs = [layer.input[0], *names]
    del layer.input[:]
    layer.input.extend(inputs)
    layer.output[0] = norm.output[0]
    return True
