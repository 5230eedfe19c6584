"""Batch-norms go into the layer before them, and stay where they can't."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NORMAL, SURE, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.passes.fold_batch_norm import fold_batch_norm


def norm(source: str, result: str, name: str = "bn") -> NodeProto:
    return helper.make_node("BatchNormalization", [source, "s", "b", "m", "v"], [result], name=name, epsilon=1e-3)


def constants(channels: int = 4) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    statistics = {k: rng.normal(size=channels).astype(np.float32) for k in "sbm"}
    return {**NORMAL, **statistics, "v": rng.uniform(0.1, 2, channels).astype(np.float32)}


def run(model: ModelProto) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(InferenceSession(model.SerializeToString()).run(["y"], {"frame": frames()[0]})[0])


def layer_of(kind: str) -> tuple[list[NodeProto], dict[str, np.ndarray]]:  # type: ignore[type-arg]
    if kind == "depthwise":
        nodes = [conv("a", "normal", "x0"), conv("d", "x0", "x", group=4)]
        return nodes, {**weights("a", 4, 3, 3, 3), **weights("d", 4, 1, 3, 3)}
    if kind == "transposed":
        held = weights("a", 3, 4, 2, 2)
        node = helper.make_node("ConvTranspose", ["normal", "a_w"], ["x"], name="a", strides=[2, 2])
        return [node], {"a_w": held["a_w"]}
    if kind == "without bias":
        node = conv("a", "normal", "x")
        del node.input[2:]
        return [node], {"a_w": weights("a", 4, 3, 3, 3)["a_w"]}
    return [conv("a", "normal", "x")], weights("a", 4, 3, 3, 3)


@pytest.mark.parametrize("kind", ["convolution", "depthwise", "transposed", "without bias"])
def test_folded(kind: str) -> None:
    nodes, held = layer_of(kind)
    model = graph_of([*frame_nodes(), *nodes, norm("x", "y")], ["y"], {**constants(), **held})
    folded, note = fold_batch_norm(model)
    assert note == "1 of 1 batch-norms folded"
    assert "BatchNormalization" not in {n.op_type for n in folded.graph.node}
    np.testing.assert_allclose(run(folded), run(model), atol=2e-5)


def test_a_layer_that_others_read_too_keeps_its_batch_norm() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        norm("x", "z"),
        helper.make_node("Add", ["x", "z"], ["y"], name="add"),
    ]
    model = graph_of(nodes, ["y"], {**constants(), **weights("a", 4, 3, 3, 3)})
    folded, note = fold_batch_norm(model)
    assert note == "0 of 1 batch-norms folded" and np.array_equal(run(folded), run(model))


def test_a_batch_norm_without_a_layer_stays() -> None:
    model = graph_of([*frame_nodes(), norm("normal", "y")], ["y"], constants(3))
    assert fold_batch_norm(model)[1] == "0 of 1 batch-norms folded"


def test_none_at_all() -> None:
    model = graph_of([*frame_nodes(), conv("a", "normal", "y")], ["y"], {**NORMAL, **weights("a", 4, 3, 3, 3)})
    assert fold_batch_norm(model) == (model, "not applied: no batch-norm")


def test_a_layer_that_is_read_inside_a_node_keeps_its_batch_norm() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        norm("x", "z"),
        either("x", "e"),
        helper.make_node("Add", ["z", "e"], ["y"], name="add"),
    ]
    model = graph_of(nodes, ["y"], {**constants(), **weights("a", 4, 3, 3, 3), **SURE})
    folded, note = fold_batch_norm(model)
    assert note == "0 of 1 batch-norms folded"
    np.testing.assert_array_equal(run(folded), run(model))
