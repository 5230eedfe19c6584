"""Closing speeds: found for steady objects whatever the frame rate, NaN until they are sure, and bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_support import SIZE_HW, boxes_of, calibration, sighted
from numpy.typing import NDArray

from edgetl_runtime.geometry.approach import Approach, ApproachSettings, Closing
from edgetl_runtime.geometry.ground import Ground, touches_ground

HEIGHTS = np.array([[1.6, 0.2], [1.7, 1.5]])
VIEW: dict[str, Any] = {"position_m": (0.0, 0.0, 1.5), "pitch_std_deg": 0.2}
CAMERA = calibration(**VIEW, box_edge_std_px=0.4, box_edge_std_share=0.004)
FAR_APART_S = 0.1


class Drive:
    """Objects seen by CAMERA; `noise_px` shakes edges, `nod_deg` the camera."""

    def __init__(
        self, settings: ApproachSettings | None = None, *, noise_px: float = 0.0, nod_deg: float = 0.0
    ) -> None:
        self.approach = Approach(HEIGHTS, settings)
        self._ground = Ground(CAMERA)
        self._rng = np.random.default_rng(0)
        self._noise_px, self._nod_deg = noise_px, nod_deg

    def see(self, time_s: float, ids: list[int], places: NDArray[np.float64], height_m: float = 1.6) -> Closing:
        nod = self._rng.normal(0, self._nod_deg) if self._nod_deg else 0.0
        camera = calibration(position_m=(0.0, 0.0, 1.5), pitch_deg=2.0 + nod)
        boxes = boxes_of(camera, places, height_m)
        boxes = (boxes + self._rng.normal(0, self._noise_px, boxes.shape)).astype(np.float32)
        sight = self.last = sighted(self._ground, boxes, SIZE_HW)
        good, classes = touches_ground(boxes, SIZE_HW), np.zeros(len(ids), np.int64)
        return self.approach.update(np.array(ids, np.int64), classes, sight, good, t_ns=round(time_s * 1e9))


def driven(
    drive: Drive, times_s: list[float], at: Callable[[float], tuple[float, float]], height_m: float = 1.6
) -> Closing:
    last = None
    for time_s in times_s:
        last = drive.see(time_s, [5], np.array([at(time_s)]), height_m)
    assert last is not None
    return last


def every(step_s: float, until_s: float = 2.0) -> list[float]:
    return np.arange(0, until_s, step_s).tolist()


@pytest.mark.parametrize("step_s", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("height_m", [1.2, 1.6, 3.0])
def test_a_steady_approach_is_found(step_s: float, height_m: float) -> None:
    """Of something whose height is not its label's, too."""
    times = every(step_s)
    found = driven(Drive(noise_px=0.2), times, lambda t: (35 - 10 * t, 1.0), height_m)
    left_s = (35 - 10 * times[-1]) / 10
    assert found.speed_mps[0] == pytest.approx(10, rel=0.15)
    assert found.time_s[0] == pytest.approx(left_s, rel=0.15)
    assert abs(found.speed_mps[0] - 10) < 3 * found.std_mps[0] < 12


def test_gaps_between_frames_change_nothing() -> None:
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.uniform(0.03, 0.4, 12)).tolist()
    found = driven(Drive(noise_px=0.2), times, lambda t: (40 - 8 * t, 0.0))
    assert found.speed_mps[0] == pytest.approx(8, rel=0.2)


@pytest.mark.parametrize("then_s", [0.5, 30.0])
def test_a_clock_that_steps_makes_no_speed_of_what_was_before(then_s: float) -> None:
    drive = Drive()
    assert np.isfinite(driven(drive, every(0.1), lambda t: (35 - 10 * t, 0.0)).speed_mps[0])
    found = drive.see(then_s, [5], np.array([[15.0, 0.0]]))
    assert np.isnan(found.speed_mps[0]) and np.isnan(found.time_s[0])
    assert np.isnan(drive.see(then_s + 0.1, [5], np.array([[14.0, 0.0]])).speed_mps[0]), "it begins anew"


