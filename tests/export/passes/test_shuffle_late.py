"""A last transposed convolution spreads after decoding; one that overlaps, or is followed by none, stays."""

from __future__ import annotations

import numpy as np
import pytest
from networks import NORMAL, SURE, Constants, conv, either, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxruntime import InferenceSession

from edgetl_export.passes.shuffle_late import shuffle_late

Array = np.ndarray  # type: ignore[type-arg]


def run(model: ModelProto) -> list[Array]:
    return [np.asarray(v) for v in InferenceSession(model.SerializeToString()).run(None, {"frame": frames()[0]})]


def held(kernel: int = 2, channels: int = 2) -> Constants:
    up = weights("up", 4, channels, kernel, kernel)
    return {
        **NORMAL,
        **weights("a", 4, 3, 3, 3),
        "up_w": up["up_w"],
        "up_b": np.linspace(-0.1, 0.1, channels, dtype=np.float32),
        "s": np.linspace(-1, 2, channels, dtype=np.float32).reshape(-1, 1, 1),
        "half": np.array(0.5, np.float32),
    }


def up(bias: bool = True, **more: int | list[int]) -> NodeProto:
    inputs = ["x", "up_w", "up_b"] if bias else ["x", "up_w"]
    return helper.make_node("ConvTranspose", inputs, ["z"], name="up", **{"strides": [2, 2], **more})


def decode(scores: str) -> list[NodeProto]:
    return [
        helper.make_node("Split", [scores], ["first", "second"], name="split", axis=1, num_outputs=2),
        helper.make_node("Greater", ["second", "first"], ["more"], name="greater"),
        helper.make_node("Cast", ["more"], ["y"], name="to bytes", to=TensorProto.UINT8),
    ]


def activated() -> list[NodeProto]:
    return [helper.make_node("PRelu", ["z", "s"], ["act"], name="act"), *decode("act")]


def test_what_the_graphs_inside_a_node_read_is_spread() -> None:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), up(), helper.make_node("PRelu", ["z", "s"], ["y"], name="act")]
    model = graph_of([*nodes, either("z", "inner")], ["y", "inner"], {**held(), **SURE})
    late, _ = shuffle_late(model)
    assert sum(n.op_type == "DepthToSpace" for n in late.graph.node) == 2
    for found, expected in zip(run(late), run(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def mask_network(bias: bool = True) -> ModelProto:
    nodes = [*frame_nodes(), conv("a", "normal", "x"), up(bias), *activated()]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 64, 96, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [helper.make_tensor(n, TensorProto.FLOAT, v.shape, v.ravel()) for n, v in held().items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_mask_is_decided_before_it_is_spread(bias: bool) -> None:
    model = mask_network(bias)
    late, note = shuffle_late(model)
    assert note == "what follows a transposed convolution is computed before spreading"
    assert [n.op_type for n in late.graph.node][-5:] == ["PRelu", "Split", "Greater", "Cast", "DepthToSpace"]
    assert "ConvTranspose" not in {n.op_type for n in late.graph.node}
    (before,), (after,) = run(model), run(late)
    assert 0 < before.mean() < 1
    assert (before == after).mean() > 0.9999


def test_a_layer_keeps_its_name() -> None:
    late, _ = shuffle_late(mask_network())
    assert next(n for n in late.graph.node if n.name == "up").op_type == "Conv"


def test_scores_that_are_read_too_are_spread() -> None:
    model = mask_network()
    model.graph.output.append(helper.make_tensor_value_info("act", TensorProto.FLOAT, None))
    late, _ = shuffle_late(model)
    np.testing.assert_allclose(run(late)[1], run(model)[1], atol=1e-5)


def test_what_can_not_be_moved_is_computed_again() -> None:
    model = mask_network()
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.BOOL, None))
    late, _ = shuffle_late(model)
    assert (run(late)[1] == run(model)[1]).mean() > 0.9999


def test_what_mixes_cells_follows_the_spreading() -> None:
    after = [
        helper.make_node("Mul", ["z", "half"], ["m"], name="mul"),
        helper.make_node("Sigmoid", ["m"], ["p"], name="sigmoid"),
        conv("last", "p", "y"),
    ]
    model = graph_of(
        [*frame_nodes(), conv("a", "normal", "x"), up(), *after], ["y"], {**held(), **weights("last", 2, 2, 3, 3)}
    )
    late, _ = shuffle_late(model)
    assert [n.op_type for n in late.graph.node][-5:] == ["Conv", "Mul", "Sigmoid", "DepthToSpace", "Conv"]
    np.testing.assert_allclose(run(late)[0], run(model)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "constants"),
    [
        (up(strides=[1, 1]), held()),
        (up(), held(kernel=3)),
        (up(output_padding=[1, 1]), held()),
        (up(pads=[1, 1, 1, 1]), held()),
        (up(), held(channels=8)),
    ],
    ids=["stride", "overlap", "output padding", "pads", "many channels"],
)
def test_another_transposed_convolution_stays(layer: NodeProto, constants: Constants) -> None:
    after = [helper.make_node("PRelu", ["z", "s"], ["y"], name="act")]
    model = graph_of([*frame_nodes(), conv("a", "normal", "x"), layer, *after], ["y"], constants)
    late, note = shuffle_late(model)
    assert late is model
    assert note.startswith("not applied")


def test_one_that_nothing_decides_on_stays() -> None:
    after = [helper.make_node("Flatten", ["z"], ["y"], name="flat")]
    model = graph_of([*frame_nodes(), conv("a", "normal", "x"), up(), *after], ["y"], held())
    assert shuffle_late(model)[0] is model
