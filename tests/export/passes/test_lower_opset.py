"""What an older opset says, a newer one said: the same numbers on ONNX Runtime, or the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from networks import frames, residual_net
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgetl_export.passes.lower_opset import REDUCES, lower_opset

Array = np.ndarray  # type: ignore[type-arg]
AXES = {"axes": np.array([1, -1], np.int64)}


def net(nodes: Sequence[NodeProto], outputs: Sequence[str], held: Mapping[str, Array], opset: int = 19) -> ModelProto:
    """A graph of one input of 1x7x6x8 floats."""
    made = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 7, 6, 8])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v, n) for n, v in held.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def outputs_of(model: ModelProto, x: Array) -> list[Array]:
    return [np.asarray(v) for v in InferenceSession(model.SerializeToString()).run(None, {"x": x})]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: object) -> NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=op, **attributes)


LOWERED: dict[str, tuple[NodeProto, dict[str, Array]]] = {
    **{op: (node(op, ["x", "axes"], keepdims=0), AXES) for op in sorted(REDUCES)},
    "all axes": (node("ReduceMax", ["x"]), {}),
    "even parts": (node("Split", ["x"], ["y", "z"], axis=2, num_outputs=2), {}),
    "a smaller last part": (node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2), {}),
    "parts of given sizes": (
        node("Split", ["x", "sizes"], ["y", "z"], axis=1),
        {"sizes": np.array([2, 5], np.int64)},
    ),
    "resize": (
        node("Resize", ["x", "", "scales"], mode="linear", antialias=0, keep_aspect_ratio_policy="stretch"),
        {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "pad": (node("Pad", ["x", "pads"]), {"pads": np.array([0, 0, 1, 2, 0, 0, 3, 1], np.int64)}),
    "pool": (node("AveragePool", ["x"], kernel_shape=[2, 2]), {}),
    "cast": (node("Cast", ["x"], to=TensorProto.FLOAT, saturate=1), {}),
}


@pytest.mark.parametrize("name", LOWERED)
def test_the_same_in_an_older_opset(name: str) -> None:
    """ONNX Runtime has two kernels for AveragePool, which round otherwise."""
    made, held = LOWERED[name]
    model = net([made], made.output, held)
    low = lower_opset(model, 17)
    assert {each.domain: each.version for each in low.opset_import} == {"": 17}
    onnx.checker.check_model(low, full_check=True)
    x = np.random.default_rng(3).uniform(0.5, 2, (1, 7, 6, 8)).astype(np.float32)
    for found, expected in zip(outputs_of(low, x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6 if name == "pool" else 0)


NEWER: dict[str, tuple[NodeProto, dict[str, Array]]] = {
    "an operator": (node("Mish", ["x"]), {}),
    "an attribute": (
        node("Resize", ["x", "", "scales"], mode="linear", antialias=1),
        {"scales": np.array([1, 1, 0.5, 0.5], np.float32)},
    ),
    "a value of an attribute": (node("Pad", ["x", "pads"], mode="wrap"), {"pads": np.ones(8, np.int64)}),
    "an input": (
        node("Pad", ["x", "pads", "", "axes"]),
        {"pads": np.ones(4, np.int64), "axes": np.array([2, 3], np.int64)},
    ),
    "axes that are computed": (node("ReduceMax", ["x", "known"]), {}),
    "dilations": (node("AveragePool", ["x"], kernel_shape=[2, 2], dilations=[2, 2]), {}),
}


@pytest.mark.parametrize("name", NEWER)
def test_what_is_newer_stays(name: str) -> None:
    made, held = NEWER[name]
    before = [node("Identity", ["axes"], ["known"])] if "known" in made.input else []
    model = net([*before, made], made.output, {**AXES, **held} if before else held)
    assert lower_opset(model, 17) is model


def test_a_graph_of_that_opset_is_left_alone() -> None:
    model = net([node("Relu", ["x"])], ["y"], {}, opset=17)
    assert lower_opset(model, 17) is model and lower_opset(model, 18) is model


def test_a_network_keeps_its_names() -> None:
    model = residual_net()
    low = lower_opset(model, 17)
    assert [n.name for n in low.graph.node] == [n.name for n in model.graph.node]
    found, expected = (
        InferenceSession(each.SerializeToString()).run(None, {"frame": frames()[0]}) for each in (low, model)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
