"""Layers that stay in float32 beside bf16: as few as the budget needs, and the engine keeps them so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import PROBES, SIZE_HW, folded, frames

from edgetl_export.budget import Budget, Measured
from edgetl_export.candidates import Reference, infer_of, recorded
from edgetl_export.graph import load_model, save_model, set_metadata
from edgetl_export.islands import FloatNetwork, find_islands, keep_fp32, least_prefix, without_probes
from edgetl_export.layers import layers_of
from edgetl_export.parity import Infer, record, rms_error
from edgetl_export.proof import prove
from edgetl_runtime.engines import load_engine
from edgetl_runtime.engines.openvino import KEEP_FP32
from edgetl_runtime.errors import EngineError

LAYERS = ["stem", "wide", "deep", "back", "left", "right", "mix", "head"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = folded(tmp_path_factory.mktemp("net") / "net.onnx")
    try:
        load_engine("openvino", path, precision="bf16").close()
    except EngineError as error:
        pytest.skip(f"no bf16 here: {error.message}")
    return path


def marked(net: Path, folder: Path, names: list[str]) -> Path:
    save_model(keep_fp32(load_model(net), names), folder / "marked.onnx")
    return folder / "marked.onnx"


@pytest.mark.parametrize(
    "names", [[], ["stem"], ["back"], ["wide", "deep"], ["stem", "back", "mix"], LAYERS[1:], LAYERS], ids=str
)
def test_exactly_the_named_layers_run_in_float32(net: Path, tmp_path: Path, names: list[str]) -> None:
    path = marked(net, tmp_path, names)
    engine = load_engine("openvino", path, precision="bf16")
    found = engine.layer_precisions()  # type: ignore[attr-defined]
    engine.infer({engine.inputs[0].name: np.zeros((1, *SIZE_HW, 3), np.uint8)})
    assert {n for n in LAYERS if found[n] == "fp32"} == set(names)
    layers = layers_of(load_model(net), PROBES)
    assert prove(engine, layers, (), fp32=names).ok
    wrong = prove(engine, layers, (), fp32=[n for n in LAYERS if n not in names])
    engine.close()
    assert set(wrong.wrong) == set(LAYERS) - set(names), "a layer in bf16 that should be in float32 is told"


def test_a_node_that_only_a_probe_needed_is_not_named_where_the_graph_ships(net: Path, tmp_path: Path) -> None:
    model = load_model(net)
    model.graph.node.append(onnx.helper.make_node("Neg", ["heat"], ["probe"], name="beside"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("probe", onnx.TensorProto.FLOAT, None))
    model = keep_fp32(onnx.shape_inference.infer_shapes(model), ["head", "beside"])
    save_model(model, tmp_path / "probed.onnx")
    save_model(without_probes(model, ["probe"]), tmp_path / "ships.onnx")
    named = [
        json.loads(p.value)
        for path in ("probed.onnx", "ships.onnx")
        for p in load_model(tmp_path / path).metadata_props
        if p.key == KEEP_FP32
    ]
    assert set(named[0]) - set(named[1]) == {"probe"} and named[1]
    engine = load_engine("openvino", tmp_path / "ships.onnx", precision="bf16")
    assert engine.layer_precisions()["head"] == "fp32"  # type: ignore[attr-defined]
    engine.close()


def test_what_stays_in_float32_is_nearer_to_it(net: Path, tmp_path: Path) -> None:
    reference = recorded("openvino", net, "fp32", frames(), PROBES)
    errors = [
        rms_error(reference, recorded("openvino", marked(net, tmp_path, LAYERS[:n]), "bf16", frames(), PROBES))
        for n in (0, 4, 8)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < errors[0] / 2, "what is no layer runs in bf16 still"


def test_other_precisions_and_engines_take_no_notice(net: Path, tmp_path: Path) -> None:
    path = marked(net, tmp_path, ["stem"])
    for engine in ("onnxruntime", "openvino"):
        plain, same = (recorded(engine, p, "fp32", frames()[:2], PROBES) for p in (net, path))
        assert rms_error(plain, same) == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('["stem_out", "stem"]', "finds no tensor 'stem', which is to stay in float32"),
        ("{", "can't load"),
        ("7", "can't load"),
    ],
)
def test_what_can_not_be_kept_is_refused(net: Path, tmp_path: Path, value: str, message: str) -> None:
    model = load_model(net)
    set_metadata(model, KEEP_FP32, value)
    save_model(model, tmp_path / "bad.onnx")
    with pytest.raises(EngineError, match=message):
        load_engine("openvino", tmp_path / "bad.onnx", precision="bf16")


def test_metadata_is_replaced_and_the_rest_of_it_stays(net: Path) -> None:
    model = load_model(net)
    set_metadata(model, "other", "1")
    set_metadata(model, KEEP_FP32, "a")
    set_metadata(model, KEEP_FP32, "b")
    assert {p.key: p.value for p in model.metadata_props} == {"other": "1", KEEP_FP32: "b"}
    assert keep_fp32(model, ()) is model


class Lab:
    """A metric that falls as the heat moves away from the float network's."""

    def __init__(self, net: Path, folder: Path, max_drop: float) -> None:
        engine = load_engine("onnxruntime", net, precision="fp32")
        tensors = record(infer_of(engine), frames(), PROBES)

        def metric(other: Infer) -> Measured:
            return Measured({"detect": 1.0 - rms_error(tensors, record(other, frames(), PROBES))})

        self.reference = Reference(
            name="net", frames=frames(), probes=PROBES, tensors=tensors, measured=Measured({"detect": 1.0}),
            metric=metric, metric_name="nearness", budget=Budget(max_drop),
        )  # fmt: skip
        (folder / "ship").mkdir()
        model = load_model(net)
        self.network = FloatNetwork(model, layers_of(model, PROBES), PROBES, folder, folder / "ship")


