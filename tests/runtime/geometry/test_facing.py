"""The facing side of solid things: found beside the axis, ahead and across; a bound where the picture cuts them."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_support import SIZE_HW, calibration, seen, sighted

from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.geometry.facing import Facing
from edgetl_runtime.geometry.ground import Ground, Sight
from edgetl_runtime.geometry.kinds import FOOTPRINTS_M

LABELS = ("car", "bus", "person", "thing")
HEIGHTS_M = {"car": 1.5, "bus": 3.0, "person": 1.7}
SURE = {"box_edge_std_px": 0.1, "box_edge_std_share": 0.0, "pitch_std_deg": 0.05}


def box_of(camera: Calibration, label: str, near_m: float, left_m: float, *, across: bool = False) -> np.ndarray:
    """(4,) what the picture shows of one whose nearest side is so far ahead and whose middle so far to the left."""
    length, width, _ = FOOTPRINTS_M[label]
    deep, wide = (width, length) if across else (length, width)
    corners = np.array(
        [[x, y, z] for x in (near_m, near_m + deep) for y in (left_m - wide / 2, left_m + wide / 2)
         for z in (0.0, HEIGHTS_M[label])]
    )  # fmt: skip
    points = seen(camera, corners)
    low, high = points.min(axis=0), points.max(axis=0)
    limit = np.array([SIZE_HW[1], SIZE_HW[0]] * 2, np.float64)
    return np.concatenate([low, high]).clip(0, limit).astype(np.float32)


def look(camera: Calibration, label: str, boxes: list[np.ndarray]) -> tuple[Sight, Sight, np.ndarray]:
    """By the middles of lower edges, by facing sides, and which are cut."""
    rows, ground = np.array(boxes, np.float32).reshape(-1, 4), Ground(camera)
    middle = sighted(ground, rows)
    classes = np.full(len(rows), LABELS.index(label))
    facing = Facing(LABELS, camera.mounting.yaw_deg)
    return middle, *facing.faced(ground, middle, rows, classes, SIZE_HW)


@pytest.mark.parametrize("label", ["car", "bus", "person"])
@pytest.mark.parametrize("left_m", [-6.0, -3.5, 0.1, 3.5, 6.0])
@pytest.mark.parametrize("near_m", [15.0, 25.0])
def test_the_middle_of_the_side_that_faces_the_camera(label: str, left_m: float, near_m: float) -> None:
    camera = calibration(**SURE)
    _, sight, cut = look(camera, label, [box_of(camera, label, near_m, left_m)])
    assert not cut.any()
    np.testing.assert_allclose(sight.places_m[:, 0], [near_m, left_m], atol=0.15)


def test_the_middle_of_the_box_is_not_it() -> None:
    """What the shift is for: metres, for a bus in the next lane."""
    camera = calibration(**SURE)
    middle, sight, _ = look(camera, "bus", [box_of(camera, "bus", 12.0, 4.0)])
    assert abs(middle.places_m[1, 0] - 4.0) > 0.5
    assert abs(sight.places_m[1, 0] - 4.0) < 0.1
    assert sight.covariances_m2[1, 1, 0] > middle.covariances_m2[1, 1, 0]
    assert sight.covariances_m2[0, 0, 0] == pytest.approx(middle.covariances_m2[0, 0, 0])


@pytest.mark.parametrize("left_m", [-5.0, 0.0, 5.0])
def test_one_that_stands_across_is_near_its_stated_place(left_m: float) -> None:
    camera = calibration(**SURE)
    _, sight, _ = look(camera, "car", [box_of(camera, "car", 15.0, left_m, across=True)])
    off = sight.places_m[:, 0] - [15.0, left_m]
    assert abs(off[0]) < 0.1 and abs(off[1]) < max(3 * float(np.sqrt(sight.covariances_m2[1, 1, 0])), 0.1)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_box_that_the_picture_cuts_is_a_bound(side: int) -> None:
    """The near end of a car beside us is out of the picture: it is nearer than it seems, within what is stated."""
    camera = calibration(**SURE)
    middle, sight, cut = look(camera, "car", [box_of(camera, "car", 3.0, side * 3.4)])
    assert cut[0]
    lower_edge, place = float(middle.places_m[0, 0]), float(sight.places_m[0, 0])
    std = float(np.sqrt(sight.covariances_m2[0, 0, 0]))
    assert 3.0 < place < lower_edge and std > 0.3
    assert lower_edge - 3.0 > 1.645 * float(np.sqrt(middle.covariances_m2[0, 0, 0])), "it does seem further away"
    assert place - 3.0 < 1.645 * std
    assert np.sign(sight.places_m[1, 0]) == side


def test_the_far_end_of_a_bus_says_little() -> None:
    """Which of its 11 m is beside us can't be told, and that is stated."""
    camera = calibration(**SURE)
    middle, sight, cut = look(camera, "bus", [np.array([1180, 100, 1280, 560], np.float32)])
    assert cut[0] and float(np.sqrt(sight.covariances_m2[0, 0, 0])) > 2.5
    assert sight.places_m[0, 0] < middle.places_m[0, 0] - 2.5


