"""Time through the real export; a network that can't be exported costs nobody else's time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx

from edgetl.data import Dataset, Sample
from edgetl.ranking.latency import compile_network, measure_latency
from edgetl_runtime.spec import ClassifyHead

HEADS = (ClassifyHead(labels=("x", "y"), thresholds=(0.0, 0.0)),)
SMALL = "resnet10t"


def test_a_network_is_timed_once_and_a_wrong_name_says_why(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8))
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    dataset = Dataset("d", (), (Sample(tmp_path / "a.png", *none, "a", category=0),), categories=("x", "y"))
    times = measure_latency([SMALL, "no_such_network", SMALL], dataset, HEADS, (32, 32), runs=10)
    assert list(times) == ["no_such_network", SMALL]
    assert times[SMALL].ms is not None
    assert 0 < times[SMALL].ms < 1000
    assert times[SMALL].pair.split("/")[0] in {"onnxruntime", "openvino"}
    assert times["no_such_network"].ms is None
    assert "no_such_network" in times["no_such_network"].why


def test_what_is_timed_is_what_would_ship(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
    files = compile_network(SMALL, HEADS, (32, 32), [frame], tmp_path / "work")
    assert {engine for engine, _ in files} == {"onnxruntime", "openvino"}
    for (_, precision), path in files.items():
        graph = onnx.load(str(path)).graph
        assert [o.name for o in graph.output] == ["probabilities", "embedding"]
        assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert any(n.op_type == "DequantizeLinear" for n in graph.node) is precision.startswith("int8")
