"""What does not depend on the frame is computed once, and every node gets a name of its own."""

from __future__ import annotations

import numpy as np
from networks import NORMAL, conv, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgetl_export.passes.fold_constants import fold_constants


def run(model: ModelProto) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(InferenceSession(model.SerializeToString()).run(["y"], {"frame": frames()[0]})[0])


def constant_net() -> ModelProto:
    """The mean is a Constant, the deviation is computed from constants, two nodes share a name, two have none."""
    nodes = frame_nodes()
    made = [
        helper.make_node("Constant", [], ["mean"], value=numpy_helper.from_array(np.array(127, np.float32))),
        helper.make_node("Mul", ["half", "two"], ["std"], name="sub"),
        *nodes,
        conv("a", "normal", "x"),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    constants = {**weights("a", 4, 3, 3, 3), "half": np.array(64, np.float32), "two": np.array(2, np.float32)}
    return graph_of(made, ["y"], constants)


def test_constants_become_initializers() -> None:
    model = constant_net()
    folded, note = fold_constants(model)
    assert note == "2 nodes computed once"
    assert [n.op_type for n in folded.graph.node] == ["Cast", "Transpose", "Sub", "Div", "Conv", "Relu"]
    assert {i.name for i in folded.graph.initializer} == {"mean", "std", "a_w", "a_b"}
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"  # ONNX Runtime refuses two nodes of one name
    np.testing.assert_array_equal(run(folded), run(model))


def test_every_node_has_a_name_of_its_own() -> None:
    names = [n.name for n in fold_constants(constant_net())[0].graph.node]
    assert all(names) and len(set(names)) == len(names)


def test_nothing_to_do_is_the_same_model() -> None:
    nodes = [*frame_nodes(), conv("a", "normal", "y")]
    model = graph_of(nodes, ["y"], {**NORMAL, **weights("a", 4, 3, 3, 3)})
    folded, note = fold_constants(model)
    assert folded is model and note.startswith("not applied")


def test_random_numbers_are_left_alone() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], shape=[1], name="random"),
        helper.make_node("Cast", ["frame"], ["x"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Add", ["x", "r"], ["y"], name="add"),
    ]
    assert fold_constants(graph_of(nodes, ["y"], {}))[1].startswith("not applied")
