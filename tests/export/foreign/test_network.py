"""ONNX files from elsewhere: what is brought to batch 1 and one opset, and what is refused, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl_export.foreign.decoders import Output
from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.network import Network, read_network
from edgetl_export.foreign.source import file_runner
from edgetl_export.foreign.spec_file import InputSide
from edgetl_runtime.errors import InputError

Write = Callable[..., Path]
SIDE = InputSide(size_hw=(64, 96), channel_order="rgb", mean=(0.0,) * 3, std=(255.0,) * 3)
LABELS = tuple("abcdef")


def run(network: Network, x: Any) -> Any:
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["maps"], {network.input_name: x})[0]


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({}, 1),
        ({"shape": ("n", 3, 64, 96)}, 1),
        ({"shape": ("n", 3, "h", "w")}, 1),
        ({"shape": (4, 3, 64, 96)}, 4),
        ({"opset": 11}, 1),
        ({"opset": 21}, 1),
        ({"weights_as_inputs": True}, 1),
    ],
    ids=str,
)
def test_batch_shapes_and_opset_are_fixed(write_network: Write, options: dict[str, Any], batch: int) -> None:
    path = write_network(**options)
    network = read_network(path, SIDE)
    assert network.batch == batch
    assert network.outputs == {"maps": Output("maps", (1, 6, 8, 12))}
    assert [i.name for i in network.model.graph.input] == ["images"]
    assert network.model.opset_import[0].version == max(options.get("opset", 18), 18)
    x = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    np.testing.assert_allclose(run(network, x), file_runner(network)(x)["maps"], atol=1e-6)


def test_the_file_itself_stays_as_it_is(write_network: Write) -> None:
    path = write_network(shape=("n", 3, 64, 96), opset=11)
    before = path.read_bytes()
    read_network(path, SIDE)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "side", "line"),
    [
        ({"shape": (1, 3, 32, 96)}, {}, r"input images is \(1, 3, 32, 96\), the spec says nchw of 64x96"),
        ({}, {"layout": "nhwc"}, r"the spec says nhwc of 64x96 pixels: \(1, 64, 96, 3\)"),
        ({}, {"name": "image"}, r"one image input 'image', it has images \(1, 3, 64, 96\)"),
        ({"input_type": TensorProto.DOUBLE}, {}, "input images is float64, expected float32 or uint8"),
        ({"input_type": TensorProto.UINT8}, {}, "uint8, so mean must be 0 and std 1"),
    ],
)
def test_an_input_that_is_not_what_the_spec_says(
    write_network: Write, options: dict[str, Any], side: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        read_network(write_network(**options), msgspec.structs.replace(SIDE, **side))


def test_two_inputs(write_network: Write, tmp_path: Path) -> None:
    model = onnx.load(str(write_network()))
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, str(tmp_path / "two.onnx"))
    with pytest.raises(InputError, match=r"it has images \(1, 3, 64, 96\), scale \(1, 2\)"):
        read_network(tmp_path / "two.onnx", SIDE)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a model", b"\x08\x07"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.onnx") as caught:
        read_network(path, SIDE)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        read_network(tmp_path / "y.onnx", SIDE)


def test_external_data_that_is_missing(write_network: Write, tmp_path: Path) -> None:
    model = onnx.load(str(write_network()))
    onnx.save_model(model, str(tmp_path / "big.onnx"), save_as_external_data=True, location="big.bin", size_threshold=0)
    assert read_network(tmp_path / "big.onnx", SIDE).outputs
    (tmp_path / "big.bin").unlink()
    with pytest.raises(InputError, match=r"big\.onnx: not .*big\.bin.*put the file with its weights beside it"):
        read_network(tmp_path / "big.onnx", SIDE)


def test_a_batch_that_is_written_into_the_graph(write_network: Write) -> None:
    """A Reshape to (4, ...) can't take one frame."""
    tail = [helper.make_node("Reshape", ["maps", "four"], ["flat"])]
    path = write_network(
        shape=(4, 3, 64, 96), tail=tail, outputs=["flat"], constants={"four": np.array([4, 576], np.int64)}
    )
    with pytest.raises(InputError, match=r"can't run it with one frame of .*batch 1 or an open batch"):
        read_network(path, SIDE)


def test_outputs_are_found_by_name_or_as_the_only_one(write_network: Write) -> None:
    one = read_network(write_network(), SIDE)
    assert one.read_by(Segmentation(name="g", labels=LABELS)) == (Output("maps", (1, 6, 8, 12)),)
    tail = [helper.make_node("Relu", ["maps"], ["relu"]), helper.make_node("ArgMax", ["maps"], ["best"], axis=1)]
    path = write_network(tail=tail, outputs=["maps", "relu"], name="several.onnx")
    several = read_network(path, SIDE)
    assert several.read_by(Segmentation(name="g", labels=LABELS, output="relu"))[0].name == "relu"
    with pytest.raises(InputError, match=r"has no output 'logits'; it has maps \(1, 6, 8, 12\), relu"):
        several.read_by(Segmentation(name="g", labels=LABELS, output="logits"))
    with pytest.raises(InputError, match="has several outputs and the spec names none"):
        several.read_by(Segmentation(name="g", labels=LABELS))


def test_an_operator_that_nobody_knows(write_network: Write, tmp_path: Path) -> None:
    model = onnx.load(str(write_network()))
    model.graph.node.append(helper.make_node("Magic", ["maps"], ["out"], domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.output[0].name = "out"
    (tmp_path / "magic.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"magic\.onnx: ONNX Runtime can't run it .*operators of ONNX only"):
        read_network(tmp_path / "magic.onnx", SIDE)


def test_only_outputs_that_are_no_float(write_network: Write, tmp_path: Path) -> None:
    model = onnx.load(str(write_network()))
    model.graph.node.append(helper.make_node("ArgMax", ["maps"], ["best"], axis=1))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, [1, 1, 8, 12]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "spare"))
    onnx.save(model, str(tmp_path / "ints.onnx"))
    with pytest.raises(InputError, match=r"none of its outputs is float32: best int64\[1, 1, 8, 12\]"):
        read_network(tmp_path / "ints.onnx", SIDE)


@pytest.mark.parametrize("opset", [9, 18])
def test_an_old_file_that_lists_its_weights_among_the_inputs(write_network: Write, tmp_path: Path, opset: int) -> None:
    """IR version 3 asks for that."""
    model = onnx.load(str(write_network(opset=opset, weights_as_inputs=True)))
    model.ir_version = 3
    onnx.save(model, str(tmp_path / "old.onnx"))
    network = read_network(tmp_path / "old.onnx", SIDE)
    onnx.checker.check_model(network.model)
    x = np.random.default_rng(0).normal(size=(1, 3, 64, 96)).astype(np.float32)
    np.testing.assert_allclose(run(network, x), file_runner(network)(x)["maps"], atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16")])
def test_half_precision_inside(write_network: Write, kind: int, name: str) -> None:
    tail = [
        helper.make_node("Cast", ["maps"], ["lower"], to=kind),
        helper.make_node("Cast", ["lower"], ["upper"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(InputError, match=f"computes in {name}: its tensor lower .*export the network in float32"):
        read_network(write_network(tail=tail, outputs=["upper"]), SIDE)
