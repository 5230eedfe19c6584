"""Bodies of cars, trucks and buses, from proportions drawn per variant."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from edgetl.roadworld.mesh import (
    AMBER,
    BLACK,
    CHROME,
    GLASS,
    HEAD,
    INDICATOR,
    PAINT,
    PLATE,
    SECOND,
    SKYGLASS,
    TAIL,
    TYRE,
    WHITE,
    Builder,
    Mesh,
    Point,
    Quad,
)

CAR_SHAPES = ("sedan", "hatch", "suv", "van", "wagon", "pickup")
VARIANTS = 4

_SIZE: dict[str, tuple[float, float, float]] = {
    "sedan": (4.7, 1.84, 1.46),
    "hatch": (4.05, 1.76, 1.52),
    "suv": (4.65, 1.92, 1.72),
    "van": (5.1, 1.98, 2.05),
    "wagon": (4.75, 1.84, 1.5),
    "pickup": (5.3, 1.96, 1.84),
    "box": (7.4, 2.4, 3.3),
    "flatbed": (7.8, 2.4, 2.7),
    "tanker": (8.6, 2.45, 3.2),
    "city": (11.0, 2.5, 3.1),
    "minibus": (7.2, 2.25, 2.75),
}
# Greenhouse, as shares of the length from the middle: rear base, rear roof, front roof, front base;
# then belt, deck and bonnet height as shares of the height.
_CABIN: dict[str, tuple[float, float, float, float, float, float, float]] = {
    "sedan": (-0.385, -0.21, 0.07, 0.245, 0.62, 0.66, 0.6),
    "hatch": (-0.475, -0.38, 0.09, 0.27, 0.6, 0.6, 0.6),
    "suv": (-0.485, -0.42, 0.1, 0.26, 0.6, 0.6, 0.6),
    "van": (-0.495, -0.475, 0.26, 0.4, 0.53, 0.53, 0.5),
    "wagon": (-0.485, -0.41, 0.07, 0.245, 0.61, 0.61, 0.58),
    "pickup": (-0.07, -0.04, 0.13, 0.255, 0.6, 0.56, 0.58),
}


def body_size(shape: str, variant: int) -> tuple[float, float, float]:
    """Length, width, height in metres of a shape's variant."""
    length, width, height = _SIZE[shape]
    rng = np.random.default_rng([variant, len(shape), ord(shape[0])])
    stretch = rng.uniform(0.94, 1.06, 3)
    return length * float(stretch[0]), width * float(0.5 + stretch[1] / 2), height * float(stretch[2])


@lru_cache(maxsize=64)
def body(shape: str, variant: int) -> Mesh:
    """The mesh of a shape's variant, built once."""
    size = body_size(shape, variant)
    if shape in CAR_SHAPES:
        return _car(shape, size)
    if shape in ("city", "minibus"):
        return _bus(size, low_floor=shape == "city")
    return _truck(shape, size)


def _rear_wheels(b: Builder, x: float, w: float, radius: float) -> None:
    """What is seen of the tyres below a bumper, and the dark under the floor."""
    b.face(((x, -w, 0.12), (x, w, 0.12), (x, w, 0.45), (x, -w, 0.45)), BLACK, gain=0.7)
    for side in (-1, 1):
        inner, outer = side * (w - 0.26), side * w
        b.face(((x, inner, 0.0), (x, outer, 0.0), (x, outer, radius), (x, inner, radius)), TYRE)


