"""Which convolutions TensorRT has INT8 kernels for.

Where a graph says INT8 and there is none, a strongly typed engine can't be built at all: "Could not find any
implementation for node" (https://github.com/NVIDIA/TensorRT/issues/4060, a depthwise convolution; 3640, a stem).
TensorRT for RTX, which the host has, makes kernels of its own and builds those, too. What is left out here is what
NVIDIA's own quantiser leaves out: https://github.com/NVIDIA/Model-Optimizer, modelopt/onnx/quantization/graph_utils.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, NodeProto

from edgetl_export.graph import attribute

FULL = 16
"""Channels of a group from which on every convolution has a kernel."""
VECTOR = 8
"""Channels that smaller ones must be whole multiples of."""
SMALLEST_GROUPED = 3
"""Side of the kernel of a convolution in groups."""


def without_int8_kernel(model: ModelProto) -> frozenset[str]:
    """Names of the convolutions with constant weights that have none."""
    weights = {i.name: tuple(i.dims) for i in model.graph.initializer}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in weights]
    return frozenset(n.name for n in convolutions if not has_int8_kernel(n, weights[n.input[1]]))


def has_int8_kernel(convolution: NodeProto, weight: Sequence[int]) -> bool:
    """Whether a convolution has one. weight: the shape of its weights, (outputs, inputs of a group, *kernel)."""
    outputs, inputs, *kernel = weight
    if min(outputs, inputs) >= FULL:
        return True
    if (attribute(convolution, "group") or 1) != 1:
        return outputs % VECTOR == 0 and min(kernel) >= SMALLEST_GROUPED
    whole = outputs % VECTOR == 0 or inputs % VECTOR == 0
    return whole and max(outputs, inputs) >= FULL and len(set(kernel)) == 1
