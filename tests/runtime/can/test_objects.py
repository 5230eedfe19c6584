"""Which object is sent first, and what is said of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from can_support import detections_of

from edgetl_runtime.can.objects import object_values, urgency_order
from edgetl_runtime.result import Detections


@pytest.mark.parametrize(
    ("positions", "closing", "order"),
    [
        ([(30, 0), (10, 0), (20, 0)], [0, 0, 0], [1, 2, 0]),  # the nearest
        ([(80, 0), (30, 0)], [30, 0], [0, 1]),  # 2.7 s away goes before 6 s
        ([(80, 0), (5, 0)], [30, 0], [1, 0]),  # what stands just ahead goes first all the same
        ([(20, 0), (20, 0)], [-10, float("nan")], [0, 1]),  # going away and unknown count as slow
        ([(40, 0), (10, 0)], [0, float("nan")], [1, 0]),  # near and of unknown speed
        ([(float("nan"), float("nan")), (200, 0)], [float("nan"), 0], [1, 0]),  # no place comes last
        ([(-8, 0), (0, 6)], [0, 0], [1, 0]),  # behind and beside
        ([], [], []),
    ],
)
def test_the_object_that_would_be_reached_first(
    positions: list[tuple[float, float]], closing: list[float], order: list[int]
) -> None:
    assert urgency_order(detections_of(positions, closing=closing)).tolist() == order


def test_without_places_the_lowest_box_goes_first() -> None:
    boxes = np.array([[0, 0, 9, 30], [0, 0, 9, 60], [0, 50, 9, 55]], np.float32)
    found = Detections(boxes, np.full(3, 0.9, np.float32), np.zeros(3, np.int64))
    assert urgency_order(found).tolist() == [1, 2, 0]
    values = object_values(found, 0)
    assert values["Class"] == 0 and values["Confidence"] == pytest.approx(90) and values["TrackId"] is None
    assert "DistanceX" not in values


def test_what_is_said_of_an_object() -> None:
    found = detections_of([(30.0, -2.5), (10.0, 1.0)], closing=[4.0, -1.0])
    found = dataclasses.replace(found, track_ids=np.array([65535 + 7, -1]), classes=np.array([63, 2]))
    first, second = object_values(found, 0), object_values(found, 1)
    assert first == {
        "Class": None,  # 63 says "not available"
        "Confidence": pytest.approx(50),
        "TrackId": 7,
        "DistanceX": 30.0,
        "LateralY": -2.5,
        "ClosingSpeed": 4.0,
        "Deviation": 0.5,
    }
    assert second["TrackId"] is None and second["Class"] == 2