def test_a_person_at_the_pictures_edge_keeps_the_place() -> None:
    camera = calibration(**SURE)
    middle, sight, cut = look(camera, "person", [box_of(camera, "person", 10.0, -6.4)])
    assert cut[0]
    np.testing.assert_allclose(sight.places_m[0, 0], middle.places_m[0, 0], atol=0.3)


@pytest.mark.parametrize("label", ["car", "thing"])
def test_what_stands_behind_the_foot_of_a_camera_that_looks_down_keeps_its_place(label: str) -> None:
    middle, sight, cut = look(calibration(pitch_deg=85.0), label, [np.array([600, 400, 660, 500], np.float32)])
    assert np.isfinite(middle.places_m).all() and not cut[0]
    np.testing.assert_allclose(sight.places_m, middle.places_m)


@pytest.mark.parametrize("yaw_deg", [90.0, -90.0, 180.0])
def test_a_camera_that_looks_elsewhere_sees_other_sides(yaw_deg: float) -> None:
    """To the side it sees a flank, and the width behind it; from behind the same as from the front."""
    camera = calibration(yaw_deg=yaw_deg, **SURE)
    cos, sin = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    length, width, _ = FOOTPRINTS_M["car"]
    foot = np.array(camera.mounting.position_m[:2])
    deep, wide = (width, length) if abs(sin) > 0.5 else (length, width)
    local = np.array([[x, y] for x in (12.0, 12 + deep) for y in (4 - wide / 2, 4 + wide / 2)])
    turned = local @ np.array([[cos, sin], [-sin, cos]]) + foot
    corners = np.array([[x, y, z] for x, y in turned for z in (0.0, 1.5)])
    points = seen(camera, corners)
    box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
    _, sight, _ = look(camera, "car", [box])
    expected = np.array([12.0, 4.0]) @ np.array([[cos, sin], [-sin, cos]]) + foot
    np.testing.assert_allclose(sight.places_m[:, 0], expected, atol=0.15)
    assert np.linalg.eigvalsh(sight.covariances_m2[:, :, 0]).min() > 0


@pytest.mark.filterwarnings("error")
def test_boxes_of_every_kind_are_numbers_or_nothing() -> None:
    camera = calibration()
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [1280, 720], (300, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = np.concatenate([boxes, [[0, 0, 1280, 720], [0, 400, 0, 400], [0, 300, 1280, 500]]])
    for label in LABELS:
        _, sight, cut = look(camera, label, list(boxes))
        known = np.isfinite(sight.places_m).all(axis=0)
        assert known.any() and (np.isfinite(sight.covariances_m2).all(axis=(0, 1)) == known).all()
        assert cut[-3:].all() and (np.linalg.eigvalsh(sight.covariances_m2[:, :, known].T) > 0).all()
    assert look(camera, "car", [])[1].places_m.shape == (2, 0)
