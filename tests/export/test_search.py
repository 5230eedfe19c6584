"""The search for INT8 layers: everywhere where the budget allows it, else as many as it allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from networks import PROBES, folded, frames

from edgetl_export.budget import Budget, Measured
from edgetl_export.candidates import Candidate, Pair, Reference, infer_of
from edgetl_export.graph import load_model
from edgetl_export.parity import Infer, record, rms_error
from edgetl_export.proof import Proof, prove, prove_by_count
from edgetl_export.search import Quantiser, quantiser_of, search, search_record
from edgetl_runtime.engines import available_engines, load_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Hop

needs_openvino = pytest.mark.skipif("openvino" not in available_engines(), reason="needs openvino")
INT8 = {"stem", "wide", "deep", "back", "left", "right", "mix"}


class Lab:
    """The residual network with a metric that is its nearness to the float network: 1 minus the heat's error."""

    def __init__(self, folder: Path, max_drop: float, *, silu: bool = False) -> None:
        path = folded(folder / "net.onnx", silu=silu)
        engine = load_engine("onnxruntime", path, precision="fp32")
        infer = infer_of(engine)
        tensors = record(infer, frames(), PROBES)
        self.measured = 0

        def metric(other: Infer) -> Measured:
            self.measured += 1
            rows = record(other, frames(), PROBES)
            return Measured({"detect": 1.0 - rms_error(tensors, rows)})

        self.reference = Reference(
            name="net",
            frames=frames(),
            probes=PROBES,
            tensors=tensors,
            measured=Measured({"detect": 1.0}),
            metric=metric,
            metric_name="nearness",
            budget=Budget(max_drop),
        )
        (folder / "ship").mkdir()
        self.quantiser: Quantiser = quantiser_of(path, PROBES, frames(6, seed=3), work=folder, ship=folder / "ship")


@needs_openvino
def test_int8_everywhere_where_the_budget_allows_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, max_drop=0.2)
    found = search(lab.quantiser, lab.reference, say=lambda text: None)
    assert {c.pair.variant for c in found.candidates} <= {"int8", "int8-bf16"}
    assert any(c.hop.passed for c in found.candidates) and not found.sensitivities
    assert set(found.calibrators) == {"minmax", "percentile", "entropy", "mse"}
    best = min(found.calibrators, key=lambda name: found.calibrators[name])
    assert found.used["int8"] == best
    assert all((c.pair.file.parent, c.pair.file.is_file()) == (tmp_path / "ship", True) for c in found.candidates)


@needs_openvino
def test_onnxruntime_has_a_graph_of_its_own_where_it_fuses_less(tmp_path: Path) -> None:
    """Not one trial more: where both had the same graph ONNX Runtime's was judged, too."""
    lab = Lab(tmp_path, max_drop=1.0, silu=True)
    found = search(lab.quantiser, lab.reference, say=lambda text: None)
    graphs = {c.key: c.pair.file.name for c in found.candidates}
    assert graphs.pop("onnxruntime/int8-ort") == "model.int8-ort.onnx"
    assert graphs and {key.split("/")[0] for key in graphs} == {"openvino"}
    assert set(graphs.values()) == {"model.int8.onnx"}
    own = next(c for c in found.candidates if c.pair.engine == "onnxruntime")
    assert own.hop.passed and f"{len(INT8)} of {len(INT8)} INT8 layers run in INT8" in own.hop.note
    assert prove_by_count(tmp_path / "ship" / "model.int8.onnx", INT8).int8 < len(INT8) - 2
    best = min(found.calibrators, key=lambda name: found.calibrators[name])
    assert {t.calibrator for t in search_record(found, len(INT8), {}).trials} == {best}


