"""Shaded bodies made of flat faces: building them, and painting them on a canvas."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import NEAR_M, Camera, clip_near
from edgetl.roadworld.canvas import Canvas, fixed
from edgetl.roadworld.scene import Bgr

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Point = tuple[float, float, float]
Quad = tuple[Point, Point, Point, Point]

PAINT, SECOND, GLASS, SKYGLASS, BLACK, TYRE, HUB, TAIL, HEAD, PLATE, CHROME, WHITE, AMBER, INDICATOR = range(14)

_BASE: dict[int, Bgr] = {
    GLASS: (46, 40, 34),
    SKYGLASS: (128, 112, 94),
    BLACK: (30, 29, 28),
    TYRE: (34, 33, 32),
    HUB: (138, 136, 134),
    TAIL: (38, 30, 165),
    HEAD: (214, 216, 214),
    PLATE: (208, 214, 214),
    CHROME: (122, 120, 118),
    WHITE: (216, 218, 220),
    AMBER: (60, 170, 240),
    INDICATOR: (40, 120, 235),
}


def palette(paint: Bgr, second: Bgr) -> F64:
    """Surface colours (14, 3) in BGR by colour index."""
    table = np.zeros((14, 3))
    for index, colour in _BASE.items():
        table[index] = colour
    table[PAINT], table[SECOND] = paint, second
    return table


@dataclass(frozen=True)
class Mesh:
    """Faces in painting order, in body axes: forward (l), right (r), up (z), metres.

    points: all corners (N, 3); face f has corners starts[f]:starts[f + 1]. group: faces of a group stay
    together, groups are painted far to near. level: 0 always, 1 and 2 only when large in the picture.
    shine: 1 where the colour is a lamp.
    """

    points: F64
    starts: I64
    normals: F64
    centres: F64
    colours: I64
    gains: F64
    groups: I64
    levels: I64
    group_centres: F64


@dataclass
class Builder:
    """Collects faces; `centre` is the inside of the current group, which tells outward from inward."""

    centre: Point = (0.0, 0.0, 0.0)
    group: int = 0
    _faces: list[tuple[F64, int, float, int, int]] = field(default_factory=list)
    _normals: list[F64] = field(default_factory=list)
    _centres: list[Point] = field(default_factory=list)

    def begin(self, centre: Point) -> None:
        """Start a new group around this inside point."""
        self.group = len(self._centres)
        self.centre = centre
        self._centres.append(centre)

    def face(self, corners: tuple[Point, ...] | F64, colour: int, *, gain: float = 1.0, level: int = 0) -> None:
        """A flat face; its corners may run either way round."""
        p = np.asarray(corners, np.float64)
        a, b = p[1] - p[0], p[-1] - p[0]
        normal = np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
        normal /= max(float(np.sqrt(normal @ normal)), 1e-9)
        if float(normal @ (p.mean(axis=0) - self.centre)) < 0:
            normal = -normal
        self._faces.append((p, colour, gain, self.group, level))
        self._normals.append(normal)

    def patch(
        self, quad: Quad, box: tuple[float, float, float, float], colour: int, *, gain: float = 1.0, level: int = 1
    ) -> None:
        """A part of a quad: box is u0, u1, v0, v1 in 0..1; the quad runs bottom-left, bottom-right, up, back."""
        u0, u1, v0, v1 = box
        corners = np.asarray(quad, np.float64)
        uv = np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])
        weights = np.stack(
            [
                (1 - uv[:, 0]) * (1 - uv[:, 1]),
                uv[:, 0] * (1 - uv[:, 1]),
                uv[:, 0] * uv[:, 1],
                (1 - uv[:, 0]) * uv[:, 1],
            ],
            axis=1,
        )
        self.face(weights @ corners, colour, gain=gain, level=level)

    def wheel(self, l: float, r: float, radius: float, side: int) -> None:  # noqa: E741
        """A wheel on the side face (side +1 right, -1 left), its arch, tyre and hub."""
        for k, (size, colour, level) in enumerate(((1.18, BLACK, 1), (1.0, TYRE, 0), (0.62, HUB, 1), (0.2, BLACK, 2))):
            turn = np.linspace(0, 2 * np.pi, 12 if size > 0.5 else 6, endpoint=False)
            ring = np.stack(
                [
                    l + size * radius * np.cos(turn),
                    np.full_like(turn, r + side * 0.004 * k),
                    np.maximum(radius + size * radius * np.sin(turn), 0.0),
                ],
                axis=1,
            )
            self.face(ring, colour, level=level)

    def build(self) -> Mesh:
        """The finished mesh."""
        sizes = [len(f[0]) for f in self._faces]
        return Mesh(
            points=np.concatenate([f[0] for f in self._faces]),
            starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            normals=np.array(self._normals),
            centres=np.array([f[0].mean(axis=0) for f in self._faces]),
            colours=np.array([f[1] for f in self._faces], np.int64),
            gains=np.array([f[2] for f in self._faces]),
            groups=np.array([f[3] for f in self._faces], np.int64),
            levels=np.array([f[4] for f in self._faces], np.int64),
            group_centres=np.array(self._centres),
        )


def turned(points: F64, yaw: float) -> F64:
    """Body axes (l, r, z) turned into ego axes (right, forward, up) by the heading relative to the ego."""
    c, s = np.cos(yaw), np.sin(yaw)
    axes = np.array([[s, c, 0.0], [c, -s, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(points @ axes)


def paint_mesh(
    canvas: Canvas,
    mesh: Mesh,
    place: F64,
    yaw: float,
    colours: F64,
    emitted: F64,
    sun: F64,
    light: tuple[F64, F64],
) -> None:
    """Paint a mesh at `place` (ego x, y, z). light is (ambient, sunlight), each (3,), on top of the canvas' gain.

    colours and emitted are (14, 3) by colour index.
    """
    camera: Camera = canvas.camera
    points = turned(mesh.points, yaw) + place
    cam = camera.to_camera(points)
    near = float(cam[:, 2].min()) < NEAR_M
    if float(cam[:, 2].max()) < NEAR_M:
        return
    uv = camera.to_pixels(cam)
    height_px = camera.pixels_per_metre(max(float(np.hypot(place[0], place[1])), 1.0)) * 1.6
    normals = turned(mesh.normals, yaw)
    view = turned(mesh.centres, yaw) + place - (0.0, 0.0, camera.height_m)
    seen = (normals * view).sum(axis=1) < 0
    seen &= mesh.levels <= (0 if height_px < 13 else 1 if height_px < 34 else 2)
    shade = light[0] * (0.72 + 0.28 * normals[:, 2:]) + light[1] * np.maximum(normals @ sun, 0.0)[:, None]
    tones = canvas.tones(
        colours[mesh.colours] * shade * mesh.gains[:, None], emitted[mesh.colours] * mesh.gains[:, None]
    )
    order = np.flatnonzero(seen)
    if len(mesh.group_centres) > 1:
        far = turned(mesh.group_centres, yaw) + place
        rank = -np.hypot(far[:, 0], far[:, 1])
        order = order[np.argsort(rank[mesh.groups[order]], kind="stable")]
    if not near:
        canvas.grow(uv)
    whole = fixed(uv)
    starts = mesh.starts.tolist()
    for f in order.tolist():
        a, b = starts[f], starts[f + 1]
        if near and cam[a:b, 2].min() < NEAR_M:
            cut = clip_near(cam[a:b])
            if len(cut) >= 3:
                canvas.polygon(camera.to_pixels(cut), tuple(tones[f]))
            continue
        canvas.fill(whole[a:b], tones[f])
        if near:
            canvas.grow(uv[a:b])
