"""Traffic lights and signs: the plate that is labelled, and the post that is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.canvas import POLE, Canvas
from edgetl.roadworld.light import Lighting
from edgetl.roadworld.scene import Bgr, Sign, TrafficLight
from edgetl.roadworld.street import paint_post

F64 = NDArray[np.float64]

SIGN_KINDS = ("limit", "stop", "yield", "warning", "priority", "no entry", "arrow", "parking", "board")

_LAMPS: dict[str, tuple[float, Bgr]] = {
    "red": (0.32, (40, 42, 255)),
    "amber": (0.0, (30, 175, 255)),
    "green": (-0.32, (150, 245, 70)),
}


def paint_light_post(canvas: Canvas, light: TrafficLight, place: F64, lighting: Lighting) -> None:
    """The post (and arm) that carries a signal; place is the ground below the head."""
    gain = lighting.flat(float(place[0]), float(place[1]))
    canvas.enter(POLE, gain, lighting.haze, lighting.clear(float(place[1])))
    reach = light.post_d - light.d
    behind = place + (0.0, 0.12, 0.0)
    if abs(reach) > 0.3:
        paint_post(canvas, behind, [(reach, 0.0), (reach, light.z_m + 0.2), (0.0, light.z_m + 0.35)], 0.09)
    else:
        paint_post(canvas, behind, [(0.0, 0.0), (0.0, light.z_m)], 0.07)


def _plane(place: F64, z: float, yaw: float, across: F64, up: F64) -> F64:
    """Points of an upright plane whose centre is z above `place`, turned by yaw from facing the camera."""
    return np.stack([place[0] + across * np.cos(yaw), place[1] + across * np.sin(yaw), place[2] + z + up], axis=1)


def _rectangle(
    canvas: Canvas, place: F64, z: float, yaw: float, half_w: float, half_h: float, tone: tuple[float, ...]
) -> None:
    across = np.array([-half_w, half_w, half_w, -half_w])
    up = np.array([-half_h, -half_h, half_h, half_h])
    canvas.polygon3(_plane(place, z, yaw, across, up), tone)


def paint_light(canvas: Canvas, light: TrafficLight, place: F64, yaw: float, lighting: Lighting) -> None:
    """The signal head. The canvas must have been entered with the head's own slot."""
    k = light.height_m / 1.1
    for half_w, half_h, tone in ((0.3, 0.6, (70, 74, 74)), (0.285, 0.58, (26, 27, 28)), (0.19, 0.52, (40, 42, 42))):
        _rectangle(canvas, place, light.z_m, yaw, half_w * k, half_h * k, canvas.tone(tone))
    for name, (up, colour) in _LAMPS.items():
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = _plane(place, light.z_m + up * k, yaw, 0.145 * k * np.cos(turn), 0.145 * k * np.sin(turn))
        lit = name == light.lit
        dim = (colour[0] * 0.13 + 14, colour[1] * 0.13 + 14, colour[2] * 0.13 + 14)
        canvas.polygon3(ring, canvas.own_light(colour) if lit else canvas.tone(dim), own=False)
        if lit:
            centre, depth = canvas.camera.project(np.array([place + (0, 0, light.z_m + up * k)]))
            scale = canvas.camera.pixels_per_metre(float(depth[0]))
            canvas.disc(
                centre[0],
                0.07 * k * scale,
                canvas.own_light((min(colour[0] + 110, 255), min(colour[1] + 110, 255), 255)),
                own=False,
            )
            canvas.glow(centre[0], max(0.55 * scale, 3.0), colour, 0.25 + 0.5 * lighting.look.glow)


def paint_sign_post(canvas: Canvas, sign: Sign, place: F64, lighting: Lighting) -> None:
    """The post below a sign."""
    gain = lighting.flat(float(place[0]), float(place[1]))
    canvas.enter(POLE, gain, lighting.haze, lighting.clear(float(place[1])))
    paint_post(canvas, place + (0.0, 0.06, 0.0), [(0.0, 0.0), (0.0, sign.z_m + sign.size_m * 0.4)], 0.04)


