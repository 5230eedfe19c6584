"""Decoding against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl_runtime.decode import decode
from edgetl_runtime.errors import EngineError
from edgetl_runtime.letterbox import Geometry, geometry
from edgetl_runtime.spec import Decode

special = st.sampled_from([math.nan, math.inf, -math.inf])
coordinates = st.floats(-50, 150, width=32) | special
scores = st.floats(0, 1, width=32) | special
rows = st.lists(st.tuples(st.tuples(*[coordinates] * 4), scores, st.integers(0, 3)), min_size=1, max_size=12)
sizes = st.tuples(st.integers(1, 120), st.integers(1, 120))


def outputs_of(data: list[tuple[tuple[float, ...], float, int]]) -> dict[str, np.ndarray]:
    return {
        "boxes": np.array([[r[0] for r in data]], np.float32).reshape(1, len(data), 4),
        "scores": np.array([[r[1] for r in data]], np.float32),
        "classes": np.array([[r[2] for r in data]], np.int64),
    }


def plain(outputs: dict[str, np.ndarray], spec: Decode, place: Geometry) -> list[tuple[list[float], float, int]]:
    """The same, one row after the other."""
    kept = []
    (h, w), (new_h, new_w) = place.source_hw, place.new_hw
    for i in range(outputs["scores"].shape[1]):
        score, box = float(outputs["scores"][0, i]), outputs["boxes"][0, i].tolist()
        if not math.isfinite(score) or score < spec.score_threshold or not all(map(math.isfinite, box)):
            continue
        x1, x2 = (min(max((v - place.pad_left) * w / new_w, 0), w) for v in box[::2])
        y1, y2 = (min(max((v - place.pad_top) * h / new_h, 0), h) for v in box[1::2])
        corners = [float(np.float32(v)) for v in (x1, y1, x2, y2)]
        if corners[2] > corners[0] and corners[3] > corners[1]:
            kept.append((corners, score, int(outputs["classes"][0, i])))
    return sorted(kept, key=lambda row: -row[1])[: spec.max_detections]


@settings(deadline=None, max_examples=300)
@given(data=rows, source_hw=sizes, threshold=st.floats(0, 1, width=32), limit=st.integers(1, 12))
def test_equals_the_loop(
    data: list[tuple[tuple[float, ...], float, int]],
    source_hw: tuple[int, int],
    threshold: float,
    limit: int,
) -> None:
    spec = Decode(max_detections=limit, score_threshold=threshold, stride=8)
    place = geometry(source_hw, (64, 96))
    outputs = outputs_of(data)
    before = {k: v.copy() for k, v in outputs.items()}
    found = decode(outputs, spec, place)
    expected = plain(outputs, spec, place)
    assert len(found) == len(expected)
    np.testing.assert_allclose(
        found.boxes_xyxy, np.array([r[0] for r in expected], np.float32).reshape(-1, 4), rtol=1e-5, atol=1e-4
    )
    assert found.scores.tolist() == [r[1] for r in expected]
    assert found.classes.tolist() == [r[2] for r in expected]
    assert (found.boxes_xyxy.dtype, found.scores.dtype, found.classes.dtype) == ("float32", "float32", "int64")
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, before[name])


def test_a_nan_score_is_no_detection_even_at_threshold_zero() -> None:
    spec = Decode(max_detections=2, score_threshold=0.0, stride=8)
    outputs = outputs_of([((1, 1, 9, 9), math.nan, 0), ((1, 1, 9, 9), 0.0, 1)])
    assert decode(outputs, spec, geometry((64, 96), (64, 96))).classes.tolist() == [1]


def test_results_survive_the_reuse_of_the_outputs() -> None:
    spec = Decode(max_detections=1, score_threshold=0.1, stride=8)
    outputs = outputs_of([((1, 1, 9, 9), 0.9, 2)])
    found = decode(outputs, spec, geometry((64, 96), (64, 96)))
    for array in outputs.values():
        array.fill(0)
    assert found.scores.tolist() == [np.float32(0.9)]
    assert found.classes.tolist() == [2]
    assert found.boxes_xyxy.tolist() == [[1, 1, 9, 9]]


@pytest.mark.parametrize("spoil", ["missing", "k", "batch"])
def test_wrong_outputs_are_named(spoil: str) -> None:
    outputs = outputs_of([((1, 1, 9, 9), 0.9, 0)] * 2)
    if spoil == "missing":
        del outputs["scores"]
    elif spoil == "k":
        outputs["classes"] = outputs["classes"][:, :1]
    else:
        outputs = {k: np.concatenate([v, v]) for k, v in outputs.items()}
    with pytest.raises(EngineError, match="scores"):
        decode(outputs, Decode(max_detections=2, score_threshold=0.5, stride=8), geometry((8, 8), (8, 8)))
