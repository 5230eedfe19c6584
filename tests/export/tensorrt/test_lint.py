"""What the ONNX file alone shows."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgetl_export.targets import get_target
from edgetl_export.tensorrt.check import check_targets
from edgetl_export.tensorrt.graph import Graph, module_of, op_uses
from edgetl_export.tensorrt.lint import NO_KERNEL, SOME_TOO_OLD, TOO_NEW, lint
from edgetl_runtime.tensorrt.operators import REWRITES, SINCE

SHAPES = {"x": [2, 4, 4], "d": [2], "y": [2]}


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


def test_nodes_inside_other_nodes_are_looked_at_too() -> None:
    inner_det = onnx.helper.make_node("Det", ["x"], ["d"], "deep")
    keep = onnx.helper.make_node("Identity", ["zero"], ["d"], "keep")
    ends = {n: onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in SHAPES.items()}
    branches = {
        f"{name}_branch": onnx.helper.make_graph([node], name, [], [ends["d"]])
        for name, node in (("then", inner_det), ("else", keep))
    }
    condition = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, [])
    node = onnx.helper.make_node("If", ["c"], ["y"], "either", **branches)
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.FLOAT, [2], [0.0, 0.0])
    graph = onnx.helper.make_graph([node], "g", [condition, ends["x"]], [ends["y"]], [zero])
    made = Graph(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))
    (finding,) = lint(made, opset_ceiling=18)
    assert (finding.check.code, finding.check.node) == ("unsupported-op", "deep")
    assert "Write the determinant" in finding.check.advice
    assert [use.op for use in op_uses(made)] == ["Det", "Identity", "If"]


def test_a_local_function_is_no_foreign_operator() -> None:
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy")
    versions = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("mine", 1)]
    twice = onnx.helper.make_function(
        "mine", "Twice", ["a"], ["b"], [onnx.helper.make_node("Add", ["a", "a"], ["b"])], versions[:1]
    )
    graph = onnx.helper.make_graph([onnx.helper.make_node("Twice", ["x"], ["y"], "t", domain="mine")], "g", [x], [y])
    made = onnx.helper.make_model(graph, opset_imports=versions, functions=[twice])
    assert list(lint(Graph(made), opset_ceiling=18)) == []
    del made.functions[:]
    assert [f.check.code for f in lint(Graph(made), opset_ceiling=18)] == ["custom-op"]


@pytest.mark.parametrize(("target", "codes"), [("agx-orin", []), ("drive-orin", ["hardware-datatype"])])
def test_a_precision_that_only_some_targets_have(target: str, codes: list[str]) -> None:
    """TensorRT 8 on DRIVE Orin has no bf16, and TensorRT for RTX on the host can't know that."""
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.BFLOAT16, [2]) for n in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"], "r")], "g", [x], [y])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    found = [f.check for f in lint(Graph(made), opset_ceiling=18, precisions=get_target(target).precisions)]
    assert [c.code for c in found] == codes
    assert all("BF16, this target runs fp32, fp16, int8" in c.advice and c.node == "r" for c in found)


