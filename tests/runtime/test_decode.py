"""Decoding against plain loops: boxes row by row, masks pixel by pixel in exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl_runtime.decode import decode
from edgetl_runtime.errors import EngineError
from edgetl_runtime.letterbox import Geometry, geometry
from edgetl_runtime.spec import ClassifyHead, DetectHead, SegmentHead

special = st.sampled_from([math.nan, math.inf, -math.inf])
coordinates = st.floats(-50, 150, width=32) | special
scores = st.floats(0, 1, width=32) | special
rows = st.lists(st.tuples(st.tuples(*[coordinates] * 4), scores, st.integers(0, 3)), min_size=1, max_size=12)
sizes = st.tuples(st.integers(1, 120), st.integers(1, 120))
thresholds = st.tuples(*[st.floats(0, 1, width=32)] * 4)
SMALL = geometry((8, 8), (8, 8))


def boxes_head(*thresholds: float, limit: int = 12) -> DetectHead:
    labels = tuple("abcdefgh"[: len(thresholds)])
    return DetectHead(labels=labels, thresholds=thresholds, max_detections=limit, stride=8)


def outputs_of(data: list[tuple[tuple[float, ...], float, int]]) -> dict[str, np.ndarray]:
    return {
        "boxes": np.array([[r[0] for r in data]], np.float32).reshape(1, len(data), 4),
        "scores": np.array([[r[1] for r in data]], np.float32),
        "classes": np.array([[r[2] for r in data]], np.int64),
    }


def plain(outputs: dict[str, np.ndarray], head: DetectHead, place: Geometry) -> list[tuple[list[float], float, int]]:
    """The same, one row after the other."""
    kept = []
    (h, w), (new_h, new_w) = place.source_hw, place.new_hw
    for i in range(outputs["scores"].shape[1]):
        score, box = float(outputs["scores"][0, i]), outputs["boxes"][0, i].tolist()
        lowest = head.thresholds[int(outputs["classes"][0, i])]
        if not math.isfinite(score) or score < lowest or not all(map(math.isfinite, box)):
            continue
        x1, x2 = (min(max((v - place.pad_left) * w / new_w, 0), w) for v in box[::2])
        y1, y2 = (min(max((v - place.pad_top) * h / new_h, 0), h) for v in box[1::2])
        corners = [float(np.float32(v)) for v in (x1, y1, x2, y2)]
        if corners[2] > corners[0] and corners[3] > corners[1]:
            kept.append((corners, score, int(outputs["classes"][0, i])))
    return sorted(kept, key=lambda row: -row[1])[: head.max_detections]


@settings(deadline=None, max_examples=300)
@given(data=rows, source_hw=sizes, lowest=thresholds, limit=st.integers(1, 12))
def test_equals_the_loop(
    data: list[tuple[tuple[float, ...], float, int]],
    source_hw: tuple[int, int],
    lowest: tuple[float, ...],
    limit: int,
) -> None:
    head = boxes_head(*lowest, limit=limit)
    place = geometry(source_hw, (64, 96))
    outputs = outputs_of(data)
    before = {k: v.copy() for k, v in outputs.items()}
    found = decode(outputs, head, place)
    expected = plain(outputs, head, place)
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
    outputs = outputs_of([((1, 1, 9, 9), math.nan, 0), ((1, 1, 9, 9), 0.0, 1)])
    assert decode(outputs, boxes_head(0.0, 0.0), geometry((64, 96), (64, 96))).classes.tolist() == [1]


def test_results_survive_the_reuse_of_the_outputs() -> None:
    outputs = outputs_of([((1, 1, 9, 9), 0.9, 2)])
    found = decode(outputs, boxes_head(0.1, 0.1, 0.1), geometry((64, 96), (64, 96)))
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
        decode(outputs, boxes_head(0.5), SMALL)


def test_every_label_has_its_own_threshold() -> None:
    outputs = outputs_of([((0, 0, 4, 4), 0.5, 0), ((0, 0, 4, 4), 0.5, 1), ((0, 0, 4, 4), 0.5, 2)])
    assert decode(outputs, boxes_head(0.6, 0.5, 0.4), SMALL).classes.tolist() == [1, 2]


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_class_without_a_label_is_an_error_and_no_box(wrong: int) -> None:
    outputs = outputs_of([((0, 0, 4, 4), 0.9, 1), ((0, 0, 4, 4), 0.8, wrong)])
    with pytest.raises(EngineError, match=f"'detect' gave the class {wrong}, it has 3 labels"):
        decode(outputs, boxes_head(0.5, 0.5, 0.5), SMALL)
    outputs["scores"][0, 1] = 0.1  # below every threshold it is no answer at all
    assert len(decode(outputs, boxes_head(0.5, 0.5, 0.5), SMALL)) == 1


def ground(stride: int, labels: int = 5) -> SegmentHead:
    return SegmentHead(name="ground", labels=tuple("abcdefgh"[:labels]), stride=stride)


def mask_at_source(cells: np.ndarray, place: Geometry, stride: int) -> np.ndarray:
    """The cell under each source pixel's centre, one pixel after the other, without rounding."""
    (h, w), (new_h, new_w) = place.source_hw, place.new_hw
    rows = [(place.pad_top + (y + Fraction(1, 2)) * Fraction(new_h, h)) // stride for y in range(h)]
    columns = [(place.pad_left + (x + Fraction(1, 2)) * Fraction(new_w, w)) // stride for x in range(w)]
    return np.array([[cells[int(r), int(c)] for c in columns] for r in rows], np.uint8)


@settings(deadline=None, max_examples=200)
@given(
    source_hw=sizes,
    grid_hw=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    stride=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_mask_at_the_source_is_the_cell_under_each_pixel(
    source_hw: tuple[int, int], grid_hw: tuple[int, int], stride: int, seed: int
) -> None:
    place = geometry(source_hw, (grid_hw[0] * stride, grid_hw[1] * stride))
    cells = np.random.default_rng(seed).integers(0, 5, (1, *grid_hw), np.uint8)
    found = decode({"mask_ground": cells}, ground(stride), place)
    np.testing.assert_array_equal(found.at_source(), mask_at_source(cells[0], place, stride))
    assert found.size_hw == source_hw and found.classes.dtype == np.uint8


def test_the_padding_is_cut_off_in_whole_cells() -> None:
    place = geometry((40, 100), (64, 100))  # 12 rows of padding above, 12 below: 2.4 cells of 5
    assert (place.pad_top, place.new_hw) == (12, (40, 100))
    with pytest.raises(EngineError, match="stride 5 of 64x100"):
        decode({"mask_ground": np.zeros((1, 12, 20), np.uint8)}, ground(5), place)
    place = geometry((40, 100), (65, 100))
    cells = np.full((1, 13, 20), 99, np.uint8)  # in the padding even a class without a label does no harm
    cells[0, 2:11] = 3
    found = decode({"mask_ground": cells}, ground(5), place)
    assert found.classes.shape == (9, 20) and (found.classes == 3).all()
    assert found.window == (2, 0, 40, 100)
    cells[0, 5, 5] = 5
    with pytest.raises(EngineError, match="class 5, it has 5 labels"):
        decode({"mask_ground": cells}, ground(5), place)


def test_a_mask_is_a_copy_at_the_resolution_of_the_cells() -> None:
    cells = np.ones((1, 8, 8), np.uint8)
    found = decode({"mask_ground": cells}, ground(1), geometry((720, 720), (8, 8)))
    cells.fill(0)
    assert found.classes.shape == (8, 8) and found.classes.min() == 1
    assert found.classes.base is None, "a view would keep the engine's buffer"


@pytest.mark.parametrize(
    "cells", [np.zeros((1, 4, 5), np.uint8), np.zeros((1, 4, 4), np.int64), np.zeros((2, 4, 4), np.uint8)]
)
def test_a_mask_of_another_shape_or_kind_is_named(cells: np.ndarray) -> None:
    with pytest.raises(EngineError, match=r"expected mask_ground \(1, 4, 4\) uint8"):
        decode({"mask_ground": cells}, ground(2), SMALL)
    with pytest.raises(EngineError, match="no output 'mask_ground'; it gave \\['boxes'\\]"):
        decode({"boxes": cells}, ground(2), SMALL)


LIGHT = ClassifyHead(name="light", labels=("night", "dusk", "day"), thresholds=(0.5, 0.9, 0.4))


@pytest.mark.parametrize(
    ("row", "label"), [([0.5, 0.3, 0.2], 0), ([0.49, 0.3, 0.21], -1), ([0.1, 0.89, 0.01], -1), ([0.3, 0.3, 0.4], 2)]
)
def test_a_category_is_stated_from_its_own_threshold_on(row: list[float], label: int) -> None:
    outputs = {"probabilities": np.array([row], np.float32)}
    found = decode(outputs, LIGHT, SMALL)
    assert found.label == label
    outputs["probabilities"].fill(0)
    np.testing.assert_allclose(found.probabilities, row)
    assert found.probabilities.dtype == np.float32


@pytest.mark.parametrize("row", [[0.5, math.nan, 0.5], [math.inf, 0, 0]])
def test_probabilities_that_are_no_numbers_are_an_error(row: list[float]) -> None:
    with pytest.raises(EngineError, match="'light' are not all finite"):
        decode({"probabilities": np.array([row], np.float32)}, LIGHT, SMALL)


def test_probabilities_of_another_length_are_an_error() -> None:
    with pytest.raises(EngineError, match=r"probabilities \(1, 3\), found \(1, 2\)"):
        decode({"probabilities": np.ones((1, 2), np.float32)}, LIGHT, SMALL)
