"""Buildings: façade pictures with windows, hung on walls in perspective."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.canvas import BUILDING, SHIFT, Canvas, fixed
from edgetl.roadworld.light import Lighting
from edgetl.roadworld.noise import U8, fbm
from edgetl.roadworld.scene import Bgr, Building

F64 = NDArray[np.float64]

WALLS: tuple[Bgr, ...] = (
    (92, 108, 156), (74, 92, 132), (150, 176, 190), (186, 200, 206), (140, 150, 154), (120, 152, 186), (168, 180, 168),
    (104, 112, 118), (150, 166, 204), (176, 158, 140),
)  # fmt: skip
TILES: tuple[Bgr, ...] = ((52, 62, 128), (74, 76, 82), (48, 70, 104))
PX_PER_M = 16
BAY_M, BAYS, FLOORS = 3.0, 7, 6
FLOOR_M = 3.1
NEAR_WALL_M = 0.7
STYLES = 4
"""Façades: 0 brick flats, 1 office glass, 2 shop below flats, 3 plastered house."""


class Facade:
    """A wall picture with its lit windows as fourth channel, (H, W, 4) uint8, and the same smaller on demand.

    Four channels are warped in half the time of three.
    """

    def __init__(self, picture: U8, lit: U8) -> None:
        self._sizes: dict[tuple[int, int], U8] = {(0, 0): np.dstack([picture, lit])}
        self.size_hw = lit.shape[0], lit.shape[1]

    def near_size(self, wide_px: float, high_px: float) -> U8:
        """The picture, halved as often as keeps it at least this size."""
        h, w = self.size_hw
        return self._halved(*(min(max(int(math.log2(a / max(b, 1.0))), 0), 5) for a, b in ((w, wide_px), (h, high_px))))

    def _halved(self, across: int, up: int) -> U8:
        """The picture halved this often, from the next larger one."""
        found = self._sizes.get((across, up))
        if found is None:
            larger = self._halved(across - (across >= up), up - (across < up))
            size = (max(self.size_hw[1] >> across, 2), max(self.size_hw[0] >> up, 2))
            found = np.asarray(cv2.resize(larger, size, interpolation=cv2.INTER_AREA), np.uint8)
            self._sizes[across, up] = found
        return found


@lru_cache(maxsize=64)
def facade(style: int, variant: int, front: bool) -> Facade:
    """A façade of BAYS by FLOORS, of which a building shows the lower left part; variant picks tone and windows."""
    rng = np.random.default_rng([style, variant, int(front)])
    wall = np.array(WALLS[(3 * variant + 5 * style) % len(WALLS)])
    w, h = int(BAYS * BAY_M * PX_PER_M), int(FLOORS * FLOOR_M * PX_PER_M)
    stain = 128 * (1 + 0.16 * cv2.resize(fbm(20 + variant % 3, 256, 256), (w, h)))
    rough = cv2.merge([np.clip(stain, 0, 255).astype(np.uint8)] * 3)
    picture: U8 = cv2.multiply(rough, np.full_like(rough, wall.astype(np.uint8)), scale=1 / 128)
    lit = np.zeros((h, w), np.uint8)
    if style == 0:
        picture[::5] = cv2.convertScaleAbs(np.ascontiguousarray(picture[::5]), alpha=0.86)
    _windows(style, wall, picture, lit, rng)
    if style == 2:
        _shop(picture, lit, rng)
    elif front and style != 1:
        _door(picture, rng)
    picture[-PX_PER_M // 2 :] = (picture[-PX_PER_M // 2 :] * 0.72).astype(np.uint8)
    return Facade(picture, lit)


def _windows(style: int, wall: F64, picture: U8, lit: U8, rng: np.random.Generator) -> None:
    h, w = lit.shape
    glassy = style == 1
    step = PX_PER_M * BAY_M / (2 if glassy else 1)
    count, pad = int(w / step), 0.0
    wide = step * (0.84 if glassy else float(rng.uniform(0.42, 0.56)))
    high = PX_PER_M * FLOOR_M * (0.74 if glassy else float(rng.uniform(0.46, 0.58)))
    frame = (wall * (0.62 if rng.random() < 0.5 else 1.3)).clip(0, 235).tolist()
    share = rng.uniform(0.2, 0.6)
    for floor in range(int(h / (PX_PER_M * FLOOR_M))):
        bottom = h - floor * PX_PER_M * FLOOR_M - PX_PER_M * 0.75
        for k in range(count):
            x0, y0 = int(pad + k * step + (step - wide) / 2), int(bottom - high)
            x1, y1 = int(x0 + wide), int(bottom)
            if y0 < 6:
                continue
            cv2.rectangle(picture, (x0 - 2, y0 - 2), (x1 + 2, y1 + 2), frame, -1)
            dark = rng.uniform(0.5, 1.3)
            glass = (np.array([86.0, 76.0, 62.0]) * dark).tolist()
            cv2.rectangle(picture, (x0, y0), (x1, y1), glass, -1)
            cv2.rectangle(
                picture,
                (x0, y0),
                (x1, y0 + (y1 - y0) * 2 // 5),
                (np.array([150.0, 138.0, 120.0]) * dark).clip(0, 230).tolist(),
                -1,
            )
            if not glassy:
                cv2.line(picture, ((x0 + x1) // 2, y0), ((x0 + x1) // 2, y1), frame, 2)
                if rng.random() < 0.3:
                    cv2.rectangle(picture, (x0, y0), (x0 + (x1 - x0) // 3, y1), (176, 186, 192), -1)
                cv2.rectangle(picture, (x0 - 3, y1 + 2), (x1 + 3, y1 + 4), (128, 132, 134), -1)
            if rng.random() < share:
                cv2.rectangle(lit, (x0, y0), (x1, y1), int(rng.integers(110, 255)), -1)


def _shop(picture: U8, lit: U8, rng: np.random.Generator) -> None:
    h, w = lit.shape
    sign_tone = rng.uniform(30, 200, 3)
    y_sign = int(h - PX_PER_M * FLOOR_M)
    if y_sign < 4:
        return
    cv2.rectangle(picture, (0, y_sign), (w, h), (62, 60, 58), -1)
    cv2.rectangle(picture, (0, y_sign), (w, y_sign + PX_PER_M * 2 // 3), sign_tone.tolist(), -1)
    for x in range(PX_PER_M, w - PX_PER_M, int(PX_PER_M * 0.55)):
        if rng.random() < 0.6:
            cv2.rectangle(picture, (x, y_sign + 3), (x + 4, y_sign + 7), (228, 232, 232), -1)
    panes = BAYS
    for k in range(panes):
        x0, x1 = int(k * w / panes) + 4, int((k + 1) * w / panes) - 4
        top, bottom = y_sign + PX_PER_M, h - PX_PER_M // 2
        tone = rng.uniform(60, 150, 3)
        cv2.rectangle(picture, (x0, top), (x1, bottom), tone.tolist(), -1)
        cv2.rectangle(picture, (x0, top), (x1, (top + bottom) // 2), (tone * 1.25).clip(0, 255).tolist(), -1)
        cv2.rectangle(lit, (x0, top), (x1, bottom), int(rng.integers(120, 235)), -1)


def _door(picture: U8, rng: np.random.Generator) -> None:
    h = picture.shape[0]
    x = int(rng.uniform(0.3, 1.7) * BAY_M * PX_PER_M)
    tone = rng.uniform(25, 110, 3).tolist()
    cv2.rectangle(picture, (x - 2, int(h - 2.3 * PX_PER_M)), (x + PX_PER_M + 2, h), (188, 190, 190), -1)
    cv2.rectangle(picture, (x, int(h - 2.15 * PX_PER_M)), (x + PX_PER_M, h), tone, -1)


def paint_building(canvas: Canvas, b: Building, base: F64, lighting: Lighting) -> None:
    """Paint side wall, front and roof.

    base: ego x, y (4, 2) of the corners, the front's near and far end first, then around the building.
    """
    a, end, _, back = base.tolist()
    if max(a[1], end[1]) < NEAR_WALL_M:
        return
    clear = lighting.clear(math.hypot(a[0] + end[0], a[1] + end[1]) / 2)
    sun_x, sun_y = lighting.sun[:2].tolist()
    for p, q, front in ((a, back, False), (a, end, True)):
        across, along = q[1] - p[1], p[0] - q[0]
        x, y = (p[0] + q[0]) / 2, (p[1] + q[1]) / 2
        facing = (sun_x * across + sun_y * along) / max(math.hypot(across, along), 1e-6)
        facing = -facing if across * x + along * y > 0 else facing
        ambient, directed = lighting.at(x, max(y, 1.0))
        canvas.enter(BUILDING, (ambient + directed * max(facing, 0.0)) * b.tint, lighting.haze, clear)
        bays = min(max(round((b.s1 - b.s0 if front else b.depth_m) / BAY_M), 1), BAYS)
        share = (bays / BAYS, b.floors / FLOORS)
        _hang(canvas, facade(b.style, b.variant, front), share, lighting.look.glow**2, (p, q), b.height_m)
    canvas.enter(BUILDING, lighting.flat(a[0], max(a[1], 1.0)), lighting.haze, clear)
    _roof(canvas, b, base)


def _roof(canvas: Canvas, b: Building, corners: F64) -> None:
    a, e, e2, a2 = corners
    h = b.height_m
    if not b.gable:
        strips = [np.array([[*a, h - 0.1], [*e, h - 0.1], [*e, h + lift], [*a, h + lift]]) for lift in (0.35, 0.12)]
        canvas.polygons3(strips, [canvas.tone(b.wall, 0.72), canvas.tone(b.wall, 0.55)])
        return
    ridge = h + min(b.depth_m * 0.32, 3.2)
    ma, me = (a + a2) / 2, (e + e2) / 2
    bright = np.random.default_rng(b.seed).uniform(0.8, 1.15)
    over = (a - a2) / max(math.hypot(*(a - a2)), 1e-6) * 0.4
    gable = np.array([[*a, h], [*a2, h], [*ma, ridge]])
    slope = np.array([[*(a + over), h - 0.2], [*(e + over), h - 0.2], [*me, ridge], [*ma, ridge]])
    canvas.polygons3([gable, slope], [canvas.tone(b.wall, 0.85), canvas.tone(TILES[b.seed % 3], bright)])


def _hang(
    canvas: Canvas,
    wall: Facade,
    share: tuple[float, float],
    glow: float,
    ends: tuple[list[float], list[float]],
    height: float,
) -> None:
    """A share (across, up) of a façade on the upright wall between two ego points, cut where it passes the camera."""
    p, q = ends
    if max(p[1], q[1]) < NEAR_WALL_M:
        return
    u0, u1 = 0.0, 1.0
    if min(p[1], q[1]) < NEAR_WALL_M:
        cut = (NEAR_WALL_M - p[1]) / (q[1] - p[1])
        u0, u1 = (cut, 1.0) if p[1] < q[1] else (0.0, cut)
    a, e = ([p[i] + (q[i] - p[i]) * u for i in (0, 1)] for u in (u0, u1))
    uv, _ = canvas.camera.project(np.array([[*a, height], [*e, height], [*e, 0.0], [*a, 0.0]]))
    h, w = canvas.owner.shape
    us, vs = uv[:, 0].tolist(), uv[:, 1].tolist()
    x0, y0 = max(math.floor(min(us)), 0), max(math.floor(min(vs)), 0)
    x1, y1 = min(math.ceil(max(us)) + 1, w), min(math.ceil(max(vs)) + 1, h)
    if x1 <= x0 or y1 <= y0:
        return
    picture = wall.near_size(abs(us[1] - us[0]) / (u1 - u0) / share[0], (max(vs) - min(vs)) / share[1])
    th, tw = picture.shape[:2]
    left, right, upper = u0 * share[0] * tw, u1 * share[0] * tw, (1 - share[1]) * th
    source = np.array([[left, upper], [right, upper], [right, th], [left, th]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, (uv - (x0, y0)).astype(np.float32))
    size = (x1 - x0, y1 - y0)
    mask = np.zeros((size[1], size[0]), np.uint8)
    corners = fixed(uv)
    cv2.fillConvexPoly(mask, corners - np.array([x0 << SHIFT, y0 << SHIFT], np.int32), 255, cv2.LINE_8, SHIFT)
    warped = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lit = canvas.lit_picture(cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR))
    if glow > 0.1:
        lamp = cv2.extractChannel(warped, 3)
        warm = [k * glow * canvas.clear for k in (0.42, 0.72, 0.9)]
        cv2.add(lit, cv2.merge([cv2.convertScaleAbs(lamp, alpha=k) for k in warm]), lit)
    cv2.copyTo(lit, mask, canvas.image[y0:y1, x0:x1])
    cv2.fillConvexPoly(canvas.owner, corners, BUILDING, cv2.LINE_8, SHIFT)
