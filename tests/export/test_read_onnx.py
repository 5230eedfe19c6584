"""A foreign ONNX file: what it claims is checked, and everything wrong is one clear line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgetl_export.onnx_bytes import MOST_BYTES
from edgetl_export.read_onnx import MOST_TENSOR_BYTES, read_onnx
from edgetl_export.tensorrt.graph import Graph
from edgetl_export.tensorrt.lint import lint
from edgetl_runtime.errors import InputError

F = TensorProto.FLOAT
SHAPE = [1, 3, 8, 8]


def convolution(**input_shape: list[int | str]) -> ModelProto:
    """One convolution; x may have another shape."""
    weights = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    x = helper.make_tensor_value_info("x", F, input_shape.get("x", SHAPE))
    y = helper.make_tensor_value_info("y", F, ["n", "c", "h", "w"])
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    graph = helper.make_graph([node], "g", [x], [y], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def with_constant(tensor: TensorProto) -> ModelProto:
    """A graph that adds this constant."""
    model = convolution()
    model.graph.node.append(helper.make_node("Identity", [tensor.name], ["z"], "keep"))
    model.graph.initializer.append(tensor)
    return model


def outside(location: str, *, offset: int = 0, length: int | None = None, dims: tuple[int, ...] = (4,)) -> ModelProto:
    """A graph with weights in another file."""
    tensor = TensorProto(name="far", data_type=F, dims=dims, data_location=TensorProto.EXTERNAL)
    entries = {"location": location, "offset": offset} | ({} if length is None else {"length": length})
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return with_constant(tensor)


def write(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", convolution())
    assert [n.op_type for n in read_onnx(path, static_shapes=True).graph.node] == ["Conv"]


@pytest.mark.parametrize(
    "dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.BOOL]
)
@pytest.mark.parametrize("raw", [True, False])
def test_constants_of_every_width_hold_what_they_claim(dtype: int, raw: bool, tmp_path: Path) -> None:
    values = helper.make_tensor("k", dtype, [3, 1], [1, 0, 1])
    if raw:
        values = numpy_helper.from_array(numpy_helper.to_array(values), "k")
    model = with_constant(values)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 21))
    model.ir_version = 10
    read_onnx(write(tmp_path / "a.onnx", model))


STRINGS = helper.make_tensor("k", TensorProto.STRING, [2], [b"a", b"bc"])


@pytest.mark.parametrize("tensor", [STRINGS, helper.make_tensor("k", F, [0], [])])
def test_constants_of_strings_and_of_nothing(tensor: TensorProto, tmp_path: Path) -> None:
    read_onnx(write(tmp_path / "a.onnx", with_constant(tensor)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 rest", "ZIP archive, such as a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "XML or HTML"),
        (b'{"a": 1}', "JSON"),
        (b"ptrt\x00\x00\x00\x00 plan", "TensorRT engine"),
        (b"\x1c\x00\x00\x00TFL3 rest", "TensorFlow Lite"),
        (b"\x00\x01 this is no model" * 20, "is not an ONNX model"),
        (b"just some text\n", "is not an ONNX model"),
        (b"\x08", "is cut off"),
        (b"\x08\x09", "holds no network|states no version"),
        (b"\x08\x09\x3a\x05\xff\xff\xff\xff\xff", "is damaged"),
        (b"\x08\x09\xff\xff\xff", "is damaged|is cut off"),
    ],
)
def test_a_file_that_is_no_model(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(InputError, match=r"no ONNX file at|directory"):
            read_onnx(path)


def test_more_than_protobuf_can_hold_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match=r"has 2\.1 GB, one ONNX file holds up to"):
        read_onnx(path)


def test_half_a_file_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", convolution())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"is cut off: .* the file at byte {len(whole) // 2}; copy it again"):
        read_onnx(path)


def huge(shape: tuple[int, ...] = (50_000, 50_000), **fields: object) -> TensorProto:
    """A tensor that claims 10 GB and holds nothing."""
    return TensorProto(name="k", data_type=F, dims=shape, **fields)  # type: ignore[arg-type]


def made_at_run_time() -> ModelProto:
    """ConstantOfShape: eight bytes that become 10 GB when a session folds its constants."""
    model = with_constant(numpy_helper.from_array(np.array([50_000, 50_000]), "k"))
    model.graph.node[-1].CopyFrom(helper.make_node("ConstantOfShape", ["k"], ["z"], "fill"))
    return model


def in_a_node() -> ModelProto:
    """The claim stands in an attribute, inside a branch."""
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["z"], "inner", value=huge(raw_data=b"12"))],
        "inner",
        [],
        [helper.make_tensor_value_info("z", F, None)],
    )
    model = convolution()
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], "either", then_branch=inner, else_branch=inner))
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (with_constant(huge(raw_data=b"1234")), r"'k' claims 10\.0 GB \(\[50000, 50000\] FLOAT\), .* holds 4 bytes"),
        (with_constant(huge()), r"claims 10\.0 GB .* holds 0 bytes"),
        (with_constant(huge(float_data=[1.0, 2.0])), r"claims 10\.0 GB .* holds 8 bytes"),
        (with_constant(huge((2**40, 2**40, 2**40))), r"claims .* GB"),
        (with_constant(huge((-1, 4), raw_data=b"1234")), "is no tensor"),
        (with_constant(TensorProto(name="k", data_type=99, dims=[1], raw_data=b"1")), "is no tensor"),
        (in_a_node(), r"claims 10\.0 GB"),
        (outside("w.bin", dims=(50_000, 50_000)), r"claims 10\.0 GB .* holds 16 bytes"),
        (convolution(x=[1, 3, 60_000, 60_000]), r"'x' would take 43\.2 GB \(\[1, 3, 60000, 60000\]\), at most 4\.3 GB"),
        (convolution(x=[1, 3, -5, 8]), r"'x' has the shape \[1, 3, -5, 8\]"),
        (made_at_run_time(), r"'z' would take 10\.0 GB"),
    ],
)  # fmt: skip
def test_a_claim_that_the_file_does_not_keep(model: ModelProto, says: str, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"0" * 16)
    with pytest.raises(InputError, match=says):
        read_onnx(write(tmp_path / "a.onnx", model))
    assert MOST_TENSOR_BYTES < 10e9


def test_weights_beside_the_model_are_loaded_on_request(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    path = write(tmp_path / "a.onnx", outside("w.bin"))
    assert read_onnx(path).graph.initializer[1].data_location == TensorProto.EXTERNAL
    read = read_onnx(path, weights=True).graph.initializer[1]
    assert numpy_helper.to_array(read).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (outside("gone.bin"), r"weights of 'far' are said to be in 'gone\.bin', which is not there; put it beside"),
        (outside("../w.bin"), "not inside the model's folder"),
        (outside("/etc/passwd"), "not inside the model's folder"),
        (outside("c:\\w.bin"), "not inside the model's folder"),
        (outside("..\\w.bin"), "not inside the model's folder"),
        (outside(""), "not inside the model's folder"),
        (outside("link.bin"), "leads out of the model's folder"),
        (outside("w.bin", length=8), "claims 16 bytes .* holds 8 bytes"),
        (outside("w.bin", offset=12), "claims 16 bytes .* holds 4 bytes"),
        (outside("w.bin", offset=99), "holds 0 bytes"),
        (outside("w.bin", offset=-4), "before its start"),
    ],
)
def test_weights_that_can_not_be_had(model: ModelProto, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"0" * 16)
    (tmp_path / "secret.bin").write_bytes(b"0" * 16)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(InputError, match=says):
        read_onnx(write(folder / "a.onnx", model))


def newer_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 999


def newer_ir(model: ModelProto) -> None:
    model.ir_version = 999


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def unsorted(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "never"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (newer_opset, "has opset 999, onnx .* knows up to .*; export it with opset 18"),
        (newer_ir, "has IR version 999"),
        (no_nodes, "holds no network: 0 nodes, 1 outputs"),
        (no_outputs, "holds no network: 1 nodes, 0 outputs"),
        (unsorted, "is not a valid ONNX model: Nodes in a graph must be topologically sorted"),
    ],
)
def test_a_model_that_is_wrong(spoil: Callable[[ModelProto], None], says: str, tmp_path: Path) -> None:
    model = convolution()
    spoil(model)
    with pytest.raises(InputError, match=says):
        read_onnx(write(tmp_path / "a.onnx", model))


@pytest.mark.parametrize("shape", [["n", 3, 8, 8], [1, 3, "h", "w"], [0, 3, 8, 8]])
def test_sizes_that_are_not_fixed_are_refused_where_they_must_be(shape: list[int | str], tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", convolution(x=shape))
    assert read_onnx(path).graph.input[0].name == "x"
    shown = ", ".join(map(str, shape))
    with pytest.raises(
        InputError, match=rf"the input 'x' has the shape \[{shown}\], which is not fixed; export it with"
    ):
        read_onnx(path, static_shapes=True)


def test_an_operator_that_onnx_does_not_know_is_let_through(tmp_path: Path) -> None:
    model = convolution()
    model.graph.node[0].op_type = "EfficientNMS_TRT"
    assert read_onnx(write(tmp_path / "a.onnx", model)).graph.node[0].op_type == "EfficientNMS_TRT"


WHOLE = with_constant(helper.make_tensor("k", TensorProto.INT64, [3], [1, 2, 3])).SerializeToString()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 7)), max_size=4),
    end=st.one_of(st.just(len(WHOLE)), st.integers(0, len(WHOLE))),
)
def test_damage_is_an_input_error_or_a_graph_that_can_be_linted(
    tmp_path: Path, flips: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(WHOLE)
    for place, bit in flips:
        data[place] ^= 1 << bit
    path = tmp_path / "a.onnx"
    path.write_bytes(data[:end])
    with contextlib.suppress(InputError):
        list(lint(Graph(read_onnx(path)), opset_ceiling=18))


def test_what_is_read_is_what_onnx_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", convolution())
    assert read_onnx(path) == onnx.load(str(path))