def _car(shape: str, size: tuple[float, float, float]) -> Mesh:
    length, width, h = size
    w = width / 2
    rear_base, rear_roof, front_roof, front_base, belt_k, deck_k, hood_k = _CABIN[shape]
    rb, rr, fr, fb = (k * length for k in (rear_base, rear_roof, front_roof, front_base))
    belt, deck, hood = belt_k * h, deck_k * h, hood_k * h
    end, radius = length / 2, 0.225 * min(h, 1.5)
    b = Builder()
    b.begin((0.0, 0.0, 0.5 * h))
    for x in (-0.3 * length - 0.9 * radius, 0.315 * length + 0.9 * radius):
        _rear_wheels(b, x, w - 0.03, radius)
    profile = [
        (-end + 0.03, 0.24), (-end, 0.42), (-end + 0.02, 0.6 * h * belt_k / 0.6 * 0.9), (-end + 0.07, deck),
        (rb, belt if shape != "pickup" else deck), (fb, belt), (end - 0.28, hood * 0.93), (end - 0.06, hood * 0.78),
        (end, 0.48), (end - 0.03, 0.24),
    ]  # fmt: skip
    taper = [0.96, 0.98, 0.98, 0.96, 1.0, 1.0, 0.95, 0.92, 0.92, 0.92]
    for side in (-1, 1):
        b.face(tuple((x, side * w, z) for x, z in profile), PAINT, gain=0.94)
        b.face(_side_panel((-end + 0.1, end - 0.1), side * w, (0.24, 0.44)), PAINT, gain=0.5, level=1)
        b.face(_side_panel((-end + 0.15, fb), side * w, (belt * 0.86, belt * 0.9)), PAINT, gain=1.18, level=2)
        for x in (rb * 0.2 - 0.1, fb * 0.75):
            b.face(_side_panel((x, x + 0.025), side * w, (0.4, belt)), BLACK, level=2)
        for x in (-0.3 * length, 0.315 * length):
            b.wheel(x, side * w, radius, side)
    gains = [0.55, 0.96, 1.0, 1.06, 1.0, 1.06, 1.0, 0.9, 0.6]
    for i in range(len(profile) - 1):
        (x0, z0), (x1, z1), w0, w1 = profile[i], profile[i + 1], w * taper[i], w * taper[i + 1]
        b.face(((x0, -w0, z0), (x0, w0, z0), (x1, w1, z1), (x1, -w1, z1)), PAINT, gain=gains[i])
    _greenhouse(b, (rb, rr, fr, fb), (belt, h), w)
    rear: Quad = ((-end - 0.005, -w, 0.3), (-end - 0.005, w, 0.3), (-end - 0.005, w, deck), (-end - 0.005, -w, deck))
    front: Quad = ((end + 0.005, w, 0.26), (end + 0.005, -w, 0.26), (end - 0.02, -w, hood), (end - 0.02, w, hood))
    _car_rear(b, rear, tall=shape in ("suv", "van", "hatch"))
    _car_front(b, front)
    return b.build()


def _greenhouse(b: Builder, xs: tuple[float, float, float, float], zs: tuple[float, float], w: float) -> None:
    (rb, rr, fr, fb), (belt, top) = xs, zs
    low, high = w * 0.95, w * 0.76
    for side in (-1, 1):
        quad: Quad = ((rb, side * low, belt), (fb, side * low, belt), (fr, side * high, top), (rr, side * high, top))
        b.face(quad, PAINT, gain=0.9)
        for u0, u1 in ((0.06, 0.3), (0.33, 0.6), (0.63, 0.94)):
            b.patch(quad, (u0, u1, 0.06, 0.84), GLASS, level=0)
            b.patch(quad, (u0, u1, 0.5, 0.84), SKYGLASS, gain=0.62, level=2)
    b.face(((rr, -high, top), (rr, high, top), (fr, high, top), (fr, -high, top)), PAINT, gain=1.08)
    rear: Quad = ((rb, -low, belt), (rb, low, belt), (rr, high, top), (rr, -high, top))
    front: Quad = ((fb, low, belt), (fb, -low, belt), (fr, -high, top), (fr, high, top))
    for quad in (rear, front):
        b.face(quad, PAINT, gain=0.92)
        b.patch(quad, (0.07, 0.93, 0.08, 0.88), GLASS, level=0)
        b.patch(quad, (0.09, 0.91, 0.55, 0.86), SKYGLASS, gain=0.7, level=1)
    b.patch(front, (0.55, 0.62, 0.1, 0.3), BLACK, level=2)
    for side in (-1, 1):
        x, z = fb - 0.25, belt + 0.04
        near, far = side * low, side * (low + 0.2)
        b.face(((x, near, z), (x, far, z), (x, far, z + 0.15), (x, near, z + 0.15)), PAINT, gain=0.7, level=1)


def _car_rear(b: Builder, quad: Quad, *, tall: bool) -> None:
    low, high = (0.46, 0.9) if tall else (0.56, 0.84)
    wide = 0.13 if tall else 0.22
    b.patch(quad, (0.02, 0.98, 0.0, 0.2), BLACK, gain=1.2)
    b.patch(quad, (0.03, 0.03 + wide, low, high), TAIL, level=0)
    b.patch(quad, (0.97 - wide, 0.97, low, high), TAIL, level=0)
    b.patch(quad, (0.05, 0.02 + wide, low + 0.04, low + 0.12), WHITE, gain=0.9, level=2)
    b.patch(quad, (0.98 - wide, 0.95, low + 0.04, low + 0.12), WHITE, gain=0.9, level=2)
    b.patch(quad, (0.36, 0.64, 0.42, 0.6), PLATE)
    b.patch(quad, (0.4, 0.6, 0.47, 0.55), BLACK, level=2)
    b.patch(quad, (0.0, 1.0, 0.34, 0.37), BLACK, gain=1.5, level=2)


