"""Graphs for TensorRT are judged by an engine that computes what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import NORMAL, PROBES, SIZE_HW, conv, folded, frame_nodes, frames, graph_of, weights
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgetl_export.budget import Budget, Measured
from edgetl_export.candidates import Reference, infer_of
from edgetl_export.compile import FloatGraph
from edgetl_export.graph import load_model, save_model
from edgetl_export.parity import record, rms_error
from edgetl_export.passes.rounded import widened
from edgetl_export.search import Found, quantiser_of
from edgetl_export.targets import FLOAT, HALF
from edgetl_export.tensorrt.check import check_onnx
from edgetl_export.typed import Checks, Typed, float_graphs, int8_graph
from edgetl_export.typed import _computable as sound_form
from edgetl_runtime.engines import load_engine


def nothing_asked(graphs: Mapping[str, Path]) -> Checks:
    """Where no compiler is asked."""
    return {name: {} for name in graphs}


def reference_of(path: Path) -> Reference:
    """What the graph gives on ONNX Runtime; the metric is how near others come to it."""
    engine = load_engine("onnxruntime", path, precision="fp32")
    tensors = record(infer_of(engine), frames(), PROBES)
    return Reference(
        name="net",
        frames=frames(),
        probes=PROBES,
        tensors=tensors,
        measured=Measured({"detect": 1.0}),
        metric=lambda infer: Measured({"detect": 1.0 - rms_error(tensors, record(infer, frames(), PROBES))}),
        metric_name="nearness",
        budget=Budget(10.0),
    )


def test_symmetric_int8_is_computed_as_onnxruntime_does(tmp_path: Path) -> None:
    """OpenVINO 2026.4 gets this network wrong on a processor with VNNI and without AMX; it must not judge there."""
    path = folded(tmp_path / "net.onnx")
    reference = reference_of(path)
    (tmp_path / "ship").mkdir()
    quantiser = quantiser_of(path, PROBES, frames(6, seed=3), work=tmp_path, ship=tmp_path / "ship")
    found = Found(used={"int8": "minmax"})
    typed = int8_graph(quantiser, found, reference, {}, nothing_asked, say=lambda text: None)
    assert not typed.left_out
    (int8,) = typed.candidates
    assert int8.hop.value > 0.95 and int8.hop.passed
    assert int8.pair.file.is_file() and int8.pair.probe_file != int8.pair.file


def without_roundings(model: ModelProto, engine: str, precision: str) -> ModelProto:
    """As OpenVINO gets it where it would compute a graph with FP16 in float32 throughout."""
    return widened(model) if engine == "openvino" else sound_form(model, "onnxruntime", precision)


def doubled(model: ModelProto, engine: str, precision: str) -> ModelProto:
    """As OpenVINO gets it, with weights of other values."""
    form = sound_form(model, engine, precision)
    if engine == "openvino":
        held = next(i for i in form.graph.initializer if i.name.startswith("deep_w"))
        held.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(held) * 2, held.name))
    return form


@pytest.mark.parametrize("form", [without_roundings, doubled])
def test_an_engine_that_computes_something_else_is_not_believed(
    form: Callable[[ModelProto, str, str], ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    path = folded(tmp_path / "net.onnx")
    graph = FloatGraph(path, tmp_path / "model.fp32.onnx", load_model(path), (), ())
    reference = reference_of(path)

    def engine_of_half() -> str:
        typed = float_graphs(graph, reference, nothing_asked, say=lambda text: None)
        return next(c for c in typed.candidates if c.pair.variant == HALF).pair.engine

    assert engine_of_half() == "openvino"
    monkeypatch.setattr("edgetl_export.typed._computable", form)
    reference = reference_of(path)
    assert engine_of_half() == "onnxruntime"


@pytest.mark.parametrize(("kept", "note"), [(4, "3 layers among it, 3 of them for want of a kernel"), (0, "")])
def test_layers_without_an_int8_kernel_are_half(
    kept: int, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folded(tmp_path / "net.onnx")
    (tmp_path / "ship").mkdir()
    quantiser = quantiser_of(path, PROBES, frames(6, seed=3), work=tmp_path, ship=tmp_path / "ship")
    names = [layer.name for layer in quantiser.eligible]
    monkeypatch.setattr("edgetl_export.typed.without_int8_kernel", lambda model: frozenset(names[kept:]))
    found = Found(used={"int8": "minmax"})
    typed = int8_graph(quantiser, found, reference_of(path), {}, nothing_asked, say=lambda text: None)
    if not kept:
        assert not typed.candidates and "kernel for none of the layers" in typed.left_out[0]
        return
    (int8,) = typed.candidates
    assert int8.hop.note.endswith(note) and names[0] == "stem" and len(names) == 7
    model = load_model(int8.pair.file)
    dequantised = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    assert {n.name for n in model.graph.node if n.op_type == "Conv" and n.input[1] in dequantised} == set(names[1:kept])


def test_symmetric_int8_over_the_budget_leaves_more_layers_in_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetl_export.typed.without_int8_kernel", lambda model: frozenset())
    path = folded(tmp_path / "net.onnx")
    reference = reference_of(path)
    (tmp_path / "ship").mkdir()
    quantiser = quantiser_of(path, PROBES, frames(6, seed=3), work=tmp_path, ship=tmp_path / "ship")
    asked: list[Path] = []

    def check(graphs: Mapping[str, Path]) -> Checks:
        asked.extend(graphs.values())
        return nothing_asked(graphs)

    def typed_within(budget: float) -> Typed:
        held = replace(reference, budget=Budget(budget))
        return int8_graph(quantiser, Found(used={"int8": "minmax"}), held, {}, check, say=said.append)

    said: list[str] = []
    lost = 1.0 - typed_within(10.0).candidates[0].hop.value
    assert len(said) == 1
    (candidate,) = typed_within(0.7 * lost).candidates
    left = candidate.pair.float_layers
    assert candidate.hop.passed and 1.0 - candidate.hop.value <= 0.7 * lost
    assert 0 < len(left) < len(quantiser.eligible) - 1
    assert f"the rest in FP16, {len(left)} layers among it" in candidate.hop.note
    assert any(f"{len(left)} of " in text and text.endswith("within the budget") for text in said)
    model = load_model(candidate.pair.file)
    assert asked[-1] == candidate.pair.file, "the compiler was asked of what ships"
    dequantised = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    assert all(n.input[1] not in dequantised for n in model.graph.node if n.name in left)
    (over,) = typed_within(1e-9).candidates
    assert not over.hop.passed


def test_values_that_can_not_be_half(tmp_path: Path) -> None:
    """An attention mask of minus infinity, and a tensor whose size depends on the frame: what makes them stays in FP32,
    and nothing else is refused for it.
    """
    mask = np.zeros((1, 8, *SIZE_HW), np.float32)
    mask[..., 0] = -np.inf
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        helper.make_node("Add", ["x", "mask"], ["masked"], name="masked"),
        helper.make_node("Sigmoid", ["masked"], ["y"], name="y"),
        helper.make_node("NonZero", ["y"], ["places"], name="places"),
        helper.make_node("Cast", ["places"], ["rows"], name="rows", to=1),
        helper.make_node("ReduceMin", ["rows"], ["first"], name="first", keepdims=0),
        helper.make_node("Add", ["y", "first"], ["z"], name="z"),
        conv("h", "z", "heat"),
    ]
    held = {**NORMAL, **weights("a", 8, 3, 3, 3), **weights("h", 2, 8, 3, 3), "mask": mask}
    path = tmp_path / "net.onnx"
    save_model(graph_of(nodes, ["heat"], held), path)
    graph = FloatGraph(path, tmp_path / "model.fp32.onnx", load_model(path), (), ())
    typed = float_graphs(graph, reference_of(path), nothing_asked, say=lambda text: None)
    half = next(c for c in typed.candidates if c.pair.variant == HALF)
    assert not typed.left_out and half.hop.value > 0.99
    assert "2 layers stay FP32" in half.hop.note


def with_mask(*, spread: bool) -> list[NodeProto]:
    """A heat map, and a mask of it that is spread as bytes, or is not spread."""
    moved = helper.make_node("DepthToSpace", ["low"], ["mask"], name="spread", blocksize=2, mode="CRD")
    return [
        *frame_nodes(),
        conv("h", "normal", "heat"),
        helper.make_node("Greater", ["heat", "nought"], ["truth"], name="truth"),
        helper.make_node("Cast", ["truth"], ["low" if spread else "mask"], name="to_bytes", to=TensorProto.UINT8),
        *([moved] if spread else []),
    ]


@pytest.mark.parametrize("spread", [True, False])
def test_tensorrt_gets_a_float_graph_that_it_takes(spread: bool, tmp_path: Path) -> None:
    """Masks are moved as bytes for processors alone; both float graphs have an opset that old releases read."""
    held = {**NORMAL, **weights("h", 4, 3, 3, 3), "nought": np.array(0, np.float32)}
    model = graph_of(with_mask(spread=spread), ["heat"], held)
    model.graph.output.extend(v for v in model.graph.value_info if v.name == "mask")
    path, ships = tmp_path / "net.onnx", tmp_path / "model.fp32.onnx"
    for file in (path, ships):
        save_model(model, file)
    asked: dict[str, Path] = {}

    def check(graphs: Mapping[str, Path]) -> Checks:
        asked.update(graphs)
        return nothing_asked(graphs)

    reference = replace(reference_of(path), outputs=["mask"])
    typed = float_graphs(FloatGraph(path, ships, load_model(path), (), ()), reference, check, say=lambda text: None)
    assert list(asked) == [c.pair.variant for c in typed.candidates] == [FLOAT, HALF]
    floats = typed.candidates[0]
    assert floats.hop.passed and floats.hop.value == 1.0 and floats.hop.max_rel_error == 0.0
    assert {load_model(file).opset_import[0].version for file in asked.values()} == {17}
    pytest.importorskip("tensorrt_rtx_bindings")
    checks = {file.name: check_onnx(file, target="drive-orin") for file in (ships, *asked.values())}
    assert [check.ok for check in checks.values()] == [not spread, True, True]
    old = {name: "opset-above-ceiling" in [c.code for c in check.diagnostics] for name, check in checks.items()}
    assert list(old.values()) == [True, False, False]
