"""Boxes matched to labelled ones: overlaps that are known, and who gets which."""

from __future__ import annotations

import numpy as np

from edgetl.metrics.matching import box_iou, match


def test_iou_of_known_boxes() -> None:
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]])
    b = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]])
    np.testing.assert_allclose(box_iou(a, b), [[1 / 3, 1, 0, 0], [0, 0, 0, 0]])
    assert box_iou(a[:0], b).shape == (0, 4) and box_iou(a, b[:0]).shape == (2, 0)


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
