"""What two cameras or two bundles see is there once; what could be two objects stays two."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from can_support import detections_of
from geometry_support import SIZE_HW, boxes_of, calibration
from numpy.typing import NDArray

from edgetl_runtime.can.together import GATE, MOST_APART_M, Seen, Together, together
from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.geometry.ground import Ground
from edgetl_runtime.geometry.placing import HeadPlacing
from edgetl_runtime.result import Detections

NAN = float("nan")


def boxes(
    places: list[tuple[float, float]],
    *,
    std_m: float = 0.5,
    kinds: list[int] | None = None,
    ids: list[int] | None = None,
    closing: float = 0.0,
) -> Detections:
    """Objects of one class at these places, as uncertain ahead as to the side."""
    found = detections_of(places, closing=[closing] * len(places))
    assert found.places is not None
    n = len(places)
    spread = np.tile(np.eye(2, dtype=np.float32) * std_m**2, (n, 1, 1))
    spread[np.isnan(found.places.positions_m).any(1)] = np.nan
    return dataclasses.replace(
        found,
        classes=np.array(kinds or [0] * n, np.int64),
        track_ids=np.array(ids or [-1] * n, np.int64),
        places=dataclasses.replace(found.places, covariances_m2=spread),
    )


def of(*found: Detections, cameras: str = "abcdef") -> Together:
    return together([Seen(camera, 0, each) for camera, each in zip(cameras, found, strict=False)])


def places(made: Together) -> list[tuple[float, ...]]:
    assert made.found.places is not None
    return [tuple(round(v, 2) for v in row) for row in made.found.places.positions_m.tolist()]


def test_one_camera_is_handed_on_as_it_is() -> None:
    only = boxes([(10, 0), (10, 0)])
    made = of(only)
    assert made.found is only and made.source.tolist() == [0, 0]
    assert len(of(boxes([])).found) == 0


def test_an_object_that_two_cameras_see_is_there_once_with_the_surer_place() -> None:
    made = of(boxes([(20, 0), (40, 3)], std_m=1.0), boxes([(20.8, 0.3), (5, -5)], std_m=0.4, closing=3.0))
    assert places(made) == [(20.8, 0.3), (40, 3), (5, -5)] and made.source.tolist() == [1, 0, 1]
    assert made.found.places is not None and made.found.places.closing_speeds_mps.tolist() == [3, 0, 3]
    made = of(boxes([(20, 0)], std_m=0.4), boxes([(20.8, 0.3)], std_m=1.0))
    assert places(made) == [(20, 0)] and made.source.tolist() == [0]


@pytest.mark.parametrize(
    ("off_m", "std_m", "count"),
    [
        (0.99, 0.5, 1),
        (0.99 * (2 * GATE * 0.25) ** 0.5, 0.5, 1),  # just inside 99 % of both together
        (1.01 * (2 * GATE * 0.25) ** 0.5, 0.5, 2),
        (0.99 * MOST_APART_M, 4.0, 1),
        (1.01 * MOST_APART_M, 4.0, 2),  # may be two vehicles side by side, however unsure their places are
    ],
)
def test_the_gate(off_m: float, std_m: float, count: int) -> None:
    for dx, dy in ((off_m, 0.0), (0.0, -off_m)):
        assert len(of(boxes([(20, 1)], std_m=std_m), boxes([(20 + dx, 1 + dy)], std_m=std_m)).found) == count


def test_the_gate_follows_the_covariance() -> None:
    """Sure to the side and unsure ahead: 2 m ahead is the same object, 2 m to the side another one."""
    long = boxes([(30, 0)])
    assert long.places is not None
    spread = np.array([[[1.0, 0], [0, 0.01]]], np.float32)
    long = dataclasses.replace(long, places=dataclasses.replace(long.places, covariances_m2=spread))
    for dx, dy, count in ((2.0, 0.0, 1), (0.0, 2.0, 2)):
        assert long.places is not None
        there = dataclasses.replace(long.places, positions_m=long.places.positions_m + np.array([dx, dy], np.float32))
        assert len(of(long, dataclasses.replace(long, places=there)).found) == count


def test_another_label_is_another_object() -> None:
    assert len(of(boxes([(20, 0)]), boxes([(20, 0)], kinds=[1])).found) == 2


def test_pairs_are_one_to_one_and_none_is_lost() -> None:
    """Two people side by side, each seen by both cameras, stay two; the nearest pairs are taken."""
    made = of(boxes([(20, 0), (20, 0.8)], std_m=1.0), boxes([(20.1, 0.9), (20.1, 0.1)], std_m=0.9))
    assert sorted(places(made)) == [(20.1, 0.1), (20.1, 0.9)]
    assert len(of(boxes([(20, 0), (20, 0.8)]), boxes([(20, 0.4)])).found) == 2
    assert len(of(boxes([(20, 0), (20, 0.1)])).found) == 2, "one camera's own are never put together"


def test_of_three_cameras_each_must_fit_each() -> None:
    assert len(of(*[boxes([(20 + 0.2 * i, 0)]) for i in range(3)]).found) == 1
    step = 0.7 * (2 * GATE * 0.25) ** 0.5
    assert len(of(*[boxes([(20 + step * i, 0)]) for i in range(3)]).found) == 2, "no chains"


def test_what_has_no_place_is_kept() -> None:
    made = of(boxes([(NAN, NAN), (10, 0)]), boxes([(NAN, NAN)]), boxes([]))
    assert len(made.found) == 3 and np.isnan(made.found.places.positions_m).any(1).sum() == 2  # type: ignore[union-attr]


def test_track_numbers_are_the_first_cameras_that_has_one() -> None:
    sure = boxes([(20, 0), (40, 0), (60, 0)], std_m=0.1, ids=[7, 8, -1])
    made = of(boxes([(20.1, 0), (40.1, 0)], std_m=1.0, ids=[3, -1]), sure)
    assert made.found.track_ids is not None and made.found.track_ids.tolist() == [3, 8, -1]
    assert made.source.tolist() == [1, 1, 1]


def test_two_bundles_on_one_frame_go_by_their_boxes() -> None:
    """Their places have the same errors, so places alone say little."""
    one, two = boxes([(20, 0)]), boxes([(20, 0)])
    assert len(of(one, two, cameras="aa").found) == 1
    apart = dataclasses.replace(two, boxes_xyxy=two.boxes_xyxy + 8)
    assert len(of(one, apart, cameras="aa").found) == 2 and len(of(one, apart, cameras="ab").found) == 1
    later = together([Seen("a", 0, one), Seen("a", 1, two)])
    assert len(later.found) == 2, "boxes of two frames don't compare"


def test_untracked_beside_tracked_and_unplaced_beside_placed() -> None:
    bare = dataclasses.replace(boxes([(10, 0)]), track_ids=None, track_ages_s=None, velocities_px_s=None, places=None)
    made = of(boxes([(10, 0)], ids=[4]), bare)
    assert made.found.track_ids is not None and made.found.track_ids.tolist() == [4, -1]
    assert made.found.places is not None and np.isnan(made.found.places.positions_m[1]).all()
    made = of(bare, bare)
    assert made.found.track_ids is None and made.found.places is None and len(made.found) == 2


def placed_by(camera: Calibration, truth: NDArray[np.float64], rng: np.random.Generator) -> Detections:
    """What a camera makes of things of 1.5 m at these places, by boxes that shake."""
    boxes_xyxy = boxes_of(camera, truth, 1.5)
    tall = boxes_xyxy[:, 3] - boxes_xyxy[:, 1]
    shaken = boxes_xyxy + rng.normal(0, 1, boxes_xyxy.shape) * np.hypot(2.0, 0.03 * tall)[:, None]
    found = Detections(shaken.astype(np.float32), np.ones(len(truth), np.float32), np.zeros(len(truth), np.int64))
    places = HeadPlacing(Ground(camera), ("vehicle",)).places(found, SIZE_HW, t_ns=0)
    return dataclasses.replace(found, places=places)


def test_two_calibrated_cameras_see_one_thing_at_one_place() -> None:
    """Two cameras at other places, which look apart by 30 degrees: their covariances fit the gate."""
    rng = np.random.default_rng(2)
    left = calibration(position_m=(1.0, 0.8, 1.6), yaw_deg=15.0)
    right = calibration(position_m=(1.4, -0.8, 1.3), yaw_deg=-15.0, pitch_deg=3.0)
    once = tried = 0
    for x in (8.0, 12.0, 16.0, 20.0):
        for _ in range(40):
            truth = np.array([[x, rng.uniform(-1, 1)]])
            found = [placed_by(camera, truth, rng) for camera in (left, right)]
            if all(f.places is not None and np.isfinite(f.places.positions_m).all() for f in found):
                tried += 1
                once += len(of(*found).found) == 1
    assert tried > 140 and once / tried > 0.95
    side_by_side = np.array([[15.0, 2.0], [15.0, -2.0]])
    for _ in range(20):
        assert len(of(*[placed_by(camera, side_by_side, rng) for camera in (left, right)]).found) >= 2


def test_order_of_cameras_changes_no_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        base = rng.uniform(-20, 20, (6, 2))
        lists = [[tuple(row) for row in base[rng.permutation(6)[:4]] + rng.normal(0, 0.05, (4, 2))] for _ in range(3)]
        found = [boxes(each, std_m=s) for each, s in zip(lists, (0.3, 0.4, 0.5), strict=True)]
        assert sorted(places(of(*found))) == sorted(places(of(*found[::-1])))


def test_nothing_is_lost_beyond_the_limit() -> None:
    """Whatever is put together: an object that is not sent stands within the limit of one of its label that is."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        found = [
            boxes([tuple(p) for p in rng.uniform(0, 12, (5, 2))], std_m=float(s), kinds=rng.integers(0, 2, 5).tolist())
            for s in rng.uniform(0.2, 5, 3)
        ]
        made = of(*found)
        kept = np.array(places(made))
        for each in found:
            assert each.places is not None
            for place, kind in zip(each.places.positions_m, each.classes, strict=True):
                same = kept[made.found.classes == kind]
                assert np.hypot(*(same - place).T).min() <= MOST_APART_M + 0.02
