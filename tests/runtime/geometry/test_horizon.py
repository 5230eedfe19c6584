"""The camera's tilt: found whatever objects are called, not where there is none, and only when it is sure."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_support import SIZE_HW, boxes_of, calibration, sighted

from edgetl_runtime.geometry.ground import Ground, touches_ground
from edgetl_runtime.geometry.horizon import Horizon, HorizonSettings

KNOWN = np.array([[1.6, 0.15]])
STEP_S = 0.25
UNKNOWN = np.array([[1.7, 1.5]])


class Road:
    """Objects that pass by one after the other, seen by a camera that is tilted against its calibration."""

    def __init__(self, heights_m: np.ndarray, settings: HorizonSettings | None = None, *, seed: int = 0) -> None:
        self.horizon = Horizon(heights_m, 1.5, settings)
        self._ground = Ground(calibration(position_m=(0.0, 0.0, 1.5), box_edge_std_px=1.0))
        self._rng = np.random.default_rng(seed)
        self._number = 0
        self.at_s = 0.0

    def drive(self, seconds: float, tilt_deg: float, *, speed_mps: float = 10.0, objects: int = 3) -> float | None:
        """Drive on; when the camera was found to have moved, counted from here."""
        camera = calibration(position_m=(0.0, 0.0, 1.5), pitch_deg=2.0 + tilt_deg)
        begin_s, told = self.at_s, None
        rows = [self._new(self._rng.uniform(10, 40)) for _ in range(objects)]
        while self.at_s < begin_s + seconds:
            rows = [[n, x - speed_mps * STEP_S, y, h] for n, x, y, h in rows]
            rows = [row if row[1] > 7 else self._new(40.0) for row in rows]
            boxes = np.concatenate([boxes_of(camera, np.array([[x, y]]), h) for _, x, y, h in rows])
            boxes = (boxes + self._rng.normal(0, 1, boxes.shape)).astype(np.float32)
            sight, good = sighted(self._ground, boxes, SIZE_HW), touches_ground(boxes, SIZE_HW)
            ids = np.array([row[0] for row in rows], np.int64)
            self.horizon.update(ids, np.zeros(len(ids), np.int64), sight, good, t_ns=round(self.at_s * 1e9))
            if self.horizon.moved and told is None:
                told = self.at_s - begin_s
            self.at_s += STEP_S
        return told

    def _new(self, away_m: float) -> list[float]:
        self._number += 1
        height = self._rng.normal(1.6, 0.12)
        return [self._number, away_m, (-1) ** self._number * self._rng.uniform(2, 5), height]


@pytest.mark.parametrize("heights_m", [KNOWN, UNKNOWN], ids=["known heights", "unknown heights"])
@pytest.mark.parametrize("tilt_deg", [2.0, -2.0])
def test_two_degrees_are_found_within_a_minute(tilt_deg: float, heights_m: np.ndarray) -> None:
    road = Road(heights_m)
    told = road.drive(60, tilt_deg)
    assert told is not None and told < 60
    assert road.horizon.tilt is not None
    assert road.horizon.tilt.pitch_deg == pytest.approx(tilt_deg, abs=0.4)


@pytest.mark.parametrize("heights_m", [KNOWN, UNKNOWN], ids=["known heights", "unknown heights"])
def test_no_false_alarm_in_ten_minutes(heights_m: np.ndarray) -> None:
    road = Road(heights_m, seed=1)
    assert road.drive(600, 0.0, objects=2) is None
    assert road.horizon.tilt is not None and abs(road.horizon.tilt.pitch_deg) < 0.4


def test_a_camera_that_moves_on_the_way_and_is_put_back() -> None:
    road = Road(KNOWN)
    assert road.drive(60, 0.0) is None
    assert (road.drive(60, 2.0) or 99) < 60
    road.drive(90, 0.0)
    assert not road.horizon.moved


def test_a_tilt_below_the_limit_is_none_of_our_business() -> None:
    assert Road(KNOWN).drive(120, 0.5) is None


def test_who_is_followed_for_long_says_no_more_than_his_height() -> None:
    """One object that stays where it is, and is a third taller than its label."""
    road = Road(KNOWN)
    road.drive(60, 0.0, speed_mps=0.0, objects=1)
    assert road.horizon.tilt is None and not road.horizon.moved


def test_a_few_objects_are_not_enough() -> None:
    road = Road(KNOWN, HorizonSettings(least_tracks=6))
    road.drive(2, 2.0, objects=5, speed_mps=1.0)
    assert road.horizon.tilt is None


def test_memory_is_bounded_and_boxes_without_a_number_are_passed_over() -> None:
    road = Road(KNOWN, HorizonSettings(most=8))
    road.drive(60, 0.0)
    assert len(road.horizon._rows) == 8
    before = road.horizon._rows.copy()
    camera = calibration(position_m=(0.0, 0.0, 1.5))
    sight = sighted(Ground(camera), boxes_of(camera, np.array([[20.0, 0]]), 1.6), SIZE_HW)
    none, good = np.array([-1]), np.array([True])
    road.horizon.update(none, np.array([0]), sight, good, t_ns=round(road.at_s * 1e9) + 10**9)
    np.testing.assert_array_equal(road.horizon._rows, before)


def test_a_clock_that_goes_back_begins_anew() -> None:
    road = Road(KNOWN)
    road.drive(30, 2.0)
    assert len(road.horizon._rows) > 3
    road.at_s = 0.0
    road.drive(0.1, 0.0, objects=2)
    assert len(road.horizon._rows) == 2
