"""INT8 as Q/DQ: the camera's bytes go in as they are, what decoding reads stays float."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgetl_export.quantize import bytes_as_input, quantize_u8s8
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.graph import attribute, initializers, producers
from edgetl_export.passes.fold_input import fold_input
from edgetl_runtime.engines import load_engine
from edgetl_runtime.errors import InputError

SIZE_HW = (64, 96)


def graph_of(
    nodes: Sequence[NodeProto], outputs: Sequence[str], constants: dict[str, NDArray[np.generic]]
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v, n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def network(pad: int) -> ModelProto:
    """Frame -> (x - 127) / 128 -> Conv -> Relu -> Conv -> Relu -> Conv "heat" -> Sigmoid "scores"."""
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[np.generic]] = {
        "mean": np.array(127, np.float32),
        "std": np.array(128, np.float32),
        **{f"w{i}": rng.normal(0, 0.3, (8, 3 if i == 0 else 8, 3, 3)).astype(np.float32) for i in range(3)},
        **{f"b{i}": rng.normal(0, 0.1, 8).astype(np.float32) for i in range(3)},
    }

    def convolution(i: int, source: str, result: str) -> NodeProto:
        strides = [2, 2] if i == 0 else [1, 1]
        return helper.make_node(
            "Conv", [source, f"w{i}", f"b{i}"], [result], name=f"conv{i}", pads=[pad] * 4, strides=strides
        )

    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2], name="planes"),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], name="sub"),
        helper.make_node("Div", ["centred", "std"], ["normal"], name="div"),
        convolution(0, "normal", "c0"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        convolution(1, "r0", "c1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        convolution(2, "r1", "heat"),
        helper.make_node("Sigmoid", ["heat"], ["scores"], name="sigmoid"),
    ]
    return graph_of(nodes, ["scores", "heat"], constants)


def frames(count: int = 3) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 200, (1, *SIZE_HW, 3), np.uint8) for _ in range(count)]


@pytest.fixture(params=[0, 1], ids=["no padding", "padding"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, bool]:
    """A folded float model, its INT8 form, and whether the frame is padded."""
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(fold_input(network(request.param))[0], source)
    quantize_u8s8(source, target, frames(), keep_float=["heat"])
    return source, target, bool(request.param)


def test_the_bytes_of_the_frame_are_the_quantised_tensor(pair: tuple[Path, Path, bool]) -> None:
    model = onnx.load(pair[1])
    chain, name = [], "frame"
    while not chain or chain[-1].op_type != "DequantizeLinear":
        readers = [n for n in model.graph.node if name in n.input]
        assert len(readers) == 1
        chain += readers
        name = readers[0].output[0]
    assert [n.op_type for n in chain] == ["Transpose", *(["Pad"] if pair[2] else []), "DequantizeLinear"]
    constants = initializers(model)
    assert [constants[i].item() for i in chain[-1].input[1:]] == [1.0, 0]
    assert constants[chain[-1].input[2]].dtype == np.uint8
    if pair[2]:
        assert (constants["frame_pad_byte"].item(), constants["frame_pad_byte"].dtype) == (127, np.uint8)
    assert "Cast" not in {n.op_type for n in model.graph.node}


def test_kept_tensors_stay_float_and_the_rest_is_int8(pair: tuple[Path, Path, bool]) -> None:
    model = onnx.load(pair[1])
    made = producers(model)
    assert made["heat"].op_type == "Conv" and made["scores"].op_type == "Sigmoid"
    assert made["heat"].input[1] == "w2", "the kept convolution's weights were quantised"
    assert made["scores"].input[0] == "heat"
    for name in ("conv0", "conv1"):
        conv = next(n for n in model.graph.node if n.name == name)
        assert made[conv.input[0]].op_type == "DequantizeLinear"
        weights = made[conv.input[1]]
        assert weights.op_type == "DequantizeLinear"
        constants = initializers(model)
        assert constants[weights.input[0]].dtype == np.int8
        assert constants[weights.input[1]].shape == (8,), "not per channel"
        assert not constants[weights.input[2]].any(), "not symmetric"


def test_the_bias_is_in_units_of_input_and_weight_scale(pair: tuple[Path, Path, bool]) -> None:
    """The calibration frames end at 199, so the calibrated scale of the frame was not one."""
    model, source = onnx.load(pair[1]), onnx.load(pair[0])
    made, constants = producers(model), initializers(model)
    conv = next(n for n in model.graph.node if n.name == "conv0")
    weight, bias = made[conv.input[1]], made[conv.input[2]]
    np.testing.assert_array_equal(constants[bias.input[1]], constants[weight.input[1]])
    real = constants[bias.input[0]] * constants[bias.input[1]]
    expected = initializers(source)[next(n for n in source.graph.node if n.name == "conv0").input[2]]
    np.testing.assert_allclose(real, expected, atol=float(constants[weight.input[1]].max()))


def test_int8_stays_near_float(pair: tuple[Path, Path, bool]) -> None:
    found = []
    for path, precision in ((pair[0], "fp32"), (pair[1], "int8")):
        engine = load_engine("onnxruntime", path, precision=precision)  # type: ignore[arg-type]
        found.append(np.array(engine.infer({"frame": frames()[0]})["heat"]))
        engine.close()
    assert not np.array_equal(*found)
    np.testing.assert_allclose(found[1], found[0], atol=0.05 * float(np.abs(found[0]).max()))


def test_the_callers_log_level_comes_back(pair: tuple[Path, Path, bool]) -> None:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.WARNING)
    try:
        quantize_u8s8(pair[0], pair[1], frames(1), keep_float=["heat"])
        assert root.level == logging.WARNING
    finally:
        root.setLevel(before)


def test_no_calibration_frames(tmp_path: Path) -> None:
    onnx.save(fold_input(network(0))[0], tmp_path / "float.onnx")
    with pytest.raises(InputError, match="no calibration frames"):
        quantize_u8s8(tmp_path / "float.onnx", tmp_path / "int8.onnx", [], keep_float=["heat"])
    assert not (tmp_path / "int8.onnx").exists()


def quantised_frame(*, pad: bool = True, value: float = 127.0, **changes: object) -> ModelProto:
    """Cast -> Transpose -> [Pad] -> Q -> DQ, as the quantiser leaves the frame."""
    constants: dict[str, NDArray[np.generic]] = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "value": np.array(value, np.float32),
        "scale": np.array(0.99, np.float32),
        "zero": np.array(0, np.uint8),
    }
    mode = str(changes.get("mode", "constant"))
    pad_inputs = ["planes", "pads", *(["value"] if mode == "constant" else [])]
    perm = changes.get("perm", [0, 3, 1, 2])
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=perm),
        *([helper.make_node("Pad", pad_inputs, ["padded"], mode=mode)] if pad else []),
        helper.make_node("QuantizeLinear", ["padded" if pad else "planes", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    return graph_of(nodes, ["y"], constants)


def test_the_planes_keep_their_order() -> None:
    """A network that wants its planes in another order keeps it."""
    model = bytes_as_input(quantised_frame(perm=[0, 3, 2, 1]))
    assert attribute(model.graph.node[0], "perm") == [0, 3, 2, 1]


@pytest.mark.parametrize(
    "model",
    [quantised_frame(mode="reflect"), quantised_frame(value=-3.0), quantised_frame(value=300.0)],
    ids=["reflected border", "below a byte", "above a byte"],
)
def test_a_border_that_no_byte_can_hold_is_left_alone(model: ModelProto) -> None:
    before = [n.op_type for n in model.graph.node]
    assert [n.op_type for n in bytes_as_input(model).graph.node] == before


def test_another_first_step_is_left_alone() -> None:
    model = graph_of([helper.make_node("Cast", ["frame"], ["y"], to=TensorProto.FLOAT)], ["y"], {})
    assert bytes_as_input(model) is model
    assert [n.op_type for n in model.graph.node] == ["Cast"]
