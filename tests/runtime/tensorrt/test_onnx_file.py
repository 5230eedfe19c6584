"""Reading ONNX without the onnx package, against the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtime_support import many_model, tiny_model

from edgetl_runtime.errors import InputError
from edgetl_runtime.tensorrt.nodes import Node
from edgetl_runtime.tensorrt.onnx_file import MAX_NODES, module_of, read_onnx


@pytest.mark.parametrize("make", [tiny_model, many_model])
def test_it_reads_what_onnx_reads(tmp_path: Path, make: object) -> None:
    path = make(tmp_path / "a.onnx")  # type: ignore[operator]
    found, proto = read_onnx(path), onnx.load(path)
    assert [(n.op, n.name, n.inputs, n.outputs) for n in found.nodes] == [
        (n.op_type, n.name, tuple(n.input), tuple(n.output)) for n in proto.graph.node
    ]
    assert found.types["frame"] == "uint8" and found.types["kernel"] == "fp32" and found.types["classes"] == "int64"
    assert found.count == len(proto.graph.node)


def test_types_are_read_from_casts_constants_and_weights(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.zeros(3, np.float16), "c")
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], "cast", to=TensorProto.BFLOAT16),
        helper.make_node("Constant", [], ["b"], "constant", value=half),
        helper.make_node("Relu", ["x"], ["y"], "relu"),
    ]
    nodes[2].metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'head', 'head.act', 'relu']")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("x", "y")]
    made = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [half]))
    path = tmp_path / "a.onnx"
    path.write_bytes(made.SerializeToString())
    found = read_onnx(path)
    assert [n.to_type for n in found.nodes] == ["bf16", "fp16", ""]
    assert found.types == {"x": "fp32", "y": "fp32", "c": "fp16"}
    assert found.find("relu", -1, "") == Node("Relu", "relu", "head.act")
    assert found.find("", 1, "Constant") == Node("Constant", "constant", "")
    assert found.find("", 1, "Relu") is None and found.find("", 9, "") is None
    assert found.named_in("layer relu_0 has no runners") == Node("Relu", "relu", "head.act")
    assert found.named_in("prelu failed") is None


def test_a_node_without_a_name_has_the_one_that_tensorrt_gives_it(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("x", "y")]
    path = tmp_path / "a.onnx"
    onnx.save(
        helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *([e] for e in ends))), path
    )
    found = read_onnx(path)
    expected = Node("Relu", "node_of_y", "")
    assert found.named_in("ITopKLayer node_of_y: K exceeds") == found.find("node_of_y", -1, "") == expected
    assert found.find("", 0, "Relu") == expected


@pytest.mark.parametrize(
    ("name", "metadata", "module"),
    [
        ("/backbone/stem/Conv", {}, "backbone.stem"),
        ("/Conv", {}, ""),
        ("Conv_12", {}, ""),
        ("n", {"namespace": ": Net/stem.0: torch.nn.Conv2d/conv: aten.conv2d"}, "stem.0"),
        ("n", {"pkg.torch.onnx.name_scopes": "['conv2d']"}, ""),
    ],
)
def test_modules(name: str, metadata: dict[str, str], module: str) -> None:
    assert module_of(name, metadata) == module


@pytest.mark.parametrize("cut", [0, 1, 100, -7])
def test_what_is_no_onnx_is_refused(tmp_path: Path, cut: int) -> None:
    path = tiny_model(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.onnx"):
        read_onnx(path)


@pytest.mark.parametrize("content", [b"\x00\x01 this is no model" * 20, b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.onnx"):
        read_onnx(path)
    with pytest.raises(InputError, match=r"none\.onnx"):
        read_onnx(tmp_path / "none.onnx")


def test_more_nodes_than_any_network_has_are_refused(tmp_path: Path) -> None:
    """Empty nodes take two bytes each in the file."""
    graph = b"\x0a\x00" * (MAX_NODES + 1)
    size = len(graph)
    varint = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + varint + graph)
    with pytest.raises(InputError, match="more than 100000 nodes"):
        read_onnx(tmp_path / "m.onnx")
