"""Average precision against cases worked out by hand, merged classes, and ignored heights."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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


def test_a_hundred_objects_of_a_class_may_be_found_in_an_image() -> None:
    boxes = [[20.0 * i, 20.0 * j, 20.0 * i + 15, 20.0 * j + 15] for i in range(10) for j in range(10)]
    found = _found(boxes, np.linspace(0.9, 0.1, 100).tolist(), [0] * 100)
    assert average_precision([_truth(boxes, [0] * 100)], [found], CLASSES).ap50 == pytest.approx(1.0)


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
    """Found or not, once, twice or in part: a crowd counts neither for nor against."""
    truth = [_truth([BOX, FAR], [0, 0], [False, True])]
    part = [FAR[0], FAR[1], FAR[0] + 12, FAR[1] + 12]
    for others in ([], [FAR], [FAR, FAR], [part]):
        found = _found([*others, BOX], [*(0.9 for _ in others), 0.5], [0] * (len(others) + 1))
        assert average_precision(truth, [found], CLASSES).ap50 == pytest.approx(1.0)


def _plain_flags(truth: Truth, found: Detections, label: int, iou: float, low: float) -> list[tuple[float, int]]:
    """Score of each detection of one class in one image, and 1 for right, 0 for wrong, -1 for neither; by loops."""
    taken: set[int] = set()
    rows = []
    for i in np.argsort(-found.scores, kind="stable"):
        if found.classes[i] != label:
            continue
        a, best, place = found.boxes_xyxy[i].astype(float), iou, -1
        for kind in (False, True):  # of objects that count first
            for j in range(len(truth.labels)):
                b = truth.boxes[j].astype(float)
                crowd = bool(truth.ignore[j])
                if truth.labels[j] != label or (crowd or b[3] - b[1] < low) != kind or (j in taken and not crowd):
                    continue
                inner = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
                own, theirs = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
                share = inner / (own if crowd else own + theirs - inner)
                if share >= best:
                    best, place = share, j
            if place >= 0:
                break
        if place >= 0:
            taken.add(place)
            neither = bool(truth.ignore[place]) or truth.boxes[place][3] - truth.boxes[place][1] < low
            rows.append((float(found.scores[i]), -1 if neither else 1))
        else:
            rows.append((float(found.scores[i]), -1 if a[3] - a[1] < low else 0))
    return rows


def _plain_ap(truths: list[Truth], found: list[Detections], label: int, iou: float, low: float) -> float:
    """Area under the falling precision at 101 recalls; NaN where no object of the class counts."""
    wanted = sum(
        int(n == label and not g and b[3] - b[1] >= low)
        for t in truths
        for b, n, g in zip(t.boxes, t.labels, t.ignore, strict=True)
    )
    rows = [r for t, f in zip(truths, found, strict=True) for r in _plain_flags(t, f, label, iou, low)]
    flags = [flag for _, flag in sorted(rows, key=lambda r: -r[0]) if flag >= 0]
    if not wanted:
        return math.nan
    hits = np.cumsum(flags) if flags else np.zeros(0)
    precision = hits / np.arange(1, len(flags) + 1)
    at = [precision[hits / wanted >= r].max(initial=0.0) for r in np.linspace(0, 1, 101)]
    return float(np.mean(at))


@pytest.mark.parametrize("low", [0.0, 25.0])
@pytest.mark.parametrize("seed", range(6))
def test_it_equals_a_plain_loop_with_crowds_and_low_boxes(seed: int, low: float) -> None:
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(5):
        corners = np.concatenate([rng.uniform(0, 150, (7, 2)), rng.uniform(8, 70, (7, 2))], axis=1)
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
        labels = rng.integers(0, 2, 7)
        truths.append(_truth(boxes.tolist(), labels.tolist(), (rng.random(7) < 0.3).tolist()))
        near = np.repeat(boxes, 2, axis=0) + rng.normal(0, 3, (14, 4))
        scores = rng.permutation(1000)[:14] / 1000
        found.append(_found(near.tolist(), scores.tolist(), np.repeat(labels, 2).tolist()))
    metric = average_precision(truths, found, CLASSES, Scoring(min_height_px=low))
    ious = np.linspace(0.5, 0.95, 10)
    plain = [[_plain_ap(truths, found, c, iou, low) for iou in ious] for c in (0, 1)]
    assert [metric.per_class[n] for n in ("car", "bus")] == pytest.approx([row[0] for row in plain], abs=1e-9)
    assert metric.ap50 == pytest.approx(np.mean(plain, axis=0)[0], abs=1e-9)
    assert metric.ap == pytest.approx(np.mean(plain), abs=1e-9)


def _coco(images: int, rows: list[dict[str, Any]]) -> COCO:
    side = COCO()
    side.dataset = {
        "images": [{"id": i} for i in range(1, images + 1)],
        "categories": [{"id": i} for i in range(1, len(CLASSES) + 1)],
        "annotations": [{"id": i, **row} for i, row in enumerate(rows, start=1)],
    }
    side.createIndex()
    return side


def _row(image: int, label: int, box: list[float], **more: float) -> dict[str, Any]:
    """A box as COCO has it; its "area" is its height, so that an area range leaves low ones aside."""
    x1, y1, x2, y2 = box
    return {
        "image_id": image, "category_id": label + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": y2 - y1, **more
    }  # fmt: skip


def _by_pycocotools(truths: list[Truth], found: list[Detections], low: float) -> tuple[float, float, list[float]]:
    """AP50, AP and AP50 by class, -1 for a class without objects."""
    wanted = [
        _row(i, label, box, iscrowd=int(ignore))
        for i, t in enumerate(truths, start=1)
        for box, label, ignore in zip(t.boxes.tolist(), t.labels.tolist(), t.ignore.tolist(), strict=True)
    ]
    given_ = [
        _row(i, label, box, score=score)
        for i, f in enumerate(found, start=1)
        for box, score, label in zip(f.boxes_xyxy.tolist(), f.scores.tolist(), f.classes.tolist(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco(len(truths), wanted), _coco(len(truths), given_), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[low, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    present = precision[:, :, precision[0, 0] > -1]
    return present[0].mean(), present.mean(), precision[0].mean(axis=0).tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([0.0, 25.0]), st.sampled_from([12, 120]))
def test_it_equals_pycocotools(seed: int, low: float, most: int) -> None:
    """With crowds, low boxes, equal scores and overlaps, empty images, and more boxes than count."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> list[list[float]]:
        corner = rng.integers(0, 8, (count, 2)) * 10.0
        return np.concatenate([corner, corner + rng.integers(1, 6, (count, 2)) * 10.0], axis=1).tolist()

    truths, found = [_truth([BOX], [0])], [_found([], [], [])]
    for _ in range(4):
        n, m = int(rng.integers(0, 12)), int(rng.integers(0, most))
        truths.append(_truth(boxes(n), rng.integers(0, 2, n).tolist(), (rng.random(n) < 0.3).tolist()))
        found.append(_found(boxes(m), (rng.integers(1, 12, m) / 16).tolist(), rng.integers(0, 3, m).tolist()))
    metric = average_precision(truths, found, CLASSES, Scoring(min_height_px=low))
    ap50, ap, per_class = _by_pycocotools(truths, found, low)
    assert (metric.ap50, metric.ap) == (pytest.approx(ap50, abs=1e-12), pytest.approx(ap, abs=1e-12))
    expected = [math.nan if value < 0 else value for value in per_class]
    assert list(metric.per_class.values()) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_which_of_two_equal_overlaps_counts_is_as_pycocotools_has_it() -> None:
    truth = [_truth([[0, 0, 20, 10], [10, 0, 30, 10]], [0, 0])]
    found = [_found([[5, 0, 25, 10], [10, 0, 30, 10], [0, 0, 20, 10]], [0.9, 0.8, 0.7], [0, 0, 0])]
    assert average_precision(truth, found, CLASSES).ap50 == pytest.approx(_by_pycocotools(truth, found, 0.0)[0])


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