def test_a_speed_is_not_told_long_after_it_was_measured() -> None:
    drive = Drive()
    driven(drive, every(0.1), lambda t: (60 - 20 * t, 0.0))
    ids, classes, cut = np.array([5]), np.zeros(1, np.int64), np.zeros(1, bool)

    def at(time_s: float) -> Closing:
        return drive.approach.update(ids, classes, drive.last, cut, t_ns=round(time_s * 1e9))

    soon, later = at(2.3), at(2.5)
    assert np.isfinite([soon.speed_mps[0], soon.time_s[0]]).all()
    assert np.isnan([later.speed_mps[0], later.time_s[0]]).all(), "more than half a second without a measurement"


def test_what_goes_away_or_stays_has_no_time_to_collision() -> None:
    away = driven(Drive(), every(0.1), lambda t: (12 + 6 * t, 0.0))
    assert away.speed_mps[0] == pytest.approx(-6, rel=0.2) and np.isnan(away.time_s[0])
    still = driven(Drive(), every(0.1, 4.0), lambda t: (12.0, 0.0))
    assert abs(still.speed_mps[0]) < 0.3 and np.isnan(still.time_s[0])


def test_nothing_is_said_before_it_is_sure() -> None:
    drive = Drive(noise_px=0.2)
    told = [drive.see(t, [5], np.array([[30 - 10 * t, 0.0]])).speed_mps[0] for t in every(0.1)]
    assert np.isnan(told[:3]).all() and np.isfinite(told[-1])
    first = int(np.isfinite(told).argmax())
    assert np.isfinite(told[first:]).all() and abs(told[first] - 10) < 4


def test_a_nodding_camera_is_seen_through_by_the_size() -> None:
    """The same nodding and noise: the time to collision is nearer to the truth than by places alone."""
    off = {}
    for name, settings in {"both": ApproachSettings(), "ground": ApproachSettings(use_extent=False)}.items():
        drive, errors = Drive(settings, noise_px=0.3, nod_deg=0.5), []
        for t in every(0.1, 3.0):
            found = drive.see(t, [5], np.array([[40 - 10 * t, 0.0]]))
            row = drive.approach._rows[:, 0]
            errors.append(abs(-row[0] / row[1] / (4 - t) - 1) if t > 1.5 else 0.0)
            assert len(found.time_s) == 1
        off[name] = max(errors)
    assert off["both"] < 0.15 < off["ground"]


def many_driven(change: float, edge: tuple[float, float], *, seed: int = 0) -> tuple[NDArray[np.float64], float]:
    """Errors of times to collision in their deviations, and the median deviation in shares of the time.

    200 objects of 1.6 +- 0.2 m come from 20 to 60 m at 3 to 15 m/s, which changes by `change` m/s in a second, each
    seen by a camera of its own at 10 frames a second for 3 s. What errs is what the calibration says may err, for as
    long as the settings say: pitch by 0.2 degrees, edges by edge[0] px and edge[1] of the height.
    """
    count, step_s, off, shares = 200, 0.1, list[float](), list[float]()
    rng = np.random.default_rng(seed)
    ground = Ground(calibration(**VIEW, box_edge_std_px=edge[0], box_edge_std_share=edge[1]))
    approach, ids = Approach(HEIGHTS), np.arange(count)
    keep = np.exp(-step_s / approach.settings.ground_s)
    distance, speed = rng.uniform(20, 60, count), rng.uniform(3, 15, count)
    height, errors = rng.normal(1.6, 0.2, count), rng.normal(0, 1, (count, 5))
    for k in range(30):
        boxes = np.array([_seen(*row) for row in zip(distance, height, errors[:, 0], strict=True)])
        stds = np.hypot(edge[0], edge[1] * (boxes[:, 3] - boxes[:, 1]))
        boxes = (boxes + stds[:, None] * errors[:, 1:]).astype(np.float32)
        sight = sighted(ground, boxes, SIZE_HW)
        told = approach.update(ids, np.zeros_like(ids), sight, distance > 4, t_ns=round(k * step_s * 1e9))
        given = np.isfinite(told.time_s) & (distance > 4) & (speed > 0.3) & (k > 6)
        off += ((told.time_s - distance / speed) / told.time_std_s)[given].tolist()
        shares += (told.time_std_s / told.time_s)[given].tolist()
        errors = keep * errors + np.sqrt(1 - keep**2) * rng.normal(0, 1, errors.shape)
        distance = distance - step_s * speed
        speed = speed + change * np.sqrt(step_s) * rng.normal(0, 1, count)
    return np.array(off), float(np.median(shares))


