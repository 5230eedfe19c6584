"""A result that is only split is made in parts; any other use of it leaves it whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from networks import NORMAL, SURE, Constants, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.graph import shapes_of
from edgetl_export.passes.split_early import split_early

Array = np.ndarray  # type: ignore[type-arg]
LEFT_ALONE = "not applied: no convolution's result is only split into whole blocks of channels"
NUMBERS: Constants = {"low": np.array(-0.1, np.float32), "high": np.array(0.4, np.float32), "two": np.float32([[2]])}


def run(model: ModelProto) -> list[Array]:
    return [np.asarray(v) for v in InferenceSession(model.SerializeToString()).run(None, {"frame": frames()[0]})]


def node(op: str, inputs: Sequence[str], result: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), [result], name=f"{result}_{op.lower()}", **attributes)


ACTS = {
    "none": list[NodeProto](),
    "relu": [node("Relu", ["made"], "x")],
    "clip": [node("Clip", ["made", "low", "high"], "x")],
    "silu": [node("Sigmoid", ["made"], "gate"), node("Mul", ["made", "gate"], "x")],
    "scaled": [node("Mul", ["made", "two"], "twice"), node("Tanh", ["twice"], "x")],
}


def network(
    act: Sequence[NodeProto] = ACTS["silu"],
    *,
    sizes: Sequence[int] = (8, 16),
    end: Sequence[NodeProto] = (),
    outputs: Sequence[str] = (),
    axis: int = 1,
    group: int = 1,
) -> ModelProto:
    """A convolution of 24 channels, an activation, a Split; one part goes through another convolution."""
    names = [f"part{i}" for i in range(len(sizes))]
    x = "x" if act else "made"
    nodes = [
        *frame_nodes(),
        conv("stem", "normal", "features", stride=2),
        conv("a", "features", "made", group=group),
        *act,
        helper.make_node("Split", [x, "sizes"], names, name="split", axis=axis),
        *end,
    ]
    held = {**NORMAL, **NUMBERS, **SURE, **weights("stem", 12, 3, 3, 3), **weights("a", 24, 12 // group, 3, 3)}
    held |= weights("b", 16, 16, 3, 3)
    return graph_of(nodes, [*names, *outputs], {**held, "sizes": np.array(sizes, np.int64)})


@pytest.mark.parametrize("act", ACTS)
def test_parts_are_the_same(act: str) -> None:
    model = network(ACTS[act])
    split, note = split_early(model)
    assert note == "1 convolution split where the result was"
    assert [n.op_type for n in split.graph.node].count("Conv") == 3
    assert "Split" not in {n.op_type for n in split.graph.node}
    assert len({n.name for n in split.graph.node}) == len(split.graph.node)
    assert "a_w" not in {i.name for i in split.graph.initializer}
    for after, before in zip(run(split), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_three_parts_and_a_negative_axis() -> None:
    model = network(sizes=(8, 8, 8), axis=-3)
    split, _ = split_early(model)
    assert [shapes_of(split)[f"part{i}"][1] for i in range(3)] == [8, 8, 8]
    for after, before in zip(run(split), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_without_bias() -> None:
    model = network()
    made = next(n for n in model.graph.node if n.name == "a")
    del made.input[2]
    split, _ = split_early(model)
    for after, before in zip(run(split), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


def test_several_at_once() -> None:
    """The second convolution reads a part of the first one's result."""
    more = [
        conv("b", "part1", "again"),
        helper.make_node("Split", ["again"], ["left", "right"], name="halves", axis=1, num_outputs=2),
    ]
    model = network(end=more, outputs=["left", "right"])
    split, note = split_early(model)
    assert note == "2 convolutions split where the result was"
    for after, before in zip(run(split), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        network(sizes=(4, 20)),
        network(sizes=(12, 12)),
        network(axis=2, sizes=(16, 16)),
        network(group=2),
        network(outputs=["x"]),
        network(outputs=["made"]),
        network(outputs=["gate"]),
        network(end=[node("Neg", ["x"], "other")], outputs=["other"]),
        network(end=[node("Neg", ["gate"], "other")], outputs=["other"]),
        network(end=[either("made", "inner")], outputs=["inner"]),
        network([node("Softmax", ["made"], "x", axis=1)]),
    ],
    ids=["small", "uneven", "rows", "grouped", "result", "inner", "gate", "reader", "gate-reader", "if", "softmax"],
)  # fmt: skip
def test_left_whole(model: ModelProto) -> None:
    assert split_early(model) == (model, LEFT_ALONE)


def test_nothing_to_split() -> None:
    model = graph_of([*frame_nodes(), conv("a", "normal", "y")], ["y"], {**NORMAL, **weights("a", 8, 3, 3, 3)})
    assert split_early(model) == (model, LEFT_ALONE)
