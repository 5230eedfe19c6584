"""Fold channel order, mean and std into the first convolution, so that no preprocessing is left to run.

Requires: a uint8 NHWC input -> Cast -> Transpose to NCHW -> per-pixel affine steps -> Conv.
Ensures: input -> Cast -> Transpose -> [Pad] -> Conv with adjusted weights; outputs equal up to rounding.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from edgetl_export.graph import attribute, consumers, copy_of, initializers, producers, prune, set_initializer

POINTWISE = frozenset({"Sub", "Div", "Mul", "Add", "Slice", "Concat", "Gather"})
"""Operators that may stand between the frame and the first convolution."""


def fold_input(model: ModelProto) -> tuple[ModelProto, str]:
    """A model without separate normalisation, and a note; the same model when the pattern does not hold."""
    result = copy_of(model)
    transpose = _frame_transpose(result)
    conv = _first_conv(result, transpose) if transpose is not None else None
    if transpose is None or conv is None:
        return model, "not applied: the frame does not reach one convolution through pointwise steps"
    if not _plain_conv(result, conv):
        return model, "not applied: the first convolution is grouped, pads by itself or has no constant weights"
    start = transpose.output[0]
    affine = _affine_between(result, start, conv.input[0])
    if affine is None:
        return model, "not applied: the steps before the first convolution are not affine"
    matrix, offset = affine
    pads = [int(p) for p in attribute(conv, "pads") or [0, 0, 0, 0]]  # type: ignore[attr-defined]
    padded = start
    if any(pads):
        if np.linalg.matrix_rank(matrix) < 3:
            return model, "not applied: no frame value becomes the zero of the padding in every channel"
        value = np.linalg.solve(matrix, -offset)
        if np.ptp(value) > 1e-3:
            return model, "not applied: channels differ in the value that zero padding stands for"
        padded = _insert_pad(result, conv, start, pads, float(value.mean()))
    _rewrite_conv(result, conv, padded, matrix, offset)
    prune(result)
    return result, "channel order, mean and std folded into the first convolution"


def _frame_transpose(model: ModelProto) -> NodeProto | None:
    readers = consumers(model)
    casts = readers.get(model.graph.input[0].name, [])
    if len(casts) != 1 or casts[0].op_type != "Cast":
        return None
    transposes = readers.get(casts[0].output[0], [])
    if len(transposes) != 1 or transposes[0].op_type != "Transpose":
        return None
    return transposes[0]


def _first_conv(model: ModelProto, transpose: NodeProto) -> NodeProto | None:
    """The one convolution that every path from the frame meets first."""
    readers = consumers(model)
    stack, seen, convs = [transpose.output[0]], set(), {}
    while stack:
        name = stack.pop()
        for node in readers.get(name, []):
            if node.op_type == "Conv" and node.input[0] == name:
                convs[id(node)] = node
            elif node.op_type in POINTWISE:
                stack.extend(o for o in node.output if o not in seen)
                seen.update(node.output)
            else:
                return None
    return next(iter(convs.values())) if len(convs) == 1 else None


def _plain_conv(model: ModelProto, conv: NodeProto) -> bool:
    """Whether its constants can be rewritten: one group, its own pads, weights and bias as initializers."""
    constants = {i.name for i in model.graph.initializer}
    return (
        attribute(conv, "group") in (None, 1)
        and attribute(conv, "auto_pad") in (None, b"NOTSET")
        and all(name in constants for name in conv.input[1:] if name)
    )


def _affine_between(model: ModelProto, start: str, end: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(3, 3) matrix and (3,) offset of the steps from `start` to `end`, found by running them; None if not affine."""
    if start == end:
        return np.eye(3), np.zeros(3)
    evaluator = _subgraph(model, start, end)
    shape = _shape_of(model, start)

    def run(x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(evaluator.run(None, {start: x})[0], np.float64)

    zero = run(np.zeros(shape, np.float32))
    if list(zero.shape) != shape or shape[1] != 3:
        return None
    offset = zero[0, :, 0, 0]
    columns = []
    for channel in range(3):
        x = np.zeros(shape, np.float32)
        x[0, channel] = 128
        columns.append((run(x)[0, :, 0, 0] - offset) / 128)
    matrix = np.stack(columns, axis=1)
    trial = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    expected = np.einsum("oc,bchw->bohw", matrix, trial) + offset[None, :, None, None]
    if not np.allclose(run(trial), expected, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
        return None
    return matrix, offset


def _subgraph(model: ModelProto, start: str, end: str) -> ReferenceEvaluator:
    made, names, nodes = producers(model), [end], []
    while names:
        name = names.pop()
        node = made.get(name)
        if name != start and node is not None and node not in nodes:
            nodes.append(node)
            names.extend(i for i in node.input if i)
    ordered = [n for n in model.graph.node if n in nodes]
    needed = {i for n in ordered for i in n.input}
    graph = helper.make_graph(
        ordered,
        "before_first_conv",
        [helper.make_tensor_value_info(start, onnx.TensorProto.FLOAT, _shape_of(model, start))],
        [helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, None)],
        [i for i in model.graph.initializer if i.name in needed],
    )
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=list(model.opset_import)))


def _shape_of(model: ModelProto, name: str) -> list[int]:
    for info in onnx.shape_inference.infer_shapes(model).graph.value_info:
        if info.name == name:
            return [d.dim_value for d in info.type.tensor_type.shape.dim]
    raise ValueError(f"no shape for {name}")


def _insert_pad(model: ModelProto, conv: NodeProto, start: str, pads: list[int], value: float) -> str:
    """Pad with the raw value that becomes zero, so that the border stays what it was."""
    set_initializer(model, "frame_pads", np.array([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], np.int64))
    set_initializer(model, "frame_pad_value", np.array(value, np.float32))
    node = helper.make_node("Pad", [start, "frame_pads", "frame_pad_value"], ["frame_padded"], name="frame_pad")
    position = next(i for i, n in enumerate(model.graph.node) if n is conv or n == conv)
    model.graph.node.insert(position, node)
    for a in conv.attribute:
        if a.name == "pads":
            del a.ints[:]
            a.ints.extend([0, 0, 0, 0])
    return "frame_padded"


def _rewrite_conv(
    model: ModelProto, conv: NodeProto, source: str, matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> None:
    constants = initializers(model)
    weight = np.asarray(constants[conv.input[1]], np.float64)
    bias = np.asarray(constants[conv.input[2]], np.float64) if len(conv.input) > 2 else np.zeros(len(weight))
    set_initializer(model, "frame_conv_weight", np.einsum("oikl,ic->ockl", weight, matrix).astype(np.float32))
    set_initializer(model, "frame_conv_bias", (bias + np.einsum("oikl,i->o", weight, offset)).astype(np.float32))
    target = next(n for n in model.graph.node if list(n.output) == list(conv.output))
    del target.input[:]
    target.input.extend([source, "frame_conv_weight", "frame_conv_bias"])
