"""Boxes matched to labelled ones: overlaps that are known, and who gets which, against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgetl.metrics.matching import box_iou, match


def plain_iou(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inner = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union else 0.0


def plain_inside(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / ((a[2] - a[0]) * (a[3] - a[1]))


def plain_match(boxes: list, classes: list, truth: list, labels: list, ignore: list, iou: float) -> list[int]:
    taken: set[int] = set()
    flags = []
    for box, c in zip(boxes, classes, strict=True):
        best, place = 0.0, -1
        on_ignored = False
        for j, (t, label, skip) in enumerate(zip(truth, labels, ignore, strict=True)):
            overlap = plain_inside(box, t) if skip else plain_iou(box, t)
            if label != c or overlap < iou:
                continue
            if skip:
                on_ignored = True
            elif j not in taken and overlap >= best:
                best, place = overlap, j
        if place >= 0:
            taken.add(place)
            flags.append(1)
        else:
            flags.append(-1 if on_ignored else 0)
    return flags


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.integers(0, 6, (count, 2))
    return np.concatenate([low, low + rng.integers(1, 6, (count, 2))], axis=1).astype(np.float32)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 9), st.integers(0, 7), st.sampled_from([0.3, 0.5, 0.75]))
def test_matching_equals_a_plain_loop(seed: int, found: int, wanted: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    boxes, truth = drawn(rng, found), drawn(rng, wanted)
    classes, labels = rng.integers(0, 2, found), rng.integers(0, 2, wanted)
    ignore = rng.random(wanted) < 0.3
    flags = match(boxes, classes, truth, labels, ignore, iou=iou)
    lists = [x.tolist() for x in (boxes, classes, truth, labels, ignore)]
    assert flags.tolist() == plain_match(*lists, iou)
    expected = np.array([[plain_iou(a, b) for b in lists[2]] for a in lists[0]]).reshape(found, wanted)
    np.testing.assert_allclose(box_iou(boxes, truth), expected, atol=1e-9)


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])
    assert box_iou(a[:0], b).shape == (0, 4) and box_iou(a, b[:0]).shape == (2, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 9), st.integers(1, 7))
def test_matching_is_that_of_the_evaluation(seed: int, found: int, wanted: int) -> None:
    """Right, wrong and neither, by pycocotools' own evaluation of one image and class."""
    rng = np.random.default_rng(seed)
    boxes, truth = (np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4) * 100 for n in (found, wanted))
    ignore = rng.random(wanted) < 0.4
    flags = match(boxes, np.zeros(found, int), truth, np.zeros(wanted, int), ignore)
    sizes = [np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1).tolist() for b in (boxes, truth)]
    common = {"image_id": 1, "category_id": 1, "area": 1.0}
    sides = []
    for rows, more in (
        (sizes[1], [{"iscrowd": int(i)} for i in ignore]), (sizes[0], [{"score": 1 - 0.01 * i} for i in range(found)])
    ):  # fmt: skip
        side = COCO()
        listed = [
            {"id": i + 1, "bbox": row, **extra, **common} for i, (row, extra) in enumerate(zip(rows, more, strict=True))
        ]
        side.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": listed}
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval(*sides, "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.evaluate()
    result = evaluation.evalImgs[0]
    expected = np.where(result["dtIgnore"][0], -1, (result["dtMatches"][0] > 0).astype(int))
    assert flags.tolist() == expected.tolist()


def test_of_two_objects_that_overlap_alike_the_later_is_taken() -> None:
    truth = np.array([[0, 0, 20, 10], [10, 0, 30, 10]])
    boxes = np.array([[5, 0, 25, 10], [10, 0, 30, 10], [0, 0, 20, 10]])
    labels, ignore = np.zeros(2, int), np.zeros(2, np.bool_)
    assert match(boxes, np.zeros(3, int), truth, labels, ignore).tolist() == [1, 0, 1]


def test_a_box_in_an_ignored_crowd_is_neither_right_nor_wrong() -> None:
    crowd, ignore, labels = np.array([[0, 0, 100, 100]]), np.array([True]), np.array([0])
    boxes = np.array([[10, 10, 20, 20], [90, 0, 111, 10], [90, 0, 109, 10]])
    assert match(boxes, np.zeros(3, int), crowd, labels, ignore).tolist() == [-1, 0, -1]


def test_matching_is_greedy_by_class_and_ignores() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], np.float32)
    labels, ignore = np.array([0, 1, 0]), np.array([False, False, True])
    boxes = np.array(
        [[0, 0, 10, 9], [0, 0, 10, 10], [20, 0, 30, 10], [20, 0, 30, 10], [40, 0, 50, 10], [41, 0, 50, 10]]
    )
    classes = np.array([0, 0, 0, 1, 0, 0])
    assert match(boxes, classes, truth, labels, ignore).tolist() == [1, 0, 0, 1, -1, -1]
    assert match(boxes[:0], classes[:0], truth, labels, ignore).tolist() == []
    assert match(boxes[:2], classes[:2], truth[:0], labels[:0], ignore[:0]).tolist() == [0, 0]
