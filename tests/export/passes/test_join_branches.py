"""Branches that are added up become one convolution; what one does not compute, or not as cheaply, stays."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NORMAL, SURE, Constants, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.passes.join_branches import join_branches

LEFT_ALONE = "not applied: no branches of convolutions are added up or scaled"
CHANNELS = 8


def run(model: ModelProto) -> list[np.ndarray]:  # type: ignore[type-arg]
    return [np.asarray(v) for v in InferenceSession(model.SerializeToString()).run(None, {"frame": frames()[0]})]


def norm(source: str, result: str) -> NodeProto:
    return helper.make_node("BatchNormalization", [source, "s", "b", "m", "v"], [result], name=f"bn_{result}")


def add(first: str, second: str, result: str, op: str = "Add") -> NodeProto:
    return helper.make_node(op, [first, second], [result], name=f"{op}_{result}")


def held(**kernels: tuple[int, ...]) -> Constants:
    """Weights of convolutions by name, the stem's, a batch-norm's and a factor for each channel."""
    rng = np.random.default_rng(0)
    found: Constants = {k: rng.normal(size=CHANNELS).astype(np.float32) for k in "sbm"}
    found["v"] = rng.uniform(0.1, 2, CHANNELS).astype(np.float32)
    found["ls"] = rng.uniform(0.1, 1, (CHANNELS, 1, 1)).astype(np.float32)
    for name, shape in kernels.items():
        found |= weights(name, *shape)
    return {**NORMAL, **SURE, **weights("stem", CHANNELS, 3, 3, 3), **found}


def model_of(nodes: list[NodeProto], constants: Constants, outputs: tuple[str, ...] = ("y",)) -> ModelProto:
    """A stem that makes "x", then these nodes."""
    stem = [conv("stem", "normal", "x0"), helper.make_node("Relu", ["x0"], ["x"], name="relu")]
    return graph_of([*frame_nodes(), *stem, *nodes], outputs, constants)


def joined_as_one(model: ModelProto, branches: int) -> ModelProto:
    """The model after the pass; it computes the same with a convolution beside the stem's, and nothing else."""
    joined, note = join_branches(model)
    assert note == f"{branches} branches joined into 1 convolution"
    assert [n.op_type for n in joined.graph.node][4:] == ["Conv", "Relu", "Conv"]
    for after, before in zip(run(joined), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=2e-5)
    return joined


@pytest.mark.parametrize("group", [1, 2, CHANNELS])
def test_a_block_of_repvgg(group: int) -> None:
    nodes = [
        conv("a", "x", "wide", group=group),
        conv("c", "x", "narrow", pad=0, group=group),
        norm("x", "self"),
        add("wide", "narrow", "both"),
        add("both", "self", "y"),
    ]
    ins = CHANNELS // group
    joined_as_one(model_of(nodes, held(a=(CHANNELS, ins, 3, 3), c=(CHANNELS, ins, 1, 1))), 3)


def test_strides_and_no_branch_without_a_kernel() -> None:
    nodes = [conv("a", "x", "p", stride=2), conv("c", "x", "q", pad=0, stride=2), add("p", "q", "y")]
    joined_as_one(model_of(nodes, held(a=(4, CHANNELS, 3, 3), c=(4, CHANNELS, 1, 1))), 2)


def test_a_batch_norm_behind_the_sum_as_in_repvit() -> None:
    nodes = [
        conv("a", "x", "wide", group=CHANNELS),
        conv("c", "x", "narrow", pad=0, group=CHANNELS),
        add("wide", "narrow", "both"),
        add("both", "x", "all"),
        norm("all", "y"),
    ]
    joined_as_one(model_of(nodes, held(a=(CHANNELS, 1, 3, 3), c=(CHANNELS, 1, 1, 1))), 3)


def test_a_difference_scaled_by_channel_as_in_fastvit() -> None:
    nodes = [
        conv("a", "x", "mixed", group=CHANNELS),
        norm("x", "self"),
        add("mixed", "self", "apart", "Sub"),
        add("ls", "apart", "scaled", "Mul"),
        add("x", "scaled", "y"),
    ]
    joined_as_one(model_of(nodes, held(a=(CHANNELS, 1, 3, 3))), 3)


