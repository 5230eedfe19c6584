"""Agreement of two networks on frames without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.data import Dataset, Sample
from edgetl.heads import Scoring
from edgetl.metrics.agreement import Agreement
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead

SIZE_HW = (64, 96)
PLACE = geometry((128, 192), SIZE_HW)
EMPTY = Sample(Path("a.png"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_), "a")
DETECT = DetectHead(labels=("car", "person"), max_detections=3, thresholds=(0.3, 0.3), stride=8)
SEGMENT = SegmentHead(name="lane", labels=("other", "lane"), stride=8)
CLASSIFY = ClassifyHead(labels=("day", "night"), thresholds=(0.0, 0.0))
Outputs = dict[str, np.ndarray[Any, np.dtype[Any]]]


def score(head: Head, theirs: list[Outputs], ours: list[Outputs]) -> tuple[float, dict[str, float]]:
    data = Dataset("d", (), (EMPTY,) * len(theirs))
    agreement = Agreement(head, theirs)
    assert agreement.labelled(data) and not agreement.labelled(Dataset("d", (), (EMPTY,) * 9))
    meter = agreement.meter(data, Scoring())
    for i, outputs in enumerate(ours):
        meter.add(outputs, PLACE, i)
    metric = meter.result()
    assert metric.metric == "agreement"
    return metric.value, metric.per_class


def found(*rows: tuple[float, float, int]) -> Outputs:
    """Boxes of 20 x 20 at x, with a score and a class."""
    padded = [*rows, *[(0.0, 0.0, 0)] * (3 - len(rows))]
    return {
        "boxes": np.array([[[x, 10, x + 20, 30] for x, _, _ in padded]], np.float32),
        "scores": np.array([[s for _, s, _ in padded]], np.float32),
        "classes": np.array([[c for _, _, c in padded]], np.int64),
    }


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ([found((10, 0.9, 0), (50, 0.8, 1))], [found((10, 0.9, 0), (50, 0.8, 1))], 1.0),
        ([found((10, 0.9, 0), (50, 0.8, 1))], [found((12, 0.6, 0), (50, 0.1, 1))], 1.0),
        ([found((10, 0.9, 0), (50, 0.8, 1))], [found((10, 0.9, 0))], 0.5),
        ([found((10, 0.9, 0))], [found((10, 0.9, 1))], 0.0),
        ([found((10, 0.9, 0), (50, 0.1, 0))], [found((10, 0.9, 0))], 1.0),  # the other was not sure itself
        ([found((10, 0.9, 0))], [found((10, 0.9, 0), (50, 0.1, 0))], 1.0),  # weaker than the right one
        ([found((10, 0.9, 0))], [found((50, 0.95, 0), (10, 0.9, 0))], 0.5),
        ([found()], [found()], float("nan")),
    ],
)
def test_boxes(theirs: list[Outputs], ours: list[Outputs], value: float) -> None:
    assert score(DETECT, theirs, ours)[0] == pytest.approx(value, abs=0.01, nan_ok=True)


def masks(*columns: int) -> list[Outputs]:
    """A frame for each number: so many of 12 columns are lane."""
    return [{"mask_lane": np.tile((np.arange(12) < n).astype(np.uint8), (1, 8, 1))} for n in columns]


def test_masks() -> None:
    assert score(SEGMENT, masks(6, 3), masks(6, 3))[0] == 1.0
    value, per_class = score(SEGMENT, masks(6, 0), masks(3, 0))
    assert per_class == {"other": pytest.approx(18 / 21), "lane": pytest.approx(3 / 6)}
    assert value == pytest.approx((18 / 21 + 3 / 6) / 2)


def categories(*shares: float) -> list[Outputs]:
    return [{"probabilities": np.array([[s, 1 - s]], np.float32)} for s in shares]


def test_categories() -> None:
    assert score(CLASSIFY, categories(0.9, 0.2), categories(0.6, 0.4)) == (1.0, {"day": 1.0, "night": 1.0})
    assert score(CLASSIFY, categories(0.9, 0.8, 0.2, 0.1), categories(0.6, 0.4, 0.1, 0.1))[0] == 0.75
