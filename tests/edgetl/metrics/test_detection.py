"""Average precision against cases worked out by hand, merged classes, and ignored heights."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetl.metrics.detection import Scoring, Truth, average_precision, parse_merge
from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Detections

CLASSES = ("car", "bus", "person")


def _truth(boxes: list[list[float]], labels: list[int], ignore: list[bool] | None = None) -> Truth:
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignore or [False] * len(labels), np.bool_),
    )


def _found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64)
    )


BOX = [10.0, 10.0, 50.0, 40.0]
FAR = [100.0, 100.0, 140.0, 130.0]


def test_perfect_and_empty() -> None:
    truth = [_truth([BOX, FAR], [0, 1])]
    perfect = average_precision(truth, [_found([BOX, FAR], [0.9, 0.8], [0, 1])], CLASSES)
    assert perfect.ap50 == pytest.approx(1.0)
    assert perfect.ap == pytest.approx(1.0)
    assert math.isnan(perfect.per_class["person"])
    nothing = average_precision(truth, [_found([], [], [])], CLASSES)
    assert nothing.ap50 == pytest.approx(0.0)


def test_a_false_alarm_above_the_hit_halves_precision() -> None:
    metric = average_precision([_truth([BOX], [0])], [_found([FAR, BOX], [0.9, 0.5], [0, 0])], CLASSES)
    assert metric.ap50 == pytest.approx(0.5)


def test_finding_one_object_twice_is_one_false_alarm() -> None:
    truth = [_truth([BOX, FAR], [0, 0])]
    twice = average_precision(truth, [_found([BOX, BOX, FAR], [0.9, 0.8, 0.7], [0, 0, 0])], CLASSES)
    assert twice.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)


def test_ap50_alone_is_the_same_ap50() -> None:
    truth = [_truth([BOX, FAR], [0, 1]), _truth([BOX], [2])]
    near = [BOX[0] + 6.0, *BOX[1:]]
    found = [_found([near, FAR, BOX], [0.9, 0.8, 0.7], [0, 1, 1]), _found([FAR], [0.9], [2])]
    both = average_precision(truth, found, CLASSES)
    alone = average_precision(truth, found, CLASSES, Scoring(ap50_only=True))
    assert (alone.ap50, alone.per_class, alone.images) == (both.ap50, both.per_class, both.images)
    assert math.isnan(alone.ap) and 0 < both.ap < both.ap50


def test_scoring_in_several_threads_leaves_standard_output_alone() -> None:
    before = sys.stdout
    truth = [_truth([BOX, FAR], [0, 0])] * 20
    found = [_found([BOX, FAR], [0.9, 0.8], [0, 0])] * 20
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: average_precision(truth, found, CLASSES).ap50, range(12)))
    assert sys.stdout is before and values == [pytest.approx(1.0)] * 12


def test_low_boxes_are_neither_right_nor_wrong() -> None:
    low, other_low = [0.0, 0.0, 30.0, 9.0], [60.0, 0.0, 90.0, 9.0]
    truth = [_truth([BOX, low], [0, 0])]
    found = [_found([BOX, other_low], [0.5, 0.9], [0, 0])]
    assert average_precision(truth, found, CLASSES).ap50 < 0.5
    assert average_precision(truth, found, CLASSES, Scoring(min_height_px=16)).ap50 == pytest.approx(1.0)


def test_ignored_objects_forgive_a_detection() -> None:
    truth = [_truth([BOX, FAR], [0, 0], [False, True])]
    assert average_precision(truth, [_found([FAR, BOX], [0.9, 0.5], [0, 0])], CLASSES).ap50 == pytest.approx(1.0)


def test_merged_classes_score_as_one_and_leave_the_rest_out() -> None:
    truth = [_truth([BOX, FAR], [0, 2])]
    found = [_found([BOX], [0.9], [1])]
    assert average_precision(truth, found, CLASSES).per_class["car"] == pytest.approx(0.0)
    merged = average_precision(truth, found, CLASSES, Scoring(merge=parse_merge(["vehicle=car,bus"], CLASSES)))
    assert merged.per_class == {"vehicle": pytest.approx(1.0)}
    assert merged.ap50 == pytest.approx(1.0)


@pytest.mark.parametrize("texts", [["vehicle=car", "all=car,bus"], ["one=car,car"], ["one=car", "one=bus"]])
def test_a_class_is_merged_once(texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"(car|one)' is given twice"):
        parse_merge(texts, CLASSES)


@pytest.mark.parametrize("text", ["vehicle=car,tram", "vehicle", "=car", "vehicle="])
def test_a_wrong_merge_lists_the_classes(text: str) -> None:
    with pytest.raises(InputError, match="car, bus, person"):
        parse_merge([text], CLASSES)
