"""Time through the real export, and a network that can't be exported costs nobody else's time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgetl.data import Dataset, Sample
from edgetl.ranking.latency import measure_latency
from edgetl_runtime.spec import ClassifyHead


def test_a_smaller_network_takes_less_time_and_a_wrong_one_says_why(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8))
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    dataset = Dataset("d", (), (Sample(tmp_path / "a.png", *none, "a", category=0),), categories=("x", "y"))
    heads = (ClassifyHead(labels=("x", "y"), thresholds=(0.0, 0.0)),)
    times = measure_latency(["resnet10t", "vgg11", "no_such_network"], dataset, heads, (64, 64), runs=20)
    small, large, wrong = (times[n] for n in ("resnet10t", "vgg11", "no_such_network"))
    assert small.ms is not None
    assert large.ms is not None
    assert 0 < small.ms < large.ms
    assert small.pair.split("/")[0] in {"onnxruntime", "openvino"}
    assert wrong.ms is None
    assert "no_such_network" in wrong.why
