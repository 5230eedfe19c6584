"""Counts over a run, head by head."""

from __future__ import annotations

import json

import numpy as np
from runtime_support import HEADS

from edgetl_runtime.result import Detections, Mask, Result, Scores
from edgetl_runtime.tally import Tally


def result(classes: list[int], ground: list[list[int]], light: int) -> Result:
    n = len(classes)
    outputs = {
        "detect": Detections(np.zeros((n, 4), np.float32), np.full(n, 0.9, np.float32), np.array(classes, np.int64)),
        "ground": Mask(np.array(ground, np.uint8), (8, 8)),
        "light": Scores(np.array([0.4, 0.3, 0.3], np.float32), light),
    }
    return Result(0, "cam", 0, 0, outputs, (8, 8))


def test_boxes_frames_and_mean_shares() -> None:
    tally = Tally(HEADS)
    tally.add(result([0, 0, 2], [[0, 0], [1, 2]], 1))
    tally.add(result([], [[1, 1], [1, 1]], -1))
    document = json.loads(json.dumps(tally.as_json()))
    assert document == {
        "detect": {"task": "detect", "boxes": {"vehicle": 2, "pedestrian": 0, "light": 1}},
        "ground": {"task": "segment", "mean_share": {"background": 0.25, "road": 0.625, "lane": 0.125}},
        "light": {"task": "classify", "frames": {"night": 0, "dusk": 1, "day": 0}},
    }


def test_nothing_counted_is_zero_and_no_error() -> None:
    document = Tally(HEADS).as_json()
    assert document["ground"]["mean_share"] == {"background": 0.0, "road": 0.0, "lane": 0.0}
    assert document["detect"]["boxes"] == {"vehicle": 0, "pedestrian": 0, "light": 0}