def test_a_layer_scale_goes_into_its_convolution() -> None:
    nodes = [conv("a", "x", "p"), add("p", "ls", "q", "Mul"), add("q", "x", "y")]
    model = model_of(nodes, held(a=(CHANNELS, CHANNELS, 3, 3)))
    joined, note = join_branches(model)
    assert note == "factors by channel folded into 1 convolution"
    assert [n.op_type for n in joined.graph.node][4:] == ["Conv", "Relu", "Conv", "Add"]
    np.testing.assert_allclose(run(joined)[0], run(model)[0], atol=2e-5)


def test_kernels_that_lie_unevenly() -> None:
    """Two whose windows begin a row apart: one of four rows holds both."""
    wide, tall = conv("a", "x", "p"), conv("c", "x", "q")
    for node, pads in ((wide, [0, 1, 2, 1]), (tall, [1, 0, 1, 0])):
        next(a for a in node.attribute if a.name == "pads").ints[:] = pads
    nodes = [wide, tall, add("p", "q", "y")]
    joined = joined_as_one(model_of(nodes, held(a=(4, CHANNELS, 3, 3), c=(4, CHANNELS, 3, 1))), 2)
    assert [list(i.dims) for i in joined.graph.initializer if i.dims[:1] == [4] and len(i.dims) == 4] == [[4, 8, 4, 3]]


def test_the_largest_sum_is_joined_and_others_keep_theirs() -> None:
    nodes = [
        conv("a", "x", "p"),
        conv("c", "x", "q", pad=0),
        add("p", "q", "both"),
        helper.make_node("Sigmoid", ["x"], ["z"], name="sigmoid"),
        add("both", "z", "y"),
    ]
    model = model_of(nodes, held(a=(CHANNELS, CHANNELS, 3, 3), c=(CHANNELS, CHANNELS, 1, 1)))
    joined, note = join_branches(model)
    assert note == "2 branches joined into 1 convolution"
    assert [n.op_type for n in joined.graph.node].count("Add") == 1
    np.testing.assert_allclose(run(joined)[0], run(model)[0], atol=2e-5)


def branches(**changed: object) -> list[NodeProto]:
    """Two convolutions of x, added up, one of them changed."""
    options = {"pad": 0, **changed}
    return [conv("a", "x", "p"), conv("c", str(options.pop("source", "x")), "q", **options), add("p", "q", "y")]  # type: ignore[arg-type]


TWO = {"a": (CHANNELS, CHANNELS, 3, 3), "c": (CHANNELS, CHANNELS, 1, 1)}


@pytest.mark.parametrize(
    "model",
    [
        model_of([conv("a", "x", "p"), add("p", "x", "y")], held(a=(CHANNELS, CHANNELS, 3, 3))),
        model_of(branches(source="x0"), held(**TWO)),
        model_of(branches(group=CHANNELS), held(a=TWO["a"], c=(CHANNELS, 1, 1, 1))),
        model_of(branches(), held(**TWO), ("y", "q")),
        model_of([*branches(), either("q", "inner")], held(**TWO), ("y", "inner")),
    ],
    ids=["a mere residual", "another source", "other groups", "a branch that is an output", "one read inside a node"],
)
def test_left_alone(model: ModelProto) -> None:
    assert join_branches(model) == (model, LEFT_ALONE)


def test_more_taps_than_before_are_no_gain() -> None:
    nodes = [conv("a", "x", "p"), conv("c", "x", "q"), add("p", "q", "y")]
    for node, pads in zip(nodes, ([0, 1, 0, 1], [1, 0, 1, 0]), strict=False):
        next(a for a in node.attribute if a.name == "pads").ints[:] = pads
    model = model_of(nodes, held(a=(4, CHANNELS, 1, 3), c=(4, CHANNELS, 3, 1)))
    assert join_branches(model) == (model, LEFT_ALONE)
