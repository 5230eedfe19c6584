"""A constant-velocity Kalman filter of many boxes at once, with time steps that may differ.

The state of a box is its centre, the logarithms of its width and height, and how fast each of them changes: seconds,
pixels for the centre, no unit for the logarithms, so that a size never falls below zero and an object that comes nearer
grows by shares. All noise of the centre is in proportion to the box's size, as in DeepSORT (Wojke et al., ICIP 2017),
whose noises don't mix the axes either: the covariance is four blocks of 2 x 2, and the update needs no inverse matrix.

Rows are (N, WIDTH) float64: value, rate, variance of the value, covariance of both, variance of the rate, four each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUE, RATE, VALUE_VAR, BOTH_VAR, RATE_VAR = (slice(4 * i, 4 * i + 4) for i in range(5))
WIDTH = 20

MEASURED = np.array([0.05, 0.05, 0.08, 0.08])
"""Deviation of a detector's box from the object: of the centre in shares of the box's size, of its logarithms."""
FIRST_RATE = np.array([3.0, 3.0, 1.5, 1.5])
"""Deviation of what a new box's rates may be, each second."""
CHANGE = np.array([1.0, 1.0, 0.5, 0.5])
"""How much the rates change: deviation after one second, each second (white noise of the acceleration)."""
_LEAST_PX = 1e-3
_MOST_LOG = 12.0  # a box of 160,000 pixels: what is predicted stays finite whatever a rate is


def states_from_boxes(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, 4) centre x, centre y, log width, log height of boxes (N, 4) x1, y1, x2, y2 in pixels."""
    boxes = boxes_xyxy.astype(np.float64)
    states = np.empty_like(boxes)
    low, high = boxes[:, :2], boxes[:, 2:]
    states[:, :2] = (low + high) * 0.5
    states[:, 2:] = np.log(np.maximum(high - low, _LEAST_PX))
    return states


def boxes_from_states(states: NDArray[np.float64], *, grow: float = 0.0) -> NDArray[np.float64]:
    """The inverse of `states_from_boxes`, new. grow: every edge is moved out by so many mean sides of the box."""
    half = np.exp(np.minimum(states[:, 2:4], _MOST_LOG)) * 0.5
    if grow:
        half += 2 * grow * np.sqrt(half[:, :1] * half[:, 1:])
    boxes = np.empty((len(states), 4))
    np.subtract(states[:, :2], half, out=boxes[:, :2])
    np.add(states[:, :2], half, out=boxes[:, 2:])
    return boxes


def begin(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, WIDTH) rows of boxes that are seen for the first time: at rest, as far as is known."""
    rows = np.zeros((len(states), WIDTH))
    areas = _areas(states)
    rows[:, VALUE] = states
    rows[:, VALUE_VAR] = MEASURED**2 * areas
    rows[:, RATE_VAR] = FIRST_RATE**2 * areas
    return rows


def predict(rows: NDArray[np.float64], dt_s: float) -> None:
    """Move every row on by so many seconds, in place."""
    noise = CHANGE**2 * _areas(rows)
    rate, both, rate_var = rows[:, RATE], rows[:, BOTH_VAR], rows[:, RATE_VAR]
    rows[:, VALUE] += rate * dt_s
    rows[:, VALUE_VAR] += dt_s * (2 * both + dt_s * (rate_var + noise * (dt_s / 3)))
    both += dt_s * (rate_var + noise * (dt_s / 2))
    rate_var += dt_s * noise


def correct(rows: NDArray[np.float64], states: NDArray[np.float64]) -> None:
    """Take a measurement (N, 4) of each row into account, in place."""
    both, variance, rate_var = rows[:, BOTH_VAR], rows[:, VALUE_VAR], rows[:, RATE_VAR]
    whole = variance + MEASURED**2 * _areas(states)
    gain, rate_gain = variance / whole, both / whole
    off = states - rows[:, VALUE]
    rows[:, VALUE] += gain * off
    rows[:, RATE] += rate_gain * off
    rate_var -= rate_gain * both
    left = 1 - gain
    both *= left
    variance *= left


def _areas(states: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 4) what each part's variance is in proportion to: the box's area in px^2, and 1 for the logarithms."""
    areas = np.ones((len(states), 4))
    areas[:, :2] = np.exp(np.minimum(states[:, 2] + states[:, 3], 2 * _MOST_LOG))[:, None]
    return areas
