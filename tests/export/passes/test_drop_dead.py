"""Channels of zeros and unread ones go; those that anything needs, and whole tensors, stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from networks import NORMAL, SURE, Constants, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.graph import initializers
from edgetl_export.passes.drop_dead import drop_dead

Array = np.ndarray  # type: ignore[type-arg]


def run(model: ModelProto) -> Array:
    return np.asarray(InferenceSession(model.SerializeToString()).run(["y"], {"frame": frames()[0]})[0])


def prelu(name: str, source: str, result: str) -> NodeProto:
    return helper.make_node("PRelu", [source, f"{name}_s"], [result], name=name)


def slopes(name: str, channels: int) -> Constants:
    return {f"{name}_s": np.random.default_rng(3).uniform(-0.5, 0.5, (channels, 1, 1)).astype(np.float32)}


def silent(name: str, *shape: int, channels: Sequence[int]) -> Constants:
    """Weights and bias of a convolution whose `channels` are zero for every frame."""
    held = weights(name, *shape)
    held[f"{name}_w"][list(channels)] = 0
    held[f"{name}_b"][list(channels)] = 0
    return held


def deaf(name: str, *shape: int, channels: Sequence[int]) -> Constants:
    """Weights and bias of a convolution that does not read `channels`."""
    held = weights(name, *shape)
    held[f"{name}_w"][:, list(channels)] = 0
    return held


def shape_of(model: ModelProto, node: str) -> tuple[int, ...]:
    """Of a layer's weights."""
    found = next(n for n in model.graph.node if n.name == node)
    return initializers(model)[found.input[1]].shape


def chain(first: Constants, second: Constants) -> ModelProto:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), prelu("p", "x", "z"), conv("b", "z", "y")]
    return graph_of(nodes, ["y"], {**NORMAL, **first, **second, **slopes("p", 9)})


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (silent("a", 9, 3, 3, 3, channels=[1, 6]), weights("b", 4, 9, 3, 3), 7),
        (weights("a", 9, 3, 3, 3), deaf("b", 4, 9, 3, 3, channels=[0, 3, 7]), 6),
        (silent("a", 9, 3, 3, 3, channels=[1, 6]), deaf("b", 4, 9, 3, 3, channels=[0, 6]), 6),
        (silent("a", 9, 3, 3, 3, channels=range(9)), weights("b", 4, 9, 3, 3), 1),
    ],
    ids=["silent", "unread", "both", "all"],
)
def test_dead_channels_between_two_convolutions(first: Constants, second: Constants, left: int) -> None:
    model = chain(first, second)
    less, note = drop_dead(model)
    assert note == f"{9 - left} channels of 1 convolutions that are zero or unread dropped"
    assert shape_of(less, "a") == (left, 3, 3, 3)
    assert shape_of(less, "b") == (4, left, 3, 3)
    np.testing.assert_allclose(run(less), run(model), atol=1e-5)


def test_what_has_fewer_channels_has_another_name() -> None:
    less, _ = drop_dead(chain(silent("a", 9, 3, 3, 3, channels=[2]), weights("b", 4, 9, 3, 3)))
    made = {o for n in less.graph.node for o in n.output}
    assert {"x", "z"}.isdisjoint(made)
    assert {"normal", "x/live", "z/live", "y"} <= made


def test_what_the_graphs_inside_a_node_read_stays_whole() -> None:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), either("x", "z"), conv("b", "x", "y")]
    held = {**NORMAL, **SURE, **silent("a", 9, 3, 3, 3, channels=[1, 6]), **weights("b", 4, 9, 3, 3)}
    model = graph_of(nodes, ["y", "z"], held)
    assert drop_dead(model) == (model, "not applied: no channel is dead")


def test_a_network_without_dead_channels_is_left_alone() -> None:
    model = chain(weights("a", 9, 3, 3, 3), weights("b", 4, 9, 3, 3))
    assert drop_dead(model) == (model, "not applied: no channel is dead")


@pytest.mark.parametrize(("dead", "left"), [(3, 16), (9, 8), (8, 8)])
def test_whole_blocks_of_channels_stay_whole(dead: int, left: int) -> None:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), conv("b", "x", "y")]
    held = {**silent("a", 16, 3, 3, 3, channels=range(4, 4 + dead)), **weights("b", 4, 16, 3, 3)}
    model = graph_of(nodes, ["y"], {**NORMAL, **held})
    less, _ = drop_dead(model)
    assert shape_of(less, "a") == (left, 3, 3, 3)
    np.testing.assert_allclose(run(less), run(model), atol=1e-5)


def test_a_bias_alone_keeps_a_channel_that_is_read() -> None:
    held = silent("a", 9, 3, 3, 3, channels=[2])
    held["a_b"][2] = 0.5
    model = chain(held, weights("b", 4, 9, 3, 3))
    assert drop_dead(model)[0] is model


