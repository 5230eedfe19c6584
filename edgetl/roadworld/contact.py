"""Where an object touches the ground, and where it is, in the frame of the vehicle that sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.mesh import turned
from edgetl.roadworld.people import foot_points
from edgetl.roadworld.scene import BUS, CAR, PERSON, TRUCK, Actor
from edgetl.roadworld.vehicles import body

F64 = NDArray[np.float64]
Point = tuple[float, float]

_LOW_M = 0.02
_TYRES = (-0.53, 0.53, -0.03, 0.03)
"""Of a bicycle: back, front, left, right."""


@dataclass(frozen=True)
class Stand:
    """An object's exact place in base_link under the camera (REP-103: x forward, y to the left, metres).

    position_m: its middle, on the ground. yaw_rad: its heading, counter-clockwise, 0 for the same as the ego's.
    size_lwh_m: length, width, height. touches_m: corners of the rectangle that its wheels or feet touch the ground in,
    nothing for what hangs.
    """

    position_m: Point
    yaw_rad: float
    size_lwh_m: tuple[float, float, float]
    touches_m: tuple[Point, ...] = ()


def stand_of(actor: Actor, place: F64, yaw: float, stride: float) -> Stand:
    """Where an actor stands; place, yaw: in the ego frame (right, forward, up), clockwise."""
    back, front, left, right = _contact(actor, stride)
    corners = np.array([(back, left, 0.0), (back, right, 0.0), (front, right, 0.0), (front, left, 0.0)])
    at = turned(corners, yaw) + place
    return Stand(
        _in_base(place), -yaw, actor.size_lwh, tuple((float(forward), -float(side)) for side, forward in at[:, :2])
    )


def hanging(place: F64, yaw: float, size_m: float) -> Stand:
    """Where a sign or light hangs."""
    return Stand(_in_base(place), -yaw, (0.1, size_m, size_m))


def _in_base(place: F64) -> Point:
    return float(place[1]), -float(place[0])


def _contact(actor: Actor, stride: float) -> tuple[float, float, float, float]:
    """Back, front, left and right of the rectangle that touches the ground, along the body's axes."""
    if actor.label in (CAR, TRUCK, BUS):
        return _tyres(actor.shape, actor.variant)
    if actor.label == PERSON:
        feet = foot_points(actor, stride)
        return float(feet[:, 0].min()), float(feet[:, 0].max()), float(feet[:, 1].min()), float(feet[:, 1].max())
    return _TYRES


@lru_cache(maxsize=64)
def _tyres(shape: str, variant: int) -> tuple[float, float, float, float]:
    points = body(shape, variant).points
    low = points[points[:, 2] < _LOW_M]
    return float(low[:, 0].min()), float(low[:, 0].max()), float(low[:, 1].min()), float(low[:, 1].max())
