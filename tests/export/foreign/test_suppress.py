"""Suppression in nodes of static shape: the boxes that torchvision's and OpenCV's greedy suppression keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import nms

from edgetl_export.foreign.decoders.suppress import ROUNDS, greedy, suppress_nodes
from edgetl_export.foreign.nodes import Nodes

Run = Callable[..., Any]
Keep = Callable[[NDArray[np.float32], NDArray[np.int64], float], NDArray[np.int64]]


@pytest.fixture
def keep(nodes_on_onnxruntime: Run) -> Keep:
    """Indices that the nodes keep, of boxes that come best first."""

    def kept(boxes: NDArray[np.float32], classes: NDArray[np.int64], iou: float) -> NDArray[np.int64]:
        g = Nodes("suppress")
        stay = suppress_nodes(g, "boxes", "classes", len(boxes), iou)
        found = nodes_on_onnxruntime(g, {"boxes": boxes, "classes": classes}, [stay])[stay]
        assert found.shape == (len(boxes),) and set(found.tolist()) <= {0.0, 1.0}
        return np.flatnonzero(found)

    return kept


def crowd(count: int, seed: int, *, spread: float = 60.0) -> NDArray[np.float32]:
    """Boxes that often cover each other."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, spread, (count, 2)), rng.uniform(8, 30, (count, 2))
    return np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)


def falling(count: int) -> torch.Tensor:
    return torch.linspace(1, 0.1, count)


@pytest.mark.parametrize("count", [1, 2, 30, 100, 300])
@pytest.mark.parametrize("iou", [0.3, 0.45, 0.7])
def test_the_boxes_that_torchvision_and_opencv_keep(keep: Keep, count: int, iou: float) -> None:
    for seed in range(3):
        boxes = crowd(count, seed, spread=20 * count**0.5)
        one_class = np.zeros(count, np.int64)
        found = keep(boxes, one_class, iou)
        assert found.tolist() == nms(torch.from_numpy(boxes), falling(count), iou).tolist()
        corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(float)
        by_opencv = cv2.dnn.NMSBoxes(corners.tolist(), falling(count).tolist(), 0.0, iou)
        assert found.tolist() == np.ravel(by_opencv).tolist()
        assert found.tolist() == greedy(boxes, one_class, iou).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_classes_do_not_cover_each_other(keep: Keep, seed: int) -> None:
    boxes, classes = crowd(120, seed), np.random.default_rng(seed).integers(0, 4, 120)
    expected: list[int] = []
    for label in range(4):
        own = np.flatnonzero(classes == label)
        expected += own[nms(torch.from_numpy(boxes[own]), falling(len(own)), 0.45).numpy()].tolist()
    assert keep(boxes, classes, 0.45).tolist() == sorted(expected) == greedy(boxes, classes, 0.45).tolist()


def chain(links: int) -> NDArray[np.float32]:
    """Boxes of which each covers the next one only."""
    left = 10.0 * np.arange(links, dtype=np.float32)
    return np.stack([left, 0 * left, left + 25, 0 * left + 20], 1)


def test_a_chain_of_coverings(keep: Keep) -> None:
    """The nodes look at most ROUNDS links far; a longer chain leaves boxes too many and never too few."""
    for links in range(1, ROUNDS + 1):
        boxes = chain(links)
        expected = list(range(0, links, 2))
        assert greedy(boxes, np.zeros(links, np.int64), 0.4).tolist() == expected
        assert keep(boxes, np.zeros(links, np.int64), 0.4).tolist() == expected
    for links in range(ROUNDS + 1, 3 * ROUNDS):
        found = set(keep(chain(links), np.zeros(links, np.int64), 0.4).tolist())
        assert found >= set(range(0, links, 2))
    assert found > set(range(0, links, 2))


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((5, 4), np.float32),
        np.tile(np.array([[10, 10, 20, 20]], np.float32), (5, 1)),
        np.array([[10, 10, 20, 20], [20, 10, 10, 20], [12, 11, 12, 30]], np.float32),
    ],
    ids=["no area", "all the same", "corners the wrong way round"],
)
def test_boxes_of_no_area_and_equal_boxes(keep: Keep, boxes: NDArray[np.float32]) -> None:
    classes = np.zeros(len(boxes), np.int64)
    found = keep(boxes, classes, 0.45)
    assert found.tolist() == greedy(boxes, classes, 0.45).tolist()
    assert len(found) == (1 if boxes[0].any() and (boxes == boxes[0]).all() else len(boxes))
