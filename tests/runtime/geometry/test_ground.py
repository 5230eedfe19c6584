"""Places: exact for exact boxes however the camera sits, with the covariance that errors really have; NaN elsewhere."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from geometry_support import MODELS, SIZE_HW, boxes_of, calibration, seen, sighted

from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.geometry.ground import MOST_RELATIVE_STD, Ground, touches_ground

PLACES = np.array([[6.0, 0.5], [12, -3], [20, 4], [30, 0], [40, -6]])


@pytest.mark.parametrize("size_hw", [SIZE_HW, (360, 640)])
@pytest.mark.parametrize("model", MODELS)
def test_exact_boxes_stand_where_they_are(model: str, size_hw: tuple[int, int]) -> None:
    camera = calibration(model, roll_deg=2.0, yaw_deg=-4.0, pitch_std_deg=0.1)
    sight = sighted(Ground(camera), boxes_of(camera, PLACES, 1.6, size_hw), size_hw)
    np.testing.assert_allclose(sight.places_m.T, PLACES, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_how_much_of_the_slope_a_box_takes_up(count: int) -> None:
    camera = calibration("plumb_bob", pitch_deg=0.0, pitch_std_deg=0.1)
    sight = sighted(Ground(camera), boxes_of(camera, PLACES[:count], 1.6), SIZE_HW)
    assert sight.covariances_m2.shape == (2, 2, count)
    away = np.hypot(PLACES[:count, 0] - 1.2, PLACES[:count, 1] - 0.1)
    np.testing.assert_allclose(sight.distance_m, away, rtol=2e-3)
    np.testing.assert_allclose(sight.slope, 1.5 / away, rtol=2e-3)
    np.testing.assert_allclose(sight.extent, 1.6 / away, rtol=5e-3)


ERRORS = {
    "pitch": {"pitch_std_deg": 0.3},
    "roll": {"roll_std_deg": 1.0, "pitch_std_deg": 1e-6},
    "yaw": {"yaw_std_deg": 0.5, "pitch_std_deg": 1e-6},
    "height": {"height_std_m": 0.05, "pitch_std_deg": 1e-6},
    "box in pixels": {"box_edge_std_px": 3.0, "pitch_std_deg": 1e-6},
    "box in shares": {"box_edge_std_share": 0.03, "pitch_std_deg": 1e-6},
    "all": {
        "pitch_std_deg": 0.2,
        "roll_std_deg": 0.5,
        "yaw_std_deg": 0.5,
        "height_std_m": 0.03,
        "box_edge_std_px": 1.0,
        "box_edge_std_share": 0.02,
    },
}


@pytest.mark.parametrize(("model", "yaw_deg"), [("none", 0.0), ("plumb_bob", 0.0), ("none", 90.0), ("none", -130.0)])
@pytest.mark.parametrize("name", ERRORS)
def test_the_covariance_is_that_of_many_tries(name: str, model: str, yaw_deg: float) -> None:
    """Boxes seen by cameras that are all a little different, placed by the one that is calibrated."""
    stds = {"box_edge_std_px": 0.0, "box_edge_std_share": 0.0, **ERRORS[name]}
    camera, rng = calibration(model, yaw_deg=yaw_deg, **stds), np.random.default_rng(3)
    foot, (cos, sin) = np.array([1.2, 0.1]), (np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg)))
    place, tries = (foot + np.array([[cos, -sin], [sin, cos]]) @ (np.array([18.0, -5.0]) - foot))[None], 600
    ground = Ground(camera)
    expected = sighted(ground, boxes_of(camera, place, 1.6), SIZE_HW).covariances_m2[:, :, 0]
    boxes = np.concatenate([boxes_of(_other(camera, rng), place, 1.6) for _ in range(tries)])
    tall = boxes[:, 3:] - boxes[:, 1:2]
    edge = np.hypot(stds["box_edge_std_px"], stds["box_edge_std_share"] * tall)
    shaken = (boxes + rng.normal(0, 1, boxes.shape) * edge).astype(np.float32)
    found = sighted(ground, shaken, SIZE_HW).places_m
    actual, scale = np.cov(found), np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(actual - expected) < 0.18 * scale + 1e-6).all(), (actual, expected)


def _other(camera: Calibration, rng: np.random.Generator) -> Calibration:
    """The camera turned and lifted, as its mounting says that it may be."""
    m = camera.mounting
    values = {
        "roll_deg": m.roll_deg + rng.normal(0, m.roll_std_deg),
        "pitch_deg": m.pitch_deg + rng.normal(0, m.pitch_std_deg),
        "yaw_deg": m.yaw_deg + rng.normal(0, m.yaw_std_deg),
        "position_m": (*m.position_m[:2], m.position_m[2] + rng.normal(0, m.height_std_m)),
    }
    return msgspec.structs.replace(camera, mounting=msgspec.structs.replace(m, **values))


def test_nothing_stands_above_the_horizon_and_little_just_below_it() -> None:
    camera = calibration(pitch_deg=0.0)
    horizon = seen(camera, np.array([[1e9, 0.0, 0.0]]))[0, 1]
    lower = horizon + np.array([-200.0, -1, 0, 1, 3, 10, 40, 100])
    boxes = np.stack([np.full(8, 600), lower - 80, np.full(8, 680), lower], axis=1).astype(np.float32)
    sight = sighted(Ground(camera), boxes, SIZE_HW)
    known = np.isfinite(sight.places_m).all(axis=0)
    assert known.tolist() == [False] * 5 + [False, True, True]
    assert (np.isfinite(sight.covariances_m2).all(axis=(0, 1)) == known).all()
    shares = np.sqrt(sight.distance_var[known]) / sight.distance_m[known]
    assert shares[0] > shares[1] and (shares < MOST_RELATIVE_STD).all()


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], []),
        ([[0, 100, 50, 719]], [False]),  # cut off by the lower edge
        ([[0, 100, 50, 717]], [True]),
        ([[100, 100, 200, 300], [90, 200, 210, 400]], [False, True]),  # hidden by a nearer one
        ([[100, 100, 200, 300], [150, 200, 260, 400]], [True, True]),  # half of it is
        ([[100, 100, 200, 300], [100, 102, 201, 303]], [True, True]),  # the same object twice
        ([[100, 100, 200, 300], [90, 310, 210, 400]], [True, True]),  # one stands before the other
    ],
)
def test_lower_edges_that_show_no_ground(boxes: list[list[float]], expected: list[bool]) -> None:
    assert touches_ground(np.array(boxes, np.float32).reshape(-1, 4), SIZE_HW).tolist() == expected


def test_sureness_falls_with_distance_and_grows_with_height() -> None:
    def share(height_m: float, away_m: float) -> float:
        camera = calibration(position_m=(0.0, 0.0, height_m))
        sight = sighted(Ground(camera), boxes_of(camera, np.array([[away_m, 0.0]]), 1.6), SIZE_HW)
        return float(np.sqrt(sight.distance_var[0]) / away_m)

    assert share(1.5, 10) < share(1.5, 20) < share(1.5, 40)
    assert share(2.5, 20) < share(1.5, 20)
