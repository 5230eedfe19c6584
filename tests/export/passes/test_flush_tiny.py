"""Weights too small to matter become zero, branches that add nothing go, and all else stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from networks import SURE, either
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetl_export.graph import initializers
from edgetl_export.passes.flush_tiny import TINY, flush_tiny

X = np.random.default_rng(1).normal(size=(1, 4, 8, 8)).astype(np.float32)


def graph_of(nodes: Sequence[NodeProto], constants: dict[str, NDArray[np.float32]], output: str = "y") -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def run(model: ModelProto) -> NDArray[np.float32]:
    return np.asarray(ReferenceEvaluator(model).run(None, {"x": X})[0], np.float32)


def weights() -> NDArray[np.float32]:
    """Of a 1 x 1 convolution whose last channel has died."""
    w = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    w[3] *= np.float32(1e-39)
    return w


CONV = helper.make_node("Conv", ["x", "w"], ["c"], name="conv")
RELU = helper.make_node("Relu", ["c"], ["y"], name="relu")


def test_dead_weights_are_zero_and_nothing_else_is_touched() -> None:
    w = weights()
    found, note = flush_tiny(graph_of([CONV, RELU], {"w": w}))
    assert note == "4 weights below 1e-18 are zero"
    after = initializers(found)["w"]
    assert not after[3].any() and (after[:3] == w[:3]).all()
    np.testing.assert_allclose(run(found), run(graph_of([CONV, RELU], {"w": w})), atol=1e-30)


def test_a_network_without_any_is_the_same_model() -> None:
    w = np.array([0, 1, -2 * TINY, 1], np.float32).reshape(1, 4, 1, 1).repeat(4, 0)
    model = graph_of([CONV, RELU], {"w": w})
    found, note = flush_tiny(model)
    assert found is model and note.startswith("not applied")


@pytest.mark.parametrize("op", ["Max", "Add"])
def test_a_constant_that_keeps_a_logarithm_safe_stays(op: str) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node(op, ["r", "least"], ["m"]),
        helper.make_node("Log", ["m"], ["y"]),
    ]
    model = graph_of(nodes, {"least": np.array(1e-30, np.float32)})
    found, _ = flush_tiny(model)
    assert found is model and np.isfinite(run(found)).all()


def attention(gamma: float, shape: tuple[int, ...] = (1,), *, turned: bool = False) -> ModelProto:
    """x + gamma * softmax(conv(x)), as position attention adds itself."""
    both = ["x", "m"] if not turned else ["m", "x"]
    nodes = [
        CONV,
        helper.make_node("Softmax", ["c"], ["s"], axis=1),
        helper.make_node("Mul", ["s", "gamma"] if turned else ["gamma", "s"], ["m"]),
        helper.make_node("Add", both, ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    return graph_of(nodes, {"w": np.abs(weights()) + 1, "gamma": np.full(shape, gamma, np.float32)})


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("gamma", [0.0, -4e-20])
def test_a_branch_that_adds_nothing_is_dropped(gamma: float, turned: bool) -> None:
    model = attention(gamma, turned=turned)
    found, note = flush_tiny(model)
    assert note == "1 branch that added nothing dropped"
    assert [n.op_type for n in found.graph.node] == ["Relu"] and not found.graph.initializer
    np.testing.assert_array_equal(run(found), run(model))


def test_a_branch_that_adds_something_stays() -> None:
    model = attention(1e-3)
    assert flush_tiny(model)[0] is model


def test_the_kept_side_must_have_the_sums_shape() -> None:
    """A small tensor that is enlarged by adding zeros of a large one can't take its place."""
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["m"]),
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Add", ["m", "p"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    model = graph_of(nodes, {"zero": np.array(0, np.float32)})
    found, _ = flush_tiny(model)
    assert found is model
    assert run(found).shape == (1, 4, 8, 8)


def test_a_constant_that_is_read_inside_a_node_stays() -> None:
    """There it may keep a division safe."""
    tiny = {"tiny": np.full(1, 1e-20, np.float32), **SURE}
    nodes = [either("tiny", "e"), helper.make_node("Div", ["x", "e"], ["y"], name="div")]
    found, _ = flush_tiny(graph_of(nodes, tiny))
    assert initializers(found)["tiny"] == tiny["tiny"]
