"""Fold channel order, mean and std into the first convolution, so that no preprocessing is left to run.

Requires: a uint8 NHWC input -> Cast -> Transpose to NCHW -> per-pixel affine steps -> Conv.
Ensures: input -> Cast -> Transpose -> [Pad] -> Conv with adjusted weights; outputs equal up to rounding. The frame's
whole numbers are exact in bf16, which those divided by 255 are not.
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
ZERO = 1e-6
"""A frame value below this is what padding with zero writes anyway."""


def fold_input(model: ModelProto) -> tuple[ModelProto, str]:
    """A model without separate normalisation, and a note; the same model when the pattern does not hold.

    Where several convolutions read the frame each is folded by itself; what else reads it keeps its steps.
    """
    result = copy_of(model)
    transpose = _frame_transpose(result)
    convs = _first_convs(result, transpose) if transpose is not None else []
    if transpose is None or not convs:
        return model, "not applied: the frame reaches no convolution through pointwise steps"
    reasons = []
    for conv in convs:
        if reason := _fold(result, conv, transpose.output[0]):
            reasons.append(reason)
    if len(reasons) == len(convs):
        return model, f"not applied: {reasons[0]}"
    prune(result)
    count = len(convs) - len(reasons)
    which = "the first convolution" if len(convs) == 1 else f"{count} of the {len(convs)} first convolutions"
    return result, f"channel order, mean and std folded into {which}"


def _fold(model: ModelProto, conv: NodeProto, start: str) -> str:
    """Let one convolution read the frame as it is, in place; or why that can't be."""
    if not _plain_conv(model, conv):
        return "the first convolution is grouped, pads by itself or has no constant weights"
    affine = _affine_between(model, start, conv.input[0])
    if affine is None:
        return "the steps before the first convolution are not affine"
    matrix, offset = affine
    pads = [int(p) for p in attribute(conv, "pads") or [0, 0, 0, 0]]  # type: ignore[attr-defined]
    padded = start
    if any(pads):
        if np.linalg.matrix_rank(matrix) < 3:
            return "no frame value becomes the zero of the padding in every channel"
        value = np.linalg.solve(matrix, -offset)
        if np.ptp(value) > 1e-3:
            return "channels differ in the value that zero padding stands for"
        if abs(value.mean()) > ZERO:
            padded = _insert_pad(model, conv, start, pads, float(value.mean()))
    _rewrite_conv(model, conv, padded, matrix, offset)
    return ""


def _frame_transpose(model: ModelProto) -> NodeProto | None:
    readers = consumers(model)
    casts = readers.get(model.graph.input[0].name, [])
    if len(casts) != 1 or casts[0].op_type != "Cast":
        return None
    transposes = readers.get(casts[0].output[0], [])
    if len(transposes) != 1 or transposes[0].op_type != "Transpose":
        return None
    return transposes[0]


def _first_convs(model: ModelProto, transpose: NodeProto) -> list[NodeProto]:
    """The convolutions that the frame reaches through pointwise steps alone, in graph order."""
    readers = consumers(model)
    stack, seen, found = [transpose.output[0]], set(), set()
    while stack:
        name = stack.pop()
        for node in readers.get(name, []):
            if node.op_type == "Conv" and node.input[0] == name:
                found.add(node.output[0])
            elif node.op_type in POINTWISE:
                stack.extend(o for o in node.output if o not in seen)
                seen.update(node.output)
    return [node for node in model.graph.node if node.output and node.output[0] in found]


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
    if evaluator is None:
        return None
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


def _subgraph(model: ModelProto, start: str, end: str) -> ReferenceEvaluator | None:
    """What makes `end`; None where that is more than pointwise steps."""
    made, names, nodes = producers(model), [end], []
    while names:
        name = names.pop()
        node = made.get(name)
        if name != start and node is not None and node not in nodes:
            nodes.append(node)
            names.extend(i for i in node.input if i)
    if any(n.op_type not in POINTWISE for n in nodes):
        return None
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
    own = _own(model)
    set_initializer(model, f"frame_pads{own}", np.array([0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]], np.int64))
    set_initializer(model, f"frame_pad_value{own}", np.array(value, np.float32))
    inputs, output = [start, f"frame_pads{own}", f"frame_pad_value{own}"], f"frame_padded{own}"
    node = helper.make_node("Pad", inputs, [output], name=f"frame_pad{own}")
    position = next(i for i, n in enumerate(model.graph.node) if n is conv or n == conv)
    model.graph.node.insert(position, node)
    for a in conv.attribute:
        if a.name == "pads":
            del a.ints[:]
            a.ints.extend([0, 0, 0, 0])
    return output


def _own(model: ModelProto) -> str:
    """What sets the names of this convolution apart from those of the ones that were folded before it."""
    count = sum(i.name.startswith("frame_conv_weight") for i in model.graph.initializer)
    return f"_{count}" if count else ""


def _rewrite_conv(
    model: ModelProto, conv: NodeProto, source: str, matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> None:
    constants = initializers(model)
    weight = np.asarray(constants[conv.input[1]], np.float64)
    has_bias = len(conv.input) > 2 and conv.input[2]
    bias = np.asarray(constants[conv.input[2]], np.float64) if has_bias else np.zeros(len(weight))
    names = [f"frame_conv_{part}{_own(model)}" for part in ("weight", "bias")]
    set_initializer(model, names[0], np.einsum("oikl,ic->ockl", weight, matrix).astype(np.float32))
    set_initializer(model, names[1], (bias + np.einsum("oikl,i->o", weight, offset)).astype(np.float32))
    target = next(n for n in model.graph.node if list(n.output) == list(conv.output))
    del target.input[:]
    target.input.extend([source, *names])
