"""Rays: the inverse of the lens, the same as OpenCV's, in ROS' frames of reference; NaN where no ray is."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest
from geometry_support import MODELS, SIZE_HW, calibration, mounting
from numpy.typing import NDArray

from edgetl_runtime.geometry.lens import Lens, optical_in_base
from edgetl_runtime.letterbox import geometry

LEVEL = {"position_m": (0.0, 0.0, 1.5), "pitch_deg": 0.0}


def pixels(count: int = 400) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, [SIZE_HW[1], SIZE_HW[0]], (count, 2))


@pytest.mark.parametrize("count", [0, 1, 400])
@pytest.mark.parametrize("model", MODELS)
def test_rays_lead_back_to_their_pixels(model: str, count: int) -> None:
    lens, at = Lens(calibration(model, roll_deg=3.0, yaw_deg=-8.0)), pixels(count)
    rays = lens.rays(at[:, 0], at[:, 1], SIZE_HW)
    assert rays.shape == (3, count) and np.isfinite(rays).all()
    np.testing.assert_allclose(lens.pixels(rays, SIZE_HW), at, atol=0.02)


@pytest.mark.parametrize("model", ["none", "plumb_bob", "rational", "equidistant"])
def test_pixels_are_opencvs(model: str) -> None:
    """OpenCV's pixels have their centre where ours begin at a half."""
    camera = calibration(model, **LEVEL)
    rng = np.random.default_rng(1)
    optical = np.concatenate([rng.uniform([-4, -2], [4, 2], (200, 2)), np.full((200, 1), 8.0)], axis=1)
    matrix, coefficients = np.array(camera.matrix).reshape(3, 3), np.array(camera.coefficients)
    project = cv2.fisheye.projectPoints if camera.model == "equidistant" else cv2.projectPoints
    if camera.model == "equidistant":
        expected = project(optical[:, None], np.zeros(3), np.zeros(3), matrix, coefficients)[0][:, 0]
    else:
        expected = project(optical, np.zeros(3), np.zeros(3), matrix, coefficients)[0][:, 0]
    directions = optical_in_base(0, 0, 0) @ optical.T
    np.testing.assert_allclose(Lens(camera).pixels(directions, SIZE_HW), expected + 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("roll", "pitch", "yaw", "expected"),
    [
        (0, 0, 0, (1, 0, 0)),
        (0, 30, 0, (np.cos(np.pi / 6), 0, -0.5)),  # positive pitch looks down
        (0, 0, 90, (0, 1, 0)),  # positive yaw looks left
        (40, 0, 0, (1, 0, 0)),
    ],
)
def test_angles_are_those_of_rep_103(
    roll: float, pitch: float, yaw: float, expected: tuple[float, float, float]
) -> None:
    np.testing.assert_allclose(optical_in_base(roll, pitch, yaw) @ [0, 0, 1], expected, atol=1e-12)


def test_a_positive_roll_leans_to_the_right() -> None:
    """Rolled by 90 degrees about x, the right of the picture is down."""
    np.testing.assert_allclose(optical_in_base(90, 0, 0) @ [1, 0, 0], [0, 0, -1], atol=1e-12)


@pytest.mark.parametrize("size_hw", [(360, 640), (1440, 2560)])
def test_frames_of_another_size_have_the_same_rays(size_hw: tuple[int, int]) -> None:
    lens, at = Lens(calibration("plumb_bob")), pixels()
    ratio = size_hw[0] / SIZE_HW[0]
    scaled = lens.rays(at[:, 0] * ratio, at[:, 1] * ratio, size_hw)
    np.testing.assert_allclose(scaled, lens.rays(at[:, 0], at[:, 1], SIZE_HW), atol=1e-12)


def test_boxes_that_went_through_the_letterbox_have_the_same_rays() -> None:
    lens, at = Lens(calibration("plumb_bob")), pixels(50)
    boxes = np.concatenate([at - 5, at + 5], axis=1).clip(0, [1280, 720] * 2).astype(np.float32)
    place = geometry(SIZE_HW, (416, 416))
    again = place.to_source(place.to_network(boxes)).astype(np.float64)
    expected = lens.rays(boxes[:, 2].astype(np.float64), boxes[:, 3].astype(np.float64), SIZE_HW)
    np.testing.assert_allclose(lens.rays(again[:, 2], again[:, 3], SIZE_HW), expected, atol=1e-6)


def test_pixels_that_no_direction_gives_have_no_ray() -> None:
    """This lens turns back at a radius of 1 / sqrt(3 * 0.5), which lies at 0.544 of the focal length."""
    camera = msgspec.structs.replace(calibration(), model="plumb_bob", coefficients=(-0.5, 0.0, 0.0, 0.0, 0.0))
    lens = Lens(camera)
    at = 630.5 + np.array([0.0, 400.0, 540.0, 550.0, 640.0])
    known = np.isfinite(lens.rays(at, np.full(5, 350.5), SIZE_HW)).all(axis=0)
    assert known.tolist() == [True, True, True, False, False]


def test_a_search_that_does_not_converge_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetl_runtime.geometry.lens.MOST_STEPS", 1)
    for model in ("plumb_bob", "equidistant"):
        at = np.array([640.0, 1270.0])
        known = np.isfinite(Lens(calibration(model)).rays(at, np.full(2, 355.0), SIZE_HW)).all(axis=0)
        assert known.tolist() == [True, False], model


def test_a_fisheye_sees_beside_itself() -> None:
    camera = calibration("equidistant", **LEVEL)
    wide = msgspec.structs.replace(camera, matrix=(300.0, 0.0, 640.0, 0.0, 300.0, 360.0, 0.0, 0.0, 1.0))
    rays = Lens(wide).rays(np.array([1200.0]), np.array([360.5]), SIZE_HW)
    assert rays[0, 0] < 0, "behind the camera"


def test_rectified_frames_are_seen_through_the_projection_matrix() -> None:
    turn = optical_in_base(0, 0, 0).T @ optical_in_base(0, 1.0, 0)  # the rectified camera looks 1 degree further down
    camera = msgspec.structs.replace(
        calibration("plumb_bob"),
        rectification=tuple(turn.T.ravel().tolist()),
        projection=(900.0, 0.0, 640.0, 0.0, 0.0, 900.0, 360.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        mounting=mounting(rectified=True, **LEVEL),
    )
    ray = Lens(camera).rays(np.array([640.5]), np.array([360.5]), SIZE_HW)[:, 0]
    np.testing.assert_allclose(np.degrees(np.arctan2(-ray[2], ray[0])), 1.0, atol=1e-6)
    assert abs(ray[1]) < 1e-12