def _seen(distance_m: float, height_m: float, pitch: float) -> NDArray[np.float32]:
    camera = calibration(position_m=(0.0, 0.0, 1.5), pitch_deg=2.0 + 0.2 * pitch)
    box: NDArray[np.float32] = boxes_of(camera, np.array([[distance_m, 0.0]]), height_m)[0]
    return box


@pytest.mark.parametrize("edge", [(0.4, 0.004), (2.0, 0.03)], ids=["sharp boxes", "a detector's boxes"])
def test_the_deviation_of_a_time_is_that_of_its_errors(edge: tuple[float, float]) -> None:
    """Of objects that change their speed as the settings suppose 68 and 95 % would be within 1 and 2 of a normal's.

    Seen: 74 and 95 % with sharp boxes, 72 and 93 % with a detector's (with other seeds 68 to 72 and 92 to 94 %), and
    nearly all of the others come later than stated, see Closing. Steady objects, which are followed better than they
    are trusted to be: 99 and 100 %, 87 and 97 %.
    """
    off, share = many_driven(ApproachSettings().change, edge)
    within = [float((np.abs(off) <= most).mean()) for most in (1, 2)]
    assert len(off) > 1000 and 0.1 < share < 0.35
    assert 0.62 < within[0] < 0.83 and 0.9 < within[1] < 0.985, within
    assert (off > 2).mean() < 0.02, "it comes sooner than stated"
    steady, _ = many_driven(0.0, edge)
    assert float((np.abs(steady) <= 1).mean()) > 0.8


def test_the_deviation_of_a_time_is_of_the_whole_covariance() -> None:
    """By the gradient of distance / -rate, with what distance and rate have in common."""
    drive = Drive(noise_px=0.2)
    found = driven(drive, every(0.1), lambda t: (40 - 10 * t, 0.0))
    row = drive.approach._rows[:, 0]
    gradient, spread = np.array([-1 / row[1], row[0] / row[1] ** 2]), row[3:12].reshape(3, 3)[:2, :2]
    assert found.time_std_s[0] == pytest.approx(np.sqrt(gradient @ spread @ gradient))
    assert abs(spread[0, 1]) > 0.1 * np.sqrt(spread[0, 0] * spread[1, 1]), "it matters here"


def test_a_time_and_its_deviation_are_there_together() -> None:
    drive, found = Drive(), None
    for t in every(0.1):
        found = drive.see(t, [5, 6], np.array([[40 - 10 * t, 0.0], [12 + 6 * t, 4.0]]))
        assert (np.isfinite(found.time_s) == np.isfinite(found.time_std_s)).all()
    assert found is not None and 0 < found.time_std_s[0] < found.time_s[0] and np.isnan(found.time_std_s[1])


def test_objects_are_told_apart_by_their_numbers_in_any_order() -> None:
    drive, found = Drive(), None
    for k, t in enumerate(every(0.1)):
        order = [9, 2, 4] if k % 2 else [4, 9, 2]
        places = {9: (40 - 10 * t, 0.0), 2: (15 + 5 * t, 3.0), 4: (12.0, -3.0)}
        found = drive.see(t, order, np.array([places[i] for i in order]))
    assert found is not None and len(drive.approach) == 3
    assert found.speed_mps == pytest.approx([10, -5, 0], abs=0.8)


def test_boxes_without_a_number_leave_no_trace() -> None:
    drive = Drive()
    for t in every(0.1):
        found = drive.see(t, [-1, -1], np.array([[30 - 10 * t, 0.0], [20, 4]]))
        assert np.isnan(found.speed_mps).all()
    assert len(drive.approach) == 0