@pytest.mark.parametrize("kept", [{"act": "UINT8"}, {"k": 3840}])
def test_what_looks_like_trouble_and_is_none(kept: dict[str, object], graphs: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    if "k" in kept:
        nodes = [onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"], "it")]
        ends = [graphs.value("y", graphs.FLOAT, [1, 3840]), graphs.value("i", graphs.INT64, [1, 3840])]
        graphs.save(path, nodes, [graphs.value("x", graphs.FLOAT, [1, 8400])], ends, {"k": np.array([3840])})
    else:
        nodes = [
            onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
            onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "d"),
        ]
        ends = [graphs.value(n, graphs.FLOAT, [4]) for n in "xy"]
        graphs.save(path, nodes, ends[:1], ends[1:], {"s": np.float32(0.1), "z": np.uint8(0)})
    assert list(lint(load(path), opset_ceiling=18)) == []


def one_node(op: str, **attributes: int) -> onnx.ModelProto:
    """A graph of one operator on 4x8 floats; what it reads beside is constant."""
    schema = onnx.defs.get_schema(op)
    names = ["x", *(f"i{k}" for k in range(1, schema.min_input))]
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4, 8]) for n in ("x", "y")]
    held = [onnx.helper.make_tensor(n, onnx.TensorProto.FLOAT, [8], [1.0] * 8) for n in names[1:]]
    node = onnx.helper.make_node(op, names, ["y"], "it", **attributes)
    made = onnx.helper.make_graph([node], "g", values[:1], values[1:], held)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize(
    ("op", "target", "code", "words"),
    [
        (
            "LayerNormalization",
            "drive-orin",
            SOME_TOO_OLD,
            r"not in TensorRT 8\.5\.10 \(DRIVE OS 6\.0\.6\): .* with 8\.6\.",
        ),
        ("LayerNormalization", "orin-nano", None, ""),
        (
            "Hardmax",
            "drive-orin",
            TOO_NEW,
            r"8\.5\.10 .*, TensorRT 8\.6\.12 .*: it came with 9\.2\.",
        ),
        ("Compress", "drive-thor", TOO_NEW, r"10\.10\.10 \(DRIVE OS 7\.0\.3\): no release is known to have it"),
        ("Compress", "orin-nano", SOME_TOO_OLD, r"TensorRT 10\.3 \(JetPack 6\.1\), TensorRT 10\.3 \(JetPack 6\.2\)"),
        ("CastLike", "drive-orin", SOME_TOO_OLD, r"CastLike is not in TensorRT 8\.5\.10"),
        (
            "Gelu",
            "orin-nano",
            SOME_TOO_OLD,
            r"Whether Gelu is in TensorRT 10\.3 .*: 9\.2 has it not, 10\.6 has",
        ),
        ("Gelu", "drive-thor", None, ""),
        ("Gelu", "rtx", None, ""),
        ("Relu", "drive-orin", None, ""),
    ],
)
def test_operators_that_a_release_lacks(op: str, target: str, code: str | None, words: str) -> None:
    made = Graph(one_node(op))
    found = [f.check for f in lint(made, opset_ceiling=99, releases=get_target(target).releases)]
    assert [c.code for c in found] == ([code] if code else [])
    for check in found:
        assert check.op == op and re.search(words, check.advice)


def test_a_graph_that_no_release_of_a_target_takes_is_to_be_rewritten(tmp_path: Path) -> None:
    """Whatever the host's compiler says of it, which is newer."""
    onnx.save(one_node("Hardmax"), tmp_path / "net.onnx")
    found = check_targets(tmp_path / "net.onnx", ["drive-orin", "orin-nano"])
    assert found["drive-orin"].verdict == "rewrite" and found["orin-nano"].verdict != "rewrite"


def test_operators_that_came_later_are_none_that_all_releases_lack() -> None:
    assert not SINCE.keys() & REWRITES.keys()
    assert all(onnx.defs.has(op) for op in SINCE)


def quantised_convolution(outputs: int, *, weights: str = "int8", activations: int = TensorProto.INT8) -> Graph:
    """A convolution of 3 channels with Q/DQ pairs. weights: stored as int8, or as float with a pair of their own."""
    node = onnx.helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "zx"], ["xq"], "q"),
        node("DequantizeLinear", ["xq", "s", "zx"], ["xd"], "d"),
        *([node("QuantizeLinear", ["w", "s", "z"], ["wq"], "qw")] if weights == "float" else []),
        node("DequantizeLinear", ["wq" if weights == "float" else "w", "s", "z"], ["wd"], "dw"),
        node("Conv", ["xd", "wd"], ["y"], "/backbone/stem/Conv"),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 8, 8]) for n, c in (("x", 3), ("y", outputs))
    ]
    kernel = np.ones((outputs, 3, 1, 1), np.float32 if weights == "float" else np.int8)
    held = {"s": np.float32(0.1), "z": np.int8(0), "w": kernel}
    constants = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    constants.append(onnx.helper.make_tensor("zx", activations, [], [0]))
    made = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return Graph(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9))


@pytest.mark.parametrize("weights", ["int8", "float"])
@pytest.mark.parametrize(("outputs", "target", "found"), [(8, "agx-orin", 1), (32, "agx-orin", 0), (8, "rtx", 0)])
def test_int8_convolutions_that_tensorrt_may_have_no_kernel_for(
    outputs: int, target: str, found: int, weights: str
) -> None:
    made = quantised_convolution(outputs, weights=weights)
    checks = [f.check for f in lint(made, opset_ceiling=99, releases=get_target(target).releases)]
    assert [c.code for c in checks] == [NO_KERNEL] * found
    for check in checks:
        assert (check.op, check.module) == ("Conv", "backbone.stem") and "for 1 of the convolutions" in check.advice


def test_activations_in_bytes_are_no_int8_for_tensorrt() -> None:
    made = quantised_convolution(8, activations=TensorProto.UINT8)
    codes = [f.check.code for f in lint(made, opset_ceiling=99, releases=get_target("agx-orin").releases)]
    assert NO_KERNEL not in codes
