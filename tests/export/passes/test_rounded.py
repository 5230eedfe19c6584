"""An FP16 graph in float32: every result is the half that the FP16 graph makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NORMAL, PROBES, conv, folded, frame_nodes, frames, graph_of, weights
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from edgetl_export.calibrate import magnitudes
from edgetl_export.graph import float_tensors, load_model, save_model, watchable, with_outputs
from edgetl_export.passes import rounded as module
from edgetl_export.passes.half import to_half
from edgetl_export.passes.rounded import rounded, widened
from edgetl_runtime.engines import ONNX_ENGINES, load_engine
from edgetl_runtime.spec import EngineName


def half_of(path: Path) -> ModelProto:
    largest = magnitudes(path, float_tensors(load_model(path)), frames(), path.parent)
    return to_half(load_model(path), largest, PROBES)[0]


def outputs_of(
    model: ModelProto, folder: Path, frame: NDArray[np.uint8], *, by: EngineName = "onnxruntime"
) -> dict[str, NDArray[np.generic]]:
    save_model(model, folder / "run.onnx")
    engine = load_engine(by, folder / "run.onnx", precision="fp32")
    try:
        return {name: np.array(value) for name, value in engine.infer({engine.inputs[0].name: frame}).items()}
    finally:
        engine.close()


def scaled(path: Path, *factors: float) -> ModelProto:
    """The frame's values times one factor after the other, in half, and one convolution."""
    names = ["normal", *(f"m{i}" for i in range(len(factors)))]
    nodes = [*frame_nodes()]
    nodes += [
        helper.make_node("Mul", [names[i], f"f{i}"], [names[i + 1]], name=names[i + 1]) for i in range(len(factors))
    ]
    nodes += [conv("head", names[-1], "heat")]
    held = {**NORMAL, **weights("head", 2, 3, 3, 3)}
    held |= {f"f{i}": np.array(value, np.float32) for i, value in enumerate(factors)}
    save_model(graph_of(nodes, ["heat"], held), path)
    return to_half(load_model(path), {}, PROBES)[0]


def test_an_overflow_between_two_nodes_is_seen(tmp_path: Path) -> None:
    """ONNX Runtime does not show it where it runs the FP16 graph itself."""
    half = scaled(tmp_path / "net.onnx", 60000.0, 2.0, 0.001)
    found = outputs_of(rounded(half), tmp_path, frames()[1])["heat"]
    assert not np.isfinite(np.asarray(found, np.float32)).all()


def test_every_product_is_the_half_that_numpy_makes(tmp_path: Path) -> None:
    factors = (0.3337, 3.1, 1e-4)
    wide = with_outputs(rounded(scaled(tmp_path / "net.onnx", *factors)), ["normal", "m0", "m1", "m2"])
    found = outputs_of(wide, tmp_path, frames()[1])
    value = np.asarray(found["normal"]).astype(np.float16)
    assert np.abs(value).max() > 0.5
    for i, factor in enumerate(factors):
        value = value * np.float16(factor)
        np.testing.assert_array_equal(np.asarray(found[f"m{i}"]), value.astype(np.float32))
    assert 0 < np.abs(value[value != 0]).min() < 6.2e-5, "subnormal halves are among them"


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_sums_round_to_the_half_that_numpy_makes_in_every_engine(tmp_path: Path, engine: EngineName) -> None:
    """Of the two halves beside a value the nearer one, wherever they are normal numbers; ties go to either."""
    factors = (0.3337, 3.1, 97.0)
    wide = with_outputs(rounded(scaled(tmp_path / "net.onnx", *factors), by="sums"), ["normal", "m0", "m1", "m2"])
    found = {k: np.asarray(v, np.float32) for k, v in outputs_of(wide, tmp_path, frames()[1], by=engine).items()}
    value = found["normal"]
    for name, factor in zip(("m0", "m1", "m2"), factors, strict=True):
        exact = value * np.float32(np.float16(factor))
        value = found[name]
        np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32), err_msg="no halves")
        spacing = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float32)
        assert (np.abs(value - exact) <= spacing / 2).all()
        assert (value != exact).any(), "nothing was rounded"
    assert np.abs(value).min(initial=1, where=value != 0) > 6.2e-5