def test_what_is_not_measured_goes_on_for_a_while_only() -> None:
    """Too near: its lower edge is cut off."""
    drive = Drive()
    for t in every(0.1, 1.5):
        drive.see(t, [5], np.array([[20 - 10 * t, 0.0]]))
    near = np.array([[2.5, 0.0]])
    soon, late = drive.see(1.7, [5], near), drive.see(2.4, [5], near)
    assert soon.time_s[0] < 0.5 and np.isnan([late.time_s[0], late.speed_mps[0]]).all()


def test_dead_tracks_are_forgotten_and_memory_is_bounded() -> None:
    settings = ApproachSettings(most=10)
    drive = Drive(settings)
    for k in range(30):
        drive.see(0.05 * k, [k], np.array([[20.0, 0.0]]))
    assert len(drive.approach) == 10
    drive.see(4.0, [], np.zeros((0, 2)))
    assert len(drive.approach) == 0


@pytest.mark.parametrize("then_s", [0.5, 60.0])
def test_a_clock_that_jumps_begins_anew(then_s: float) -> None:
    drive = Drive()
    driven(drive, [5 + t for t in every(0.1)], lambda t: (30 - 10 * (t - 5), 0.0))
    found = drive.see(then_s, [5], np.array([[10.0, 0.0]]))
    assert np.isnan(found.speed_mps[0]) and len(drive.approach) == 1


def test_two_frames_of_one_time_are_fine() -> None:
    drive = Drive()
    for t in every(0.1):
        drive.see(t, [5], np.array([[30 - 10 * t, 0.0]]))
        found = drive.see(t, [5], np.array([[30 - 10 * t, 0.0]]))
    assert found.speed_mps[0] == pytest.approx(10, rel=0.1)
    spread = drive.approach._rows[3:12, 0].reshape(3, 3)
    assert np.linalg.eigvalsh(spread).min() > 0


def test_one_wild_box_does_not_spoil_it() -> None:
    drive = Drive(noise_px=0.2)
    for t in every(0.1):
        drive.see(t, [5], np.array([[35 - 10 * t, 0.0]]))
    drive.see(2.0, [5], np.array([[25.0, 0.0]]), height_m=0.7)
    found = driven(drive, [2.1, 2.2], lambda t: (35 - 10 * t, 0.0))
    assert found.speed_mps[0] == pytest.approx(10, rel=0.3)


def test_it_is_the_filter_of_the_textbook() -> None:
    """Prediction and both corrections with matrices, for errors that last no longer than a frame."""
    settings = ApproachSettings(ground_s=0.0, extent_s=0.0, surprise=1e9)
    drive = Drive(settings, noise_px=1.0)
    mean, cov = np.zeros(3), np.zeros((3, 3))
    for k, t in enumerate(every(FAR_APART_S)):
        drive.see(t, [5], np.array([[30 - 10 * t, 0.0]]))
        row = drive.approach._rows[:, 0]
        if k:
            move = np.array([[1, FAR_APART_S, 0], [0, 1, 0], [0, 0, 1.0]])
            d3, d2 = FAR_APART_S**3 / 3, FAR_APART_S**2 / 2
            noise = settings.change**2 * np.array([[d3, d2, 0], [d2, FAR_APART_S, 0], [0, 0, 0]])
            noise[2, 2] = settings.drift**2 * FAR_APART_S
            mean, cov = move @ mean, move @ cov @ move.T + noise
            sight = drive.last
            for gradient, off, variance in (
                (np.array([1.0, 0, 0]), lambda m, s=sight: s.distance_m[0] - m[0], sight.distance_var[0]),
                (
                    None,
                    lambda m, s=sight: -np.log(s.extent[0]) - (np.log(m[0]) - m[2]),
                    2 * (sight.slope_std[0] / sight.extent[0]) ** 2,
                ),
            ):
                g = np.array([1 / mean[0], 0, -1.0]) if gradient is None else gradient
                gain = cov @ g / (g @ cov @ g + variance)
                mean, cov = mean + gain * off(mean), cov - np.outer(gain, g @ cov)
            np.testing.assert_allclose(row[:3], mean, rtol=1e-9)
            np.testing.assert_allclose(row[3:12].reshape(3, 3), cov, rtol=1e-6, atol=1e-12)
        mean, cov = row[:3].copy(), row[3:12].reshape(3, 3).copy()
