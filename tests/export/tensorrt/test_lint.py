"""What the ONNX file alone shows."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import onnx
import pytest

from edgetl_export.tensorrt.graph import Graph, module_of, op_uses
from edgetl_export.tensorrt.lint import lint


def load(path: Path) -> Graph:
    """The graph in this file."""
    return Graph(onnx.load(path))


def node(name: str = "", **metadata: str) -> onnx.NodeProto:
    """A node with metadata; `__` in a key stands for a dot."""
    made = onnx.helper.make_node("Conv", ["x"], ["y"], name)
    for key, value in metadata.items():
        made.metadata_props.add(key=key.replace("__", "."), value=value)
    return made


@pytest.mark.parametrize(
    ("made", "module"),
    [
        (node("node_conv", pkg__torch__onnx__name_scopes="['', 'stem', 'stem.conv', 'conv2d']"), "stem.conv"),
        (node("node_conv", pkg__torch__onnx__name_scopes="['conv2d']"), ""),
        (node("n", namespace=": Net/stem.0: torch.nn.Conv2d/conv: aten.conv2d"), "stem.0"),
        (node("/backbone/stem/Conv"), "backbone.stem"),
        (node("/Conv"), ""),
        (node("Conv_12"), ""),
        (node(), ""),
    ],
)
def test_the_module_is_read_where_the_file_says_it(made: onnx.NodeProto, module: str) -> None:
    assert module_of(made) == module


def test_operators_are_counted_with_their_modules(graphs: ModuleType, tmp_path: Path) -> None:
    uses = op_uses(load(graphs.camera_net(tmp_path / "a.onnx")))
    assert [(use.op, use.count) for use in uses] == [("Conv", 2), ("Cast", 1), ("Relu", 1), ("Transpose", 1)]
    assert uses[0].modules == ("stem.conv", "head.conv")


def test_a_good_graph_has_no_findings(graphs: ModuleType, tmp_path: Path) -> None:
    assert list(lint(load(graphs.camera_net(tmp_path / "a.onnx")), opset_ceiling=18)) == []
    assert list(lint(load(graphs.quantised_net(tmp_path / "b.onnx")), opset_ceiling=18)) == []


def test_each_known_trouble_is_found(graphs: ModuleType, tmp_path: Path) -> None:
    cases = {
        "uint8-read": graphs.camera_net(tmp_path / "a.onnx", cast_first=False),
        "asymmetric-quantisation": graphs.quantised_net(tmp_path / "b.onnx", zero_point=3),
        "dynamic-shape": graphs.dynamic_net(tmp_path / "c.onnx"),
        "opset-above-ceiling": graphs.camera_net(tmp_path / "d.onnx", opset=20),
    }
    for code, path in cases.items():
        found = {finding.check.code for finding in lint(load(path), opset_ceiling=18)}
        assert found == {code}


def test_an_operator_that_tensorrt_may_get_wrong_is_named_once() -> None:
    nodes = [
        onnx.helper.make_node("GridSample", [x, "grid"], [y], f"/decoder/layers.{i}/GridSample")
        for i, (x, y) in enumerate((("x", "a"), ("a", "y")))
    ]
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4, 8, 8]) for n in ("x", "y")]
    grid = onnx.helper.make_tensor_value_info("grid", onnx.TensorProto.FLOAT, [1, 8, 8, 2])
    graph = onnx.helper.make_graph(nodes, "g", [ends[0], grid], [ends[1]])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    (finding,) = lint(Graph(made), opset_ceiling=18)
    assert not finding.fatal
    assert (finding.check.code, finding.check.op) == ("grid-sample", "GridSample")
    assert (finding.check.node, finding.check.module) == ("/decoder/layers.0/GridSample", "decoder.layers.0")
    assert "golden" in finding.check.advice


def test_a_node_is_found_in_free_text(graphs: ModuleType, tmp_path: Path) -> None:
    graph = load(graphs.camera_net(tmp_path / "a.onnx"))
    named, placed = graph.named_in("layer /stem/conv/Conv_0 failed"), graph.find("", 3, "Relu")
    assert named is not None and named.name == "/stem/conv/Conv"
    assert graph.named_in("xcasty failed") is None
    assert placed is not None and placed.name == "/stem/act/Relu"
    assert graph.find("", 3, "Conv") is None
    assert graph.find("", 99, "") is None