def _car_front(b: Builder, quad: Quad) -> None:
    b.patch(quad, (0.03, 0.97, 0.0, 0.2), BLACK, gain=1.1)
    b.patch(quad, (0.27, 0.73, 0.42, 0.7), BLACK, level=0)
    b.patch(quad, (0.29, 0.71, 0.55, 0.58), CHROME, level=2)
    for u0, u1 in ((0.04, 0.25), (0.75, 0.96)):
        b.patch(quad, (u0, u1, 0.52, 0.76), HEAD, level=0)
        b.patch(quad, (u0 + 0.02, u1 - 0.02, 0.22, 0.32), BLACK, level=2)
    b.patch(quad, (0.36, 0.64, 0.26, 0.4), PLATE)


def _side_panel(x: tuple[float, float], r: float, z: tuple[float, float]) -> Quad:
    """An upright rectangle along the body at distance r from its middle."""
    return (x[0], r, z[0]), (x[1], r, z[0]), (x[1], r, z[1]), (x[0], r, z[1])


def _box(
    b: Builder, x: tuple[float, float], w: float, z: tuple[float, float], colour: int
) -> tuple[Quad, Quad, tuple[Quad, Quad]]:
    """Five faces of a box; returns the rear, the front, and the left and right side."""
    (x0, x1), (z0, z1) = x, z
    rear: Quad = ((x0, -w, z0), (x0, w, z0), (x0, w, z1), (x0, -w, z1))
    front: Quad = ((x1, w, z0), (x1, -w, z0), (x1, -w, z1), (x1, w, z1))
    left: Quad = ((x0, -w, z0), (x1, -w, z0), (x1, -w, z1), (x0, -w, z1))
    right: Quad = ((x0, w, z0), (x1, w, z0), (x1, w, z1), (x0, w, z1))
    top: Quad = ((x0, -w, z1), (x0, w, z1), (x1, w, z1), (x1, -w, z1))
    for quad, k in ((top, 1.05), (left, 0.94), (right, 0.94), (rear, 1.0), (front, 1.0)):
        b.face(quad, colour, gain=k)
    return rear, front, (left, right)


def _truck(shape: str, size: tuple[float, float, float]) -> Mesh:
    length, width, h = size
    w, end = width / 2, length / 2
    cab, cab_top, radius = 1.9, min(2.6, h * 0.85), 0.48
    b = Builder()
    middle: Point = (-0.9, 0.0, 0.5 * h)
    b.begin(middle)
    for x in (-end + 0.9, -end + 1.1):
        _rear_wheels(b, x, w - 0.05, 2 * radius)
    _box(b, (-end, end - cab), w * 0.8, (0.55, 1.0), BLACK)
    for side in (-1, 1):
        for x in (-end + 1.3, -end + 2.4) if length > 7.5 else (-end + 1.5,):
            b.wheel(x, side * w * 0.98, radius, side)
    top = {"flatbed": 1.65, "tanker": h * 0.96}.get(shape, h)
    rear, _, sides = _box(b, (-end, end - cab - 0.15), w, (0.98, top), SECOND)
    for quad in sides:
        if shape == "box":
            b.patch(quad, (0.2, 0.8, 0.42, 0.68), PAINT, gain=0.9)
            b.patch(quad, (0.26, 0.6, 0.5, 0.6), WHITE, gain=0.9, level=2)
        for u in (0.2, 0.4, 0.6, 0.8):
            b.patch(quad, (u, u + 0.008, 0.02, 0.98), SECOND, gain=0.7, level=2)
        b.patch(quad, (0.0, 1.0, 0.0, 0.05), CHROME, gain=0.8)
    b.patch(rear, (0.495, 0.505, 0.03, 0.97), BLACK, level=1)
    for u in (0.3, 0.7):
        b.patch(rear, (u - 0.012, u + 0.012, 0.05, 0.95), CHROME, level=2)
    b.patch(rear, (0.03, 0.97, 0.03, 0.07), INDICATOR, gain=0.7, level=1)
    bumper: Quad = ((-end - 0.01, -w, 0.45), (-end - 0.01, w, 0.45), (-end - 0.01, w, 0.98), (-end - 0.01, -w, 0.98))
    b.patch(bumper, (0.02, 0.98, 0.1, 0.6), BLACK, gain=1.3, level=0)
    for u0, u1 in ((0.04, 0.2), (0.8, 0.96)):
        b.patch(bumper, (u0, u1, 0.25, 0.62), TAIL, level=0)
    b.patch(bumper, (0.4, 0.6, 0.2, 0.5), PLATE)
    _cab(b, (end - cab, end), w * 0.97, cab_top, radius)
    return b.build()


