"""Folding preprocessing into the first convolution: equal outputs, or the same model untouched."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from networks import either
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetl_export.graph import initializers
from edgetl_export.passes.fold_input import fold_input

SIZE_HW = (64, 96)
FRAME = np.random.default_rng(0).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
SAME, IMAGENET_MEAN, IMAGENET_STD = (127.0,) * 3, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def network(
    *,
    mean: Sequence[float] = SAME,
    std: Sequence[float] = (128.0,) * 3,
    rgb: bool = True,
    pads: Sequence[int] | None = (1, 1, 1, 1),
    bias: bool = True,
    before: Sequence[NodeProto] = (),
    second_reader: bool = False,
    **conv: object,
) -> ModelProto:
    """uint8 NHWC frame -> Cast -> Transpose -> [order] -> (x - mean) / std -> [before] -> Conv 3x3 stride 2 -> Relu.

    `before` reads "normal" and ends in "x", the convolution's input; `conv` are more attributes of Conv.
    """
    rng = np.random.default_rng(3)
    groups = int(str(conv.get("group", 1)))
    constants: dict[str, NDArray[np.generic]] = {
        "weight": rng.normal(size=(6, 3 // groups, 3, 3)).astype(np.float32),
        "bias": rng.normal(size=6).astype(np.float32),
        "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "std": np.array(std, np.float32).reshape(1, 3, 1, 1),
        "order": np.array([2, 1, 0], np.int64),
        "two": np.array(2, np.float32),
        "green": np.array([1, 1, 1], np.int64),
        "begin": np.array([1], np.int64),
        "end": np.array([99], np.int64),
        "axis": np.array([2], np.int64),
    }
    if pads is not None:
        conv["pads"] = list(pads)
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2], name="planes"),
    ]
    if rgb:
        nodes.append(helper.make_node("Gather", ["planes", "order"], ["ordered"], axis=1, name="order"))
    nodes += [
        helper.make_node("Sub", ["ordered" if rgb else "planes", "mean"], ["centred"], name="sub"),
        helper.make_node("Div", ["centred", "std"], ["normal"], name="div"),
        *before,
        helper.make_node(
            "Conv",
            ["x" if before else "normal", "weight", *(["bias"] if bias else [])],
            ["map"],
            strides=[2, 2],
            name="conv",
            **conv,
        ),
        helper.make_node("Relu", ["map"], ["y"], name="relu"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])]
    if second_reader:
        nodes.append(helper.make_node("ReduceMean", ["normal"], ["brightness"], name="mean", keepdims=1))
        outputs.append(helper.make_tensor_value_info("brightness", TensorProto.FLOAT, ["n", "c", "h", "w"]))
    read = {i for n in nodes for i in n.input}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        outputs,
        [numpy_helper.from_array(v, n) for n, v in constants.items() if n in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: ModelProto) -> NDArray[np.float32]:
    return np.asarray(ReferenceEvaluator(model).run(None, {"frame": FRAME})[0], np.float32)


def operators(model: ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


@pytest.mark.parametrize("rgb", [True, False], ids=["rgb", "bgr"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "pads", [None, (0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 3)], ids=["none", "zero", "even", "asymmetric"]
)
def test_outputs_stay_and_preprocessing_is_gone(rgb: bool, bias: bool, pads: Sequence[int] | None) -> None:
    model = network(rgb=rgb, bias=bias, pads=pads)
    before = model.SerializeToString()
    folded, note = fold_input(model)
    onnx.checker.check_model(folded, full_check=True)
    assert "folded" in note
    expected = run(model)
    np.testing.assert_allclose(run(folded), expected, atol=1e-5 * float(np.abs(expected).max()))
    padding = ["Pad"] if pads and any(pads) else []
    assert operators(folded) == ["Cast", "Transpose", *padding, "Conv", "Relu"]
    assert model.SerializeToString() == before, "the given model changed"


def test_the_frame_is_padded_with_the_value_that_zero_stood_for() -> None:
    folded, _ = fold_input(network(pads=(0, 1, 2, 3)))
    constants = initializers(folded)
    assert constants["frame_pad_value"] == pytest.approx(127.0, abs=1e-3)
    assert constants["frame_pads"].tolist() == [0, 0, 0, 1, 0, 0, 2, 3]
    assert set(constants) == {"frame_pads", "frame_pad_value", "frame_conv_weight", "frame_conv_bias"}


def test_means_that_differ_fold_where_nothing_is_padded() -> None:
    model = network(mean=IMAGENET_MEAN, std=IMAGENET_STD, pads=(0, 0, 0, 0))
    folded, _ = fold_input(model)
    assert operators(folded) == ["Cast", "Transpose", "Conv", "Relu"]
    expected = run(model)
    np.testing.assert_allclose(run(folded), expected, atol=2e-5 * float(np.abs(expected).max()))


def test_a_frame_that_reaches_the_convolution_as_it_is() -> None:
    model = network(mean=(0.0,) * 3, std=(1.0,) * 3, rgb=False)
    folded, _ = fold_input(model)
    assert operators(folded) == ["Cast", "Transpose", "Conv", "Relu"], "zero is what padding writes anyway"
    np.testing.assert_allclose(run(folded), run(model), rtol=1e-5, atol=1e-3)


def test_another_reader_keeps_the_steps() -> None:
    model = network(second_reader=True)
    folded, note = fold_input(model)
    assert note.endswith("folded into the first convolution")
    assert operators(folded).count("Div") == 1 and operators(folded).count("Pad") == 1
    evaluators = [ReferenceEvaluator(m).run(None, {"frame": FRAME}) for m in (model, folded)]
    for was, now in zip(*evaluators, strict=True):
        np.testing.assert_allclose(now, was, atol=2e-5 * float(np.abs(was).max()))


@pytest.mark.parametrize(("mean", "pads"), [(SAME, 2), ((0.0,) * 3, 0)])
def test_several_convolutions_that_read_the_frame(mean: Sequence[float], pads: int) -> None:
    """The second has weights and padding of its own; a third pads by itself and stays as it is."""
    model = network(mean=mean)
    rng = np.random.default_rng(5)
    more = [
        helper.make_node("Conv", ["normal", "w2"], ["y2"], name="conv2", pads=[2, 2, 2, 2]),
        helper.make_node("Conv", ["normal", "w2"], ["y3"], name="conv3", auto_pad="SAME_UPPER"),
    ]
    model.graph.node.extend(more)
    model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=(4, 3, 5, 5)).astype(np.float32), "w2"))
    for name in ("y2", "y3"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    folded, note = fold_input(model)
    assert note.endswith("folded into 2 of the 3 first convolutions")
    assert operators(folded).count("Pad") == pads
    evaluators = [ReferenceEvaluator(m).run(None, {"frame": FRAME}) for m in (model, folded)]
    for was, now in zip(*evaluators, strict=True):
        np.testing.assert_allclose(now, was, atol=5e-5 * float(np.abs(was).max()))


def node(operator: str, *inputs: str, output: str = "x", **attributes: object) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=f"extra_{operator}", **attributes)


UNTOUCHED = {
    "means that differ under padding": (network(mean=IMAGENET_MEAN, std=IMAGENET_STD), "channels differ"),
    "a step that is not pointwise": (network(before=[node("Relu", "normal")]), "pointwise"),
    "a step that is not affine": (network(before=[node("Mul", "normal", "normal")]), "not affine"),
    "a crop": (network(before=[node("Slice", "normal", "begin", "end", "axis")]), "not affine"),
    "one channel three times, padded": (
        network(before=[node("Gather", "normal", "green", axis=1)]),
        "zero of the padding",
    ),
    "a grouped convolution": (network(group=3), "grouped"),
    "a convolution that pads by itself": (network(pads=None, auto_pad="SAME_UPPER"), "pads by itself"),
}


@pytest.mark.parametrize("case", UNTOUCHED, ids=str)
def test_the_same_model_where_the_pattern_does_not_hold(case: str) -> None:
    model, reason = UNTOUCHED[case]
    onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString()
    result, note = fold_input(model)
    assert result is model
    assert model.SerializeToString() == before
    assert note.startswith("not applied") and reason in note


def test_weights_that_are_no_constants_are_left_alone() -> None:
    model = network()
    weight = next(i for i in model.graph.initializer if i.name == "weight")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weight"], name="weight", value=weight))
    model.graph.initializer.remove(weight)
    result, note = fold_input(model)
    assert result is model and "constant weights" in note


@pytest.mark.parametrize("first", ["Transpose", "nothing"])
def test_a_network_without_the_frames_cast(first: str) -> None:
    """Float input, or the planes made before the cast: nothing to fold, nothing broken."""
    kind = TensorProto.FLOAT if first == "nothing" else TensorProto.UINT8
    nodes = [
        helper.make_node("Transpose", ["frame"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("frame", kind, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert fold_input(model)[0] is model


def test_a_bias_that_is_left_out_by_name() -> None:
    model = network(bias=False)
    next(n for n in model.graph.node if n.op_type == "Conv").input.append("")
    folded, _ = fold_input(model)
    assert "Sub" not in operators(folded)
    np.testing.assert_allclose(run(folded), run(model), atol=2e-4)


def test_a_branch_that_is_more_than_pointwise_steps() -> None:
    """Of it the reference evaluator may know nothing."""
    sure = helper.make_node("Constant", [], ["sure"], value=numpy_helper.from_array(np.array(True)))
    before = [sure, either("normal", "e"), helper.make_node("Add", ["normal", "e"], ["x"], name="add")]
    model = network(before=before)
    folded, note = fold_input(model)
    assert folded is model and note == "not applied: the steps before the first convolution are not affine"