def test_the_fewest_that_the_budget_needs(net: Path, tmp_path: Path) -> None:
    whole = recorded("openvino", net, "bf16", frames(), PROBES)
    exact = recorded("openvino", net, "fp32", frames(), PROBES)
    lab = Lab(net, tmp_path, max_drop=0.6 * rms_error(exact, whole))
    said: list[str] = []
    found = find_islands(lab.network, lab.reference, say=said.append)
    assert 0 < len(found.layers) < len(LAYERS)
    best = next(c for c in found.candidates if c.pair.float_layers == found.layers)
    assert best.hop.passed and best.pair.precision == "bf16"
    assert best.hop.note.endswith(f"{len(found.layers)} of {len(LAYERS)} layers in float32")
    for candidate in found.candidates:
        if len(candidate.pair.float_layers) < len(found.layers):
            assert not candidate.hop.passed
        kept = onnx.load(str(candidate.pair.file)).metadata_props
        assert [p.key for p in kept] == [KEEP_FP32]
    assert len(said) == len(found.candidates) == len({c.key for c in found.candidates})


def test_layers_that_openvino_does_not_find_are_no_islands(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(net, tmp_path, max_drop=0.0)
    monkeypatch.setattr("edgetl_export.islands.list_of_names", lambda names: '["lost"]')
    said: list[str] = []
    found = find_islands(lab.network, lab.reference, say=said.append)
    assert (found.layers, found.candidates) == ((), [])
    assert "can't be kept in float32" in said[0] and "no tensor 'lost'" in said[0]


def test_shapes_and_indices_are_no_matter_of_precision(net: Path) -> None:
    model = load_model(net)
    names = [node.name for node in model.graph.node]
    kept = json.loads(keep_fp32(model, names).metadata_props[0].value)
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    assert kept and {kinds[name] for name in kept} == {onnx.TensorProto.FLOAT}


def test_nothing_is_found_where_nothing_is_enough(net: Path, tmp_path: Path) -> None:
    lab = Lab(net, tmp_path, max_drop=0.0)
    found = find_islands(lab.network, lab.reference, say=lambda text: None)
    assert found.layers == () and found.candidates and not any(c.hop.passed for c in found.candidates)


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 1), (8, 1), (8, 3), (8, 7), (8, 8), (8, 9), (0, 1)])
def test_the_shortest_start_that_passes(count: int, needed: int) -> None:
    order = [f"layer{i}" for i in range(count)]
    asked: list[int] = []

    def passes(start: object) -> bool:
        asked.append(len(start))  # type: ignore[arg-type]
        return asked[-1] >= needed

    found = least_prefix(order, passes)
    assert found == (order[:needed] if needed < count else [])
    assert len(asked) <= 4 and 0 not in asked and count not in asked
