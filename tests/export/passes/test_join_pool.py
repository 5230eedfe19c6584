"""Pooling beside a convolution goes into it; pooling that differs in any way stays."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NORMAL, SURE, Constants, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.passes.fold_input import fold_input
from edgetl_export.passes.join_pool import join_pool

Array = np.ndarray  # type: ignore[type-arg]
LEFT_ALONE = "not applied: no average pooling stands beside a convolution with the same windows"


def run(model: ModelProto) -> list[Array]:
    return [np.asarray(v) for v in InferenceSession(model.SerializeToString()).run(None, {"frame": frames()[0]})]


def pool(source: str = "normal", *, padded: int = 1, kernel: int = 3) -> NodeProto:
    return helper.make_node(
        "AveragePool",
        [source],
        ["small"],
        name="pool",
        kernel_shape=[kernel] * 2,
        strides=[2, 2],
        pads=[padded] * 4,
        count_include_pad=int(padded > 0),
    )


def held(slope: tuple[int, ...] = (8, 1, 1)) -> Constants:
    slopes = {"s": np.random.default_rng(0).uniform(-0.3, 0.3, slope).astype(np.float32)}
    return {**NORMAL, **slopes, **weights("a", 8, 3, 3, 3), **weights("b", 4, 11, 3, 3), **weights("c", 2, 3, 3, 3)}


@pytest.mark.parametrize("inner", ["x", "z", "small"])
def test_what_the_graphs_inside_a_node_read_stays(inner: str) -> None:
    act = helper.make_node("PRelu", ["x", "s"], ["z"], name="act")
    both = helper.make_node("Concat", ["z", "small"], ["y"], name="both", axis=1)
    nodes = [*frame_nodes(), pool(), conv("a", "normal", "x", stride=2), act, both, either(inner, "inner")]
    model = graph_of(nodes, ["y", "inner"], {**held(), **SURE})
    assert join_pool(model) == (model, LEFT_ALONE)


def stem(pooling: NodeProto, *, act: bool = True, end: str = "y", pad: int = 1) -> ModelProto:
    """Pooling comes first, as the frame does in a module that gets it made smaller."""
    nodes = [
        *frame_nodes(),
        pooling,
        conv("a", "normal", "x" if act else "z", stride=2, pad=pad),
        *([helper.make_node("PRelu", ["x", "s"], ["z"], name="act")] if act else []),
        helper.make_node("Concat", ["z", "small"], ["both"], name="concat", axis=1),
        conv("b", "both", "y"),
        conv("c", "small", "again"),
    ]
    return graph_of(nodes, ["y", end] if end != "y" else ["y"], held())


@pytest.mark.parametrize("act", [True, False], ids=["activation", "none"])
def test_joined(act: bool) -> None:
    model = stem(pool(), act=act)
    joined, note = join_pool(model)
    assert note == "1 average pooling done by the convolution beside"
    assert {"AveragePool", "Concat", "Slice"}.isdisjoint(n.op_type for n in joined.graph.node)
    np.testing.assert_allclose(run(joined)[0], run(model)[0], atol=1e-5)


def test_without_padding() -> None:
    model = stem(pool(padded=0), pad=0)
    joined, note = join_pool(model)
    assert note.startswith("1 average pooling")
    np.testing.assert_allclose(run(joined)[0], run(model)[0], atol=1e-5)


def test_others_read_their_part() -> None:
    model = stem(pool(), end="again")
    joined, _ = join_pool(model)
    assert "AveragePool" not in {n.op_type for n in joined.graph.node}
    for after, before in zip(run(joined), run(model), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_a_third_input_stays_beside() -> None:
    model = stem(pool())
    concat = next(n for n in model.graph.node if n.name == "concat")
    concat.input.insert(0, "z")
    weight = weights("b", 4, 19, 3, 3)
    for tensor in model.graph.initializer:
        if tensor.name == "b_w":
            tensor.dims[1] = 19
            tensor.raw_data = weight["b_w"].tobytes()
    del model.graph.value_info[:]
    joined, _ = join_pool(model)
    assert [n.op_type for n in joined.graph.node].count("Concat") == 1
    assert "AveragePool" not in {n.op_type for n in joined.graph.node}
    np.testing.assert_allclose(run(joined)[0], run(model)[0], atol=1e-5)


def test_the_joined_convolution_reads_the_frame_as_it_is() -> None:
    model = stem(pool())
    folded, note = fold_input(join_pool(model)[0])
    assert note == "channel order, mean and std folded into the first convolution"
    assert {"Sub", "Div"}.isdisjoint(n.op_type for n in folded.graph.node)
    np.testing.assert_allclose(run(folded)[0], run(model)[0], atol=1e-4)


@pytest.mark.parametrize("pooling", [pool("planes"), pool(kernel=5, padded=2)], ids=["another source", "other windows"])
def test_pooling_of_something_else_stays(pooling: NodeProto) -> None:
    assert join_pool(stem(pooling))[1] == LEFT_ALONE


def test_pooling_that_does_not_count_its_padding_stays() -> None:
    pooling = pool()
    next(a for a in pooling.attribute if a.name == "count_include_pad").i = 0
    assert join_pool(stem(pooling))[1] == LEFT_ALONE


def test_an_activation_whose_input_is_read_by_others_stays() -> None:
    model = stem(pool())
    model.graph.output.append(helper.make_tensor_value_info("x", 1, None))
    assert join_pool(model) == (model, LEFT_ALONE)


def test_many_channels_are_pooled_as_they_were() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "wide"),
        pool("wide"),
        conv("d", "wide", "z", stride=2),
        helper.make_node("Concat", ["z", "small"], ["y"], name="concat", axis=1),
    ]
    model = graph_of(nodes, ["y"], {**NORMAL, **weights("a", 8, 3, 3, 3), **weights("d", 4, 8, 3, 3)})
    assert join_pool(model) == (model, LEFT_ALONE)