@pytest.mark.parametrize("kind", ["output", "reshaped", "depthwise"])
def test_what_needs_all_channels_gets_them(kind: str) -> None:
    held = silent("a", 9, 3, 3, 3, channels=[2])
    after = {
        "output": [],
        "reshaped": [helper.make_node("Flatten", ["x"], ["y"], name="flat", axis=2)],
        "depthwise": [conv("d", "x", "y", group=9)],
    }[kind]
    nodes = [*frame_nodes(), conv("a", "normal", "x" if after else "y"), *after]
    model = graph_of(nodes, ["y"], {**NORMAL, **held, **weights("d", 9, 1, 3, 3)})
    assert drop_dead(model)[0] is model


def test_a_channel_of_a_sum_goes_when_both_terms_are_zero() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        conv("c", "normal", "z"),
        helper.make_node("Add", ["x", "z"], ["sum"], name="add"),
        conv("b", "sum", "y"),
    ]
    held = {
        **silent("a", 9, 3, 3, 3, channels=[1, 2, 3]),
        **silent("c", 9, 3, 3, 3, channels=[3, 4]),
        **weights("b", 4, 9, 3, 3),
    }
    model = graph_of(nodes, ["y"], {**NORMAL, **held})
    less, _ = drop_dead(model)
    assert shape_of(less, "a") == shape_of(less, "c") == (8, 3, 3, 3)
    np.testing.assert_allclose(run(less), run(model), atol=1e-5)


def test_a_term_that_is_an_output_too_keeps_the_other_whole() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "y"),
        conv("c", "normal", "z"),
        helper.make_node("Add", ["y", "z"], ["sum"], name="add"),
        conv("b", "sum", "last"),
    ]
    held = {
        **silent("a", 9, 3, 3, 3, channels=[3]),
        **silent("c", 9, 3, 3, 3, channels=[3]),
        **weights("b", 4, 9, 3, 3),
    }
    model = graph_of(nodes, ["y", "last"], {**NORMAL, **held})
    assert drop_dead(model)[0] is model


def test_through_concat_slice_batch_norm_and_transposed_convolution() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x", stride=2),
        conv("c", "normal", "z", stride=2),
        helper.make_node("Concat", ["x", "z"], ["both"], name="concat", axis=1),
        helper.make_node("BatchNormalization", ["both", "s", "t", "m", "v"], ["n"], name="bn"),
        prelu("p", "n", "q"),
        helper.make_node("Slice", ["q", "from", "to", "axis"], ["part"], name="slice"),
        helper.make_node("ConvTranspose", ["q", "up_w"], ["u"], name="up", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["part", "up2_w"], ["u2"], name="up2", strides=[2, 2]),
        helper.make_node("Add", ["u", "u2"], ["y"], name="add"),
    ]
    rng = np.random.default_rng(1)
    norm = {k: rng.uniform(0.5, 1, 13).astype(np.float32) for k in "stmv"}
    norm["s"][[0, 5, 9]] = norm["t"][[0, 5, 9]] = 0
    up = {"up_w": weights("up", 13, 4, 2, 2)["up_w"], "up2_w": weights("up2", 6, 4, 2, 2)["up2_w"]}
    up["up_w"][[7, 11]] = up["up2_w"][7 - 4] = 0
    cut = {k: np.array([v], np.int64) for k, v in (("from", 4), ("to", 10), ("axis", 1))}
    held = {**weights("a", 9, 3, 3, 3), **weights("c", 4, 3, 3, 3), **norm, **up, **cut, **slopes("p", 13)}
    model = graph_of(nodes, ["y"], {**NORMAL, **held})
    less, _ = drop_dead(model)
    assert shape_of(less, "a") == (6, 3, 3, 3)
    assert shape_of(less, "c") == (2, 3, 3, 3)
    assert shape_of(less, "up") == (8, 4, 2, 2)
    assert shape_of(less, "up2") == (3, 4, 2, 2)
    np.testing.assert_allclose(run(less), run(model), atol=1e-5)


def test_a_chain_of_dead_layers_goes_from_both_ends() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        conv("c", "x", "z"),
        conv("b", "z", "y"),
    ]
    middle = weights("c", 6, 9, 3, 3)
    middle["c_w"][1] = 0
    middle["c_w"][1, 5] = 1
    middle["c_w"][[0, 2, 3, 4, 5], 4] = 0
    held = {
        **silent("a", 9, 3, 3, 3, channels=[5]),
        **middle,
        **deaf("b", 4, 6, 3, 3, channels=[1, 2]),
    }
    held["c_b"][1] = 0
    model = graph_of(nodes, ["y"], {**NORMAL, **held})
    less, _ = drop_dead(model)
    assert shape_of(less, "a") == (7, 3, 3, 3)
    assert shape_of(less, "c") == (4, 7, 3, 3)
    np.testing.assert_allclose(run(less), run(model), atol=1e-5)