def _cab(b: Builder, x: tuple[float, float], w: float, top: float, radius: float) -> None:
    b.begin(((x[0] + x[1]) / 2, 0.0, top / 2))
    for side_x in (x[1] - 0.55, x[1] - 0.35):
        _rear_wheels(b, side_x, w - 0.02, 2 * radius)
    _, front, sides = _box(b, x, w, (0.5, top), PAINT)
    for quad in sides:
        b.patch(quad, (0.25, 0.9, 0.52, 0.86), GLASS, level=0)
        b.patch(quad, (0.3, 0.88, 0.7, 0.84), SKYGLASS, gain=0.6, level=2)
        b.patch(quad, (0.18, 0.2, 0.1, 0.9), BLACK, level=2)
    for side in (-1, 1):
        b.wheel((x[0] + x[1]) / 2 + 0.1, side * w, radius, side)
    b.patch(front, (0.05, 0.95, 0.5, 0.88), GLASS, level=0)
    b.patch(front, (0.07, 0.93, 0.7, 0.86), SKYGLASS, gain=0.65)
    b.patch(front, (0.2, 0.8, 0.2, 0.42), BLACK, gain=1.2, level=0)
    for v in (0.26, 0.32, 0.38):
        b.patch(front, (0.22, 0.78, v, v + 0.015), CHROME, level=2)
    b.patch(front, (0.0, 1.0, 0.0, 0.12), BLACK, gain=1.3)
    for u0, u1 in ((0.03, 0.17), (0.83, 0.97)):
        b.patch(front, (u0, u1, 0.13, 0.25), HEAD, level=0)
    b.patch(front, (0.4, 0.6, 0.05, 0.11), PLATE)


def _bus(size: tuple[float, float, float], *, low_floor: bool) -> Mesh:
    length, width, h = size
    w, end, radius = width / 2, length / 2, 0.46
    floor = 0.3 if low_floor else 0.42
    b = Builder()
    b.begin((0.0, 0.0, 0.5 * h))
    for x in (-end + 0.4, end - 0.4):
        _rear_wheels(b, x, w - 0.04, 2 * radius)
    rear, front, sides = _box(b, (-end, end), w, (floor, h), PAINT)
    for i, quad in enumerate(sides):
        b.patch(quad, (0.0, 1.0, 0.0, 0.16), SECOND, level=0)
        b.patch(quad, (0.0, 1.0, 0.33, 0.37), SECOND, gain=0.9)
        count = 7 if low_floor else 5
        for k in range(count):
            u = 0.03 + k * 0.94 / count
            b.patch(quad, (u, u + 0.86 / count, 0.45, 0.84), GLASS, level=0)
            b.patch(quad, (u, u + 0.86 / count, 0.66, 0.83), SKYGLASS, gain=0.6, level=2)
        for u in (0.42, 0.86) if i == 1 else ():
            b.patch(quad, (u, u + 0.09, 0.03, 0.86), GLASS, gain=1.1, level=1)
            b.patch(quad, (u + 0.043, u + 0.047, 0.03, 0.86), CHROME, level=2)
        side = 2 * i - 1
        for x in (-0.27 * length, 0.29 * length):
            b.wheel(x, side * w, radius, side)
    b.patch(rear, (0.12, 0.88, 0.6, 0.86), GLASS, level=0)
    b.patch(rear, (0.3, 0.7, 0.88, 0.97), BLACK, level=1)
    b.patch(rear, (0.34, 0.52, 0.9, 0.95), AMBER, level=2)
    b.patch(rear, (0.15, 0.85, 0.22, 0.42), SECOND, gain=0.8)
    b.patch(rear, (0.0, 1.0, 0.0, 0.08), BLACK, gain=1.2)
    b.patch(rear, (0.4, 0.6, 0.12, 0.18), PLATE)
    for u0, u1 in ((0.03, 0.11), (0.89, 0.97)):
        b.patch(rear, (u0, u1, 0.14, 0.4), TAIL, level=0)
        b.patch(rear, (u0, u1, 0.42, 0.5), INDICATOR, gain=0.8)
    b.patch(front, (0.04, 0.96, 0.34, 0.83), GLASS, level=0)
    b.patch(front, (0.06, 0.94, 0.6, 0.82), SKYGLASS, gain=0.6)
    b.patch(front, (0.495, 0.505, 0.34, 0.83), BLACK, level=2)
    b.patch(front, (0.1, 0.9, 0.85, 0.97), BLACK, level=0)
    b.patch(front, (0.25, 0.75, 0.88, 0.94), AMBER)
    b.patch(front, (0.0, 1.0, 0.0, 0.07), BLACK, gain=1.2)
    for u0, u1 in ((0.04, 0.2), (0.8, 0.96)):
        b.patch(front, (u0, u1, 0.11, 0.2), HEAD, level=0)
    b.patch(front, (0.4, 0.6, 0.09, 0.14), PLATE)
    return b.build()