@pytest.mark.parametrize("silu", [True, False])
def test_without_openvino_every_graph_is_onnxruntimes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silu: bool
) -> None:
    """Those with layers in float too, which a budget that INT8 everywhere does not keep asks for."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    lab = Lab(tmp_path, max_drop=1e-4, silu=silu)
    found = search(lab.quantiser, lab.reference, say=lambda text: None)
    assert {c.pair.engine for c in found.candidates} == {"onnxruntime"}
    names = [c.pair.variant for c in found.candidates]
    assert len(names) > 2 and names[0] == ("int8-ort" if silu else "int8")
    for c in found.candidates:
        assert c.pair.variant.endswith("-ort") is bool(lab.quantiser.opened.difference(c.pair.float_layers))
    assert {found.calibrator_of(c) for c in found.candidates} <= set(found.calibrators)
    assert {row.layer for row in found.sensitivities} == INT8


def test_a_network_without_such_activations_has_one_graph(tmp_path: Path) -> None:
    quantiser = Lab(tmp_path, max_drop=1.0).quantiser
    assert not quantiser.opened and quantiser.scheme_for("onnxruntime") == "u8s8"
    silu = tmp_path / "silu"
    silu.mkdir()
    quantiser = Lab(silu, max_drop=1.0, silu=True).quantiser
    assert [quantiser.scheme_for(engine) for engine in ("openvino", "onnxruntime")] == ["u8s8", "u8s8-ort"]
    assert quantiser.scheme_for("onnxruntime", sorted(quantiser.opened)) == "u8s8", "none of them is in INT8"


@needs_openvino
def test_sensitive_layers_stay_in_float_where_it_does_not(tmp_path: Path) -> None:
    """A budget between what INT8 everywhere loses and what one layer loses."""
    plain = search(Lab(tmp_path, max_drop=1.0).quantiser, Lab2(tmp_path).reference, say=lambda text: None)
    loss = max(1.0 - c.hop.value for c in plain.candidates if c.pair.engine == "openvino")
    folder = tmp_path / "tight"
    folder.mkdir()
    lab = Lab(folder, max_drop=0.6 * loss)
    said: list[str] = []
    found = search(lab.quantiser, lab.reference, say=said.append)
    assert {row.layer for row in found.sensitivities} == INT8
    errors = [row.error for row in found.sensitivities]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0
    mixed = [c for c in found.candidates if c.pair.variant.startswith("mixed")]
    passing = [c for c in mixed if c.hop.passed]
    assert passing, said
    best = min(passing, key=lambda c: len(c.pair.float_layers))
    assert 0 < len(best.pair.float_layers) < len(INT8)
    assert any("layers in float" in text for text in said)
    record = search_record(found, len(lab.quantiser.eligible), {best.key: 1.5})
    assert next(t for t in record.trials if t.variant == best.pair.variant).p50_ms == 1.5
    assert record.layers == len(INT8)


@needs_openvino
def test_where_bf16_alone_is_over_the_budget_the_rest_is_fp32(tmp_path: Path) -> None:
    lab = Lab(tmp_path, max_drop=1e-4)
    path = tmp_path / "net.onnx"
    hop = Hop(hop="openvino/bf16", metric="nearness", value=0.9, max_rel_error=0.1, cosine=0.9, passed=False)
    bf16 = Candidate(
        Pair(variant="bf16", precision="bf16", engine="openvino", probe_file=path, file=path),
        Measured({"detect": 0.9}),
        hop,
    )
    said: list[str] = []
    found = search(lab.quantiser, lab.reference, floats=[bf16], say=said.append)
    mixed = [c for c in found.candidates if c.pair.variant.startswith("mixed")]
    assert mixed and {c.pair.precision for c in mixed} == {"int8"}
    assert any("bf16 by itself costs more than the budget" in text for text in said)


class Lab2:
    """A reference of its own folder."""

    def __init__(self, folder: Path) -> None:
        (folder / "second").mkdir()
        self.reference = Lab(folder / "second", max_drop=0.0).reference


@needs_openvino
@pytest.mark.parametrize("precision", ["int8", "int8-bf16"])
def test_the_precision_of_every_layer_is_read_back(tmp_path: Path, precision: str) -> None:
    lab = Lab(tmp_path, max_drop=1.0)
    probe_file, file = lab.quantiser.build("trial", float_layers=("deep", "mix"))
    if precision == "int8-bf16":
        try:
            load_engine("openvino", file, precision="int8-bf16").close()
        except Exception:
            pytest.skip("this CPU has no bf16")
    asked = INT8 - {"deep", "mix"}
    engine = load_engine("openvino", file, precision=precision)  # type: ignore[arg-type]
    proof = prove(engine, lab.quantiser.layers, asked)
    assert proof == Proof(len(asked), len(asked), {}) and proof.ok
    wrong = prove(engine, lab.quantiser.layers, INT8)
    engine.close()
    assert set(wrong.wrong) == {"deep", "mix"} and not wrong.ok
    assert "5 of 7" in str(wrong) and "deep" in str(wrong)
    assert probe_file != file and {o.name for o in load_model(file).graph.output} == {"scores"}


def test_a_finer_precision_than_asked_is_said_and_not_refused() -> None:
    proof = Proof(3, 3, {}, finer=2)
    assert proof.ok and str(proof) == "3 of 3 INT8 layers run in INT8, 2 float layers in FP32"
    assert str(Proof(0, 0, {})) == "precision as asked"


def test_onnxruntime_tells_how_many_layers_it_fused(tmp_path: Path) -> None:
    lab = Lab(tmp_path, max_drop=1.0)
    _, file = lab.quantiser.build("trial")
    assert prove_by_count(file, INT8).int8 >= 5
    float_only = prove_by_count(tmp_path / "net.onnx", INT8)
    assert float_only.int8 == 0 and not float_only.ok


def test_no_calibration_frames(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no calibration frames"):
        quantiser_of(folded(tmp_path / "net.onnx"), PROBES, [], work=tmp_path, ship=tmp_path)
