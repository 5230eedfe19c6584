"""Helpers on ONNX graphs: who makes, who reads, outputs in and out, pruning, deterministic files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetl_export.graph import (
    attribute,
    bare_with_shapes,
    consumers,
    downstream,
    initializers,
    load_model,
    producers,
    prune,
    save_model,
    set_initializer,
    with_outputs,
    without_outputs,
)


@pytest.fixture
def model() -> ModelProto:
    """y = relu(x + one) * two, and a dead branch with a constant of its own."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["positive"], name="relu"),
        helper.make_node("Mul", ["positive", "two"], ["y"], name="mul"),
        helper.make_node("Transpose", ["waste"], ["dead"], name="dead", perm=[1, 0]),
    ]
    constants = {"one": np.ones(3, np.float32), "two": np.array(2, np.float32), "waste": np.zeros((2, 2), np.float32)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_producers_and_consumers(model: ModelProto) -> None:
    assert producers(model)["positive"].name == "relu"
    assert "x" not in producers(model)
    assert [n.name for n in consumers(model)["sum"]] == ["relu"]
    assert "y" not in consumers(model)


def test_optional_inputs_left_empty_are_nobodys(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Clip", ["y", "", "two"], ["z"], name="clip"))
    assert "" not in consumers(model)


def test_initializers_are_added_and_replaced(model: ModelProto) -> None:
    set_initializer(model, "two", np.array(5, np.float32))
    set_initializer(model, "new", np.zeros((2, 3), np.float32)[:, ::-1])
    assert initializers(model)["two"] == 5
    assert initializers(model)["new"].shape == (2, 3)
    assert [i.name for i in model.graph.initializer].count("two") == 1


def test_attribute_or_none(model: ModelProto) -> None:
    assert attribute(model.graph.node[3], "perm") == [1, 0]
    assert attribute(model.graph.node[0], "perm") is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], []), (["x"], ["add", "relu", "mul"]), (["positive"], ["mul"]), (["y"], []), (["waste"], ["dead"])],
)
def test_downstream_in_graph_order(model: ModelProto, names: list[str], expected: list[str]) -> None:
    assert [n.name for n in downstream(model, names)] == expected


def test_prune_removes_what_no_output_needs(model: ModelProto) -> None:
    prune(model)
    assert [n.name for n in model.graph.node] == ["add", "relu", "mul"]
    assert set(initializers(model)) == {"one", "two"}
    onnx.checker.check_model(model)


def test_inner_tensors_become_outputs_and_inner_again(model: ModelProto) -> None:
    wide = with_outputs(model, ["positive", "y"])
    assert [o.name for o in wide.graph.output] == ["y", "positive"]
    x = np.array([[-3, 0, 1]], np.float32)
    y, positive = ReferenceEvaluator(wide).run(None, {"x": x})
    np.testing.assert_array_equal(positive, [[0, 1, 2]])
    np.testing.assert_array_equal(y, [[0, 2, 4]])
    assert [o.name for o in without_outputs(wide, ["positive"]).graph.output] == ["y"]
    assert [o.name for o in model.graph.output] == ["y"], "the given model changed"


def test_saved_bytes_are_the_same_every_time(model: ModelProto, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = load_model(tmp_path / "a")
    assert {"sum", "positive"} <= {v.name for v in loaded.graph.value_info}, "shapes were not inferred"


def test_a_broken_graph_is_neither_saved_nor_loaded(model: ModelProto, tmp_path: Path) -> None:
    onnx.save(model, tmp_path / "whole.onnx")
    model.graph.node[0].input[0] = "nothing"
    with pytest.raises(onnx.checker.ValidationError):
        save_model(model, tmp_path / "broken.onnx")
    assert not (tmp_path / "broken.onnx").exists()
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "whole.onnx").read_bytes()[:-20])
    with pytest.raises(Exception, match=r"."):
        load_model(tmp_path / "cut.onnx")


def test_nothing_of_the_machine_is_saved_but_the_scope_of_a_node(model: ModelProto, tmp_path: Path) -> None:
    """Exporters note stack traces with paths, and lines of the source."""
    inner = helper.make_graph([helper.make_node("Identity", ["positive"], ["inside"])], "inner", [], [])
    inner.output.append(helper.make_tensor_value_info("inside", TensorProto.FLOAT, [1, 3]))
    inner.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/me/secret.py")
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    model.graph.node.append(helper.make_node("If", ["condition"], ["if"], then_branch=inner, else_branch=inner))
    model.graph.value_info.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 3]))
    scopes = {"pkg.torch.onnx.name_scopes": "['', 'stem']", "namespace": ": Net/stem: Conv"}
    parts = [model, model.graph, *model.graph.node, model.graph.input[0], model.graph.value_info[0]]
    for part in (*parts, model.graph.output[0], model.graph.initializer[0]):
        part.doc_string = "/home/me/secret.py"
        if part is not model:
            part.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/me/secret.py, in forward")
    for key, value in scopes.items():
        model.graph.node[0].metadata_props.add(key=key, value=value)
    save_model(model, tmp_path / "a.onnx")
    assert b"secret" not in (tmp_path / "a.onnx").read_bytes()
    assert {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").graph.node[0].metadata_props} == scopes


def test_shapes_are_inferred_without_the_weights() -> None:
    weights = numpy_helper.from_array(np.ones((64, 3, 5, 5), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 9, 9]), ("y", ["n"])))
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    made = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [weights]))
    bare = bare_with_shapes(made)
    (inner,) = bare.graph.value_info
    assert [d.dim_value for d in inner.type.tensor_type.shape.dim] == [1, 64, 5, 5]
    assert bare.graph.initializer[0].raw_data == b"" and len(made.graph.initializer[0].raw_data) == 64 * 75 * 4