def _outline(kind: str) -> F64:
    """The plate's outline (N, 2) in a circle of radius 1."""
    corners = {"stop": (8, np.pi / 8), "yield": (3, -np.pi / 2), "warning": (3, np.pi / 2), "priority": (4, 0.0)}
    if kind in ("parking", "board"):
        wide = 1.5 if kind == "board" else 0.8
        return np.array([[-wide, -0.8], [wide, -0.8], [wide, 0.8], [-wide, 0.8]])
    count, start = corners.get(kind, (18, 0.0))
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + start
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


_RED: Bgr = (38, 32, 196)
_WHITE: Bgr = (232, 234, 234)
_BLACK: Bgr = (28, 28, 28)
_BLUE: Bgr = (172, 84, 20)
_YELLOW: Bgr = (36, 196, 240)
Rings = tuple[tuple[float, Bgr], ...]
Bars = tuple[tuple[float, float, float, float, Bgr], ...]


def _letters(tone: Bgr, high: float, spans: tuple[tuple[float, float], ...]) -> Bars:
    return tuple((x, 0.0, half, high, tone) for x, half in spans)


# Per kind: rings of (scale, colour) from outside in, then bars of (x, y, half width, half height, colour).
_FACE: dict[str, tuple[Rings, Bars]] = {
    "limit": (
        ((1.0, _RED), (0.76, _WHITE)),
        (*_letters(_BLACK, 0.4, ((-0.26, 0.1), (0.26, 0.22))), (0.26, 0, 0.08, 0.24, _WHITE)),
    ),
    "stop": (
        ((1.0, _WHITE), (0.92, _RED)),
        _letters(_WHITE, 0.24, ((-0.45, 0.1), (-0.15, 0.06), (0.15, 0.12), (0.47, 0.1))),
    ),
    "yield": (((1.0, _RED), (0.62, _WHITE)), ()),
    "warning": (
        ((1.0, _RED), (0.68, _WHITE)),
        ((0, 0.06, 0.07, 0.24, _BLACK), (0, -0.28, 0.07, 0.07, _BLACK)),
    ),
    "priority": (((1.0, _WHITE), (0.9, _BLACK), (0.84, _WHITE), (0.62, _YELLOW)), ()),
    "no entry": (((1.0, _WHITE), (0.95, _RED)), ((0, 0, 0.66, 0.17, _WHITE),)),
    "arrow": (
        ((1.0, _WHITE), (0.94, _BLUE)),
        ((0, -0.1, 0.09, 0.5, _WHITE), (0, 0.42, 0.3, 0.09, _WHITE)),
    ),
    "parking": (
        ((1.0, _WHITE), (0.92, _BLUE)),
        ((-0.25, 0, 0.1, 0.55, _WHITE), (0.1, 0.32, 0.3, 0.23, _WHITE), (0.08, 0.32, 0.16, 0.1, _BLUE)),
    ),
    "board": (
        ((1.0, _WHITE), (0.95, _BLUE)),
        ((-0.5, 0.35, 0.7, 0.12, _WHITE), (-0.2, -0.25, 0.9, 0.12, _WHITE), (1.1, 0.1, 0.12, 0.4, _WHITE)),
    ),
}


def paint_sign(canvas: Canvas, sign: Sign, place: F64, yaw: float) -> None:
    """The plate. The canvas must have been entered with the sign's own slot."""
    outline = _outline(sign.kind)
    rings, bars = _FACE[sign.kind]
    r = sign.size_m / 2
    shapes = [outline * scale for scale, _ in rings]
    tones = [canvas.tone(tone) for _, tone in rings]
    if canvas.camera.pixels_per_metre(float(place[1])) * r >= 5:
        shapes += [np.array([[x - w, y - h], [x + w, y - h], [x + w, y + h], [x - w, y + h]]) for x, y, w, h, _ in bars]
        tones += [canvas.tone(bar[4]) for bar in bars]
    canvas.polygons3([_plane(place, sign.z_m, yaw, p[:, 0] * r, p[:, 1] * r) for p in shapes], tones, owning=1)