@pytest.mark.parametrize("engine", ONNX_ENGINES)
@pytest.mark.parametrize(("largest", "finite"), [(65500.0, True), (65540.0, False), (-65540.0, False), (3e38, False)])
def test_sums_see_an_overflow_in_every_engine(tmp_path: Path, engine: EngineName, largest: float, finite: bool) -> None:
    half = scaled(tmp_path / "net.onnx", 1.0, 1e-3)
    wide = rounded(half, by="sums")
    top = float(np.abs(np.asarray(outputs_of(with_outputs(wide, ["normal"]), tmp_path, frames()[1])["normal"])).max())
    for node in wide.graph.node:
        if node.name == "m0":
            node.input[1] = "blow"
    wide.graph.initializer.append(numpy_helper.from_array(np.array(largest / top, np.float32), "blow"))
    found = outputs_of(with_outputs(wide, ["m0"]), tmp_path, frames()[1], by=engine)
    assert np.isfinite(np.asarray(found["m0"], np.float32)).all() == finite
    assert np.isfinite(np.asarray(found["heat"], np.float32)).all() == finite


def test_sums_and_casts_make_graphs_that_compute_nearly_the_same(tmp_path: Path) -> None:
    half = half_of(folded(tmp_path / "net.onnx"))
    plain = outputs_of(widened(half), tmp_path, frames()[1])["heat"]
    casts = outputs_of(rounded(half), tmp_path, frames()[1])["heat"]
    sums = outputs_of(rounded(half, by="sums"), tmp_path, frames()[1], by="openvino")["heat"]
    away = [
        float(np.abs(np.asarray(a, np.float64) - b).std()) for a, b in ((casts, plain), (sums, plain), (casts, sums))
    ]
    assert away[0] > 0 and away[1] == pytest.approx(away[0], rel=0.5) and away[2] < away[0]


def test_rounding_after_a_cut_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = half_of(folded(tmp_path / "net.onnx"))
    late = rounded(half)
    monkeypatch.setattr(module, "CUTS", frozenset())
    at_once = rounded(half)
    assert _read_by_relu(late) != _read_by_relu(at_once), "Relus read what is not rounded yet"
    names = watchable(half)
    a, b = (outputs_of(with_outputs(m, names), tmp_path, frames()[1]) for m in (late, at_once))
    for name in names:
        np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)


def _read_by_relu(model: ModelProto) -> list[str]:
    return [n.input[0] for n in model.graph.node if n.op_type == "Relu"]


def test_nothing_is_half_but_what_rounds(tmp_path: Path) -> None:
    wide = rounded(half_of(folded(tmp_path / "net.onnx")))
    halves = {v.name for v in wide.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    assert halves and all(name.endswith("/half") for name in halves)
    assert not [i.name for i in wide.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16]
    onnx.checker.check_model(wide, full_check=True)


def test_what_only_chooses_is_not_rounded_again(tmp_path: Path) -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x"),
        helper.make_node("MaxPool", ["x"], ["small"], name="small", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["small", "small"], ["both"], name="both", axis=1),
        conv("h", "both", "heat"),
    ]
    held = {**NORMAL, **weights("a", 8, 3, 3, 3), **weights("h", 2, 16, 3, 3)}
    save_model(graph_of(nodes, ["heat"], held), tmp_path / "net.onnx")
    wide = rounded(half_of(tmp_path / "net.onnx"))
    makers = {output: node.op_type for node in wide.graph.node for output in node.output}
    assert makers["x"] == "Cast" and makers["small"] == "MaxPool" and makers["both"] == "Concat"
