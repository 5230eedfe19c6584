"""Whether an engine of edgetl's on this processor loads a graph, with the real engines."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgetl_export import cpu_check
from edgetl_export.cpu_check import check_cpu

F, H = TensorProto.FLOAT, TensorProto.FLOAT16

SQUARE = {"first": TensorProto.DOUBLE, "shape": (1, 2, 2), "out": (1,)}


def save(
    path: Path,
    node: onnx.NodeProto,
    *,
    dtype: int = F,
    shape: tuple[object, ...] = (1, 3),
    out: tuple[object, ...] = (),
    first: int = 0,
) -> Path:
    """x through one node to y; `first`: the type that x is cast to before, h; an output z is cast to y."""
    ends = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("x", dtype, shape), ("y", dtype, out or shape))]
    nodes = [*([helper.make_node("Cast", ["x"], ["h"], "cast", to=first)] if first else []), node]
    if node.output[0] == "z":
        nodes.append(helper.make_node("Cast", ["z"], ["y"], "back", to=F))
    versions = [helper.make_opsetid("", 18), *([helper.make_opsetid(node.domain, 1)] if node.domain else [])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), path)
    return path


def test_a_good_graph_is_loaded(tmp_path: Path) -> None:
    found = check_cpu(save(tmp_path / "a.onnx", helper.make_node("Relu", ["x"], ["y"], "relu")))
    assert (found.engine, found.checks) == ("onnxruntime", ())


@pytest.mark.parametrize(
    ("node", "more", "code", "op", "name"),
    [
        (helper.make_node("Add", ["x", "h"], ["y"], "add"), {"first": H}, "mixed-types", "Add", "add"),
        (helper.make_node("Foo", ["x"], ["y"], "foo", domain="acme"), {}, "custom-op", "Foo", ""),
        (helper.make_node("Relu", ["x"], ["y"], "r"), {"shape": ("n", 3)}, "dynamic-shape", "", "x"),
        (helper.make_node("Relu", ["x"], ["y"], "r"), {"dtype": H}, "element-type-on-cpu", "", "x"),
        (helper.make_node("Det", ["h"], ["z"], "d"), SQUARE, "no-cpu-kernel", "Det", "d"),
    ],
)  # fmt: skip
def test_what_is_in_the_way_is_named(
    node: onnx.NodeProto, more: dict[str, object], code: str, op: str, name: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.onnx", node, **more)  # type: ignore[arg-type]
    found = check_cpu(path)
    (check,) = found.checks
    assert found.engine is None
    assert (check.code, check.op, check.node) == (code, op, name)
    assert "The engine said" in check.advice and len(check.advice) < 480


@pytest.mark.parametrize("said", ["Unsupported model IR version: 14, max supported IR version: 12", "something new"])
def test_words_that_name_no_node(said: str) -> None:
    check = cpu_check._finding(f"onnxruntime can't load a.onnx: [ONNXRuntimeError] : 1 : FAIL : {said}")
    assert check.code == ("newer-than-engine" if "IR version" in said else "engine-refuses")
    assert check.advice.endswith(f'The engine said: "{said}"')


def test_without_an_engine_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_check, "available_engines", tuple)
    found = check_cpu(save(tmp_path / "a.onnx", helper.make_node("Relu", ["x"], ["y"], "relu")))
    assert (found.engine, found.checks, found.installed) == (None, (), ())
