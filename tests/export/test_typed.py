"""Graphs for TensorRT are judged by an engine that computes what they say."""

from __future__ import annotations

from pathlib import Path

from networks import PROBES, folded, frames

from edgetl_export.budget import Budget, Measured
from edgetl_export.candidates import Reference, infer_of
from edgetl_export.compile import FloatGraph
from edgetl_export.graph import load_model
from edgetl_export.parity import record, rms_error
from edgetl_export.search import Found, quantiser_of
from edgetl_export.typed import INT8, typed_variants
from edgetl_runtime.engines import load_engine


def test_symmetric_int8_is_computed_as_onnxruntime_does(tmp_path: Path) -> None:
    """OpenVINO 2026.4 gets this network wrong on a processor with VNNI and without AMX; it must not judge there."""
    path = folded(tmp_path / "net.onnx")
    engine = load_engine("onnxruntime", path, precision="fp32")
    tensors = record(infer_of(engine), frames(), PROBES)
    reference = Reference(
        name="net",
        frames=frames(),
        probes=PROBES,
        tensors=tensors,
        measured=Measured({"detect": 1.0}),
        metric=lambda infer: Measured({"detect": 1.0 - rms_error(tensors, record(infer, frames(), PROBES))}),
        metric_name="nearness",
        budget=Budget(10.0),
    )
    (tmp_path / "ship").mkdir()
    quantiser = quantiser_of(path, PROBES, frames(6, seed=3), work=tmp_path, ship=tmp_path / "ship")
    graph = FloatGraph(path, tmp_path / "ship" / "model.fp32.onnx", load_model(path), (), ())
    found = Found(used={"int8": "minmax"})
    candidates, left_out = typed_variants(graph, quantiser, found, reference, say=lambda text: None)
    assert not left_out
    int8 = next(c for c in candidates if c.pair.variant == INT8)
    assert int8.hop.value > 0.95 and int8.hop.passed
    assert int8.pair.file.is_file() and int8.pair.probe_file != int8.pair.file
