"""The filter: its states are boxes, it learns a speed, and it is the textbook's Kalman filter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_runtime.motion import (
    BOTH_VAR,
    CHANGE,
    MEASURED,
    RATE,
    RATE_VAR,
    VALUE,
    VALUE_VAR,
    WIDTH,
    begin,
    boxes_from_states,
    correct,
    predict,
    states_from_boxes,
)

BOXES = np.array([[10, 20, 50, 100], [0, 0, 1, 1], [600, 300, 640, 310]], np.float32)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_states_are_boxes(count: int) -> None:
    states = states_from_boxes(BOXES[:count])
    assert states.shape == (count, 4) and states.dtype == np.float64
    np.testing.assert_allclose(boxes_from_states(states), BOXES[:count], atol=1e-9)


def test_boxes_grow_by_their_mean_side() -> None:
    """A box of 40 x 90 has a mean side of 60."""
    grown = boxes_from_states(states_from_boxes(np.array([[100, 100, 140, 190]], np.float32)), grow=0.1)
    np.testing.assert_allclose(grown, [[94, 94, 146, 196]])


@pytest.mark.parametrize("dt_s", [0.01, 0.05, 0.3])
def test_a_steady_motion_is_learnt(dt_s: float) -> None:
    at = np.array([[100.0, 100.0, 3.0, 4.0]])
    rate = np.array([60.0, -30.0, 0.2, 0.1])
    rows = begin(at)
    for k in range(1, 60):
        predict(rows, dt_s)
        correct(rows, at + rate * k * dt_s)
    np.testing.assert_allclose(rows[0, RATE], rate, rtol=0.02)
    expected = rows[0, VALUE] + rows[0, RATE] * 0.5
    predict(rows, 0.5)
    np.testing.assert_allclose(rows[0, VALUE], expected)


def test_it_is_the_filter_of_the_textbook() -> None:
    """One axis of the first box with matrices: F P F' + Q, then S, K and (1 - K H) P."""
    rng = np.random.default_rng(0)
    states = states_from_boxes(BOXES)
    rows = begin(states)
    mean = np.array([rows[0, VALUE][0], 0.0])
    cov = np.diag([rows[0, VALUE_VAR][0], rows[0, RATE_VAR][0]])
    pick = np.array([[1.0, 0.0]])
    for _ in range(6):
        dt_s = float(rng.uniform(0.02, 0.2))
        area = float(np.exp(rows[0, VALUE][2:].sum()))
        move = np.array([[1.0, dt_s], [0.0, 1.0]])
        noise = CHANGE[0] ** 2 * area * np.array([[dt_s**3 / 3, dt_s**2 / 2], [dt_s**2 / 2, dt_s]])
        mean, cov = move @ mean, move @ cov @ move.T + noise
        predict(rows, dt_s)
        seen = states + rng.normal(0, 0.1, states.shape)
        spread = pick @ cov @ pick.T + MEASURED[0] ** 2 * np.exp(seen[0, 2:].sum())
        gain = (cov @ pick.T / spread)[:, 0]
        mean = mean + gain * (seen[0, 0] - mean[0])
        cov = cov - np.outer(gain, pick @ cov)
        correct(rows, seen)
    np.testing.assert_allclose([rows[0, VALUE][0], rows[0, RATE][0]], mean)
    found = [rows[0, VALUE_VAR][0], rows[0, BOTH_VAR][0], rows[0, RATE_VAR][0]]
    np.testing.assert_allclose(found, [cov[0, 0], cov[0, 1], cov[1, 1]])


@pytest.mark.parametrize("dt_s", [0.0, 1e-6, 1.0])
def test_variances_stay_above_zero(dt_s: float) -> None:
    states: NDArray[np.float64] = states_from_boxes(BOXES)
    rows = begin(states)
    for _ in range(300):
        predict(rows, dt_s)
        correct(rows, states)
    assert rows.shape == (3, WIDTH) and np.isfinite(rows).all()
    assert (rows[:, VALUE_VAR] > 0).all() and (rows[:, RATE_VAR] > 0).all()
    assert (rows[:, VALUE_VAR] * rows[:, RATE_VAR] > rows[:, BOTH_VAR] ** 2).all()
