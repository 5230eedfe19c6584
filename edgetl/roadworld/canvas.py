"""Where things are painted: the picture, and beside it the buffer that says whose pixel it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import NEAR_M, Camera, clip_near
from edgetl.roadworld.noise import F32, U8
from edgetl.roadworld.scene import Bgr

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

SHIFT = 4
ONE = 1 << SHIFT
LIMIT_PX = 12000.0

GROUND, BUILDING, PLANT, POLE = 0, 252, 253, 254
MAX_OBJECTS = 250
"""Owners in the buffer: 0 ground or sky, 1..250 labelled objects of this frame, above that scenery."""


def fixed(uv: F64) -> I32:
    """Pixels (N, 2) as cv2 fixed-point coordinates, whose integers are pixel centres."""
    return np.rint(np.minimum(np.maximum(uv, -LIMIT_PX), LIMIT_PX) * ONE - ONE / 2).astype(np.int32)


@lru_cache(maxsize=1)
def _halo() -> F32:
    y, x = np.mgrid[-1:1:65j, -1:1:65j]
    r = np.sqrt(x * x + y * y)
    halo = (np.exp(-((r * 3.2) ** 2)) + 0.25 * np.exp(-((r * 1.9) ** 2))) * np.clip(1.05 - r, 0, 1)
    return np.asarray(halo / halo.max(), np.float32)


class Canvas:
    """The picture (H, W, 3) uint8 BGR and the owner buffer (H, W) uint8, painted far to near.

    `enter` sets the owner, the light and the air of what is painted next.
    """

    def __init__(self, image: U8, camera: Camera) -> None:
        self.image = image
        self.camera = camera
        self.owner: U8 = np.zeros(image.shape[:2], np.uint8)
        self._slot = GROUND
        self._gain: F64 = np.ones(3)
        self._veil: F64 = np.zeros(3)
        self._clear = 1.0
        self._box: list[float] = [np.inf, np.inf, -np.inf, -np.inf]

    def enter(self, slot: int, gain: F64, veil: F64, clear: float) -> None:
        """Begin one object: owner, light multiplier (3,), haze colour (3,), and what the air lets through."""
        self._slot = slot
        self._gain = gain * clear
        self._veil = veil * (1.0 - clear)
        self._clear = clear
        self._box = [np.inf, np.inf, -np.inf, -np.inf]

    @property
    def clear(self) -> float:
        """What the air lets through to the current object, 0..1."""
        return self._clear

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Unclipped pixel bounds x1, y1, x2, y2 of what was painted as owner since `enter`."""
        return self._box[0], self._box[1], self._box[2], self._box[3]

    def tone(self, bgr: Bgr | F64, k: float = 1.0) -> tuple[float, float, float]:
        """A surface colour under this object's light and air."""
        g, v = self._gain, self._veil
        return (
            min(float(bgr[0] * k * g[0] + v[0]), 255.0),
            min(float(bgr[1] * k * g[1] + v[1]), 255.0),
            min(float(bgr[2] * k * g[2] + v[2]), 255.0),
        )

    def tones(self, colours: F64, emitted: F64) -> list[list[float]]:
        """Surface colours (N, 3), plus own light (N, 3) that only the air dims, as lists."""
        lit = colours * self._gain + emitted * self._clear + self._veil
        out: list[list[float]] = np.minimum(lit, 255.0).tolist()
        return out

    def own_light(self, bgr: Bgr) -> tuple[float, float, float]:
        """A colour that shines by itself."""
        c = np.minimum(np.asarray(bgr) * self._clear + self._veil, 255.0)
        return float(c[0]), float(c[1]), float(c[2])

    def fill(
        self, points: I32, colour: tuple[float, ...] | list[float], *, own: bool = True, convex: bool = False
    ) -> None:
        """A polygon in fixed-point coordinates."""
        if len(points) <= 4 or convex:
            cv2.fillConvexPoly(self.image, points, colour, cv2.LINE_AA, SHIFT)
            if own:
                cv2.fillConvexPoly(self.owner, points, self._slot, cv2.LINE_8, SHIFT)
        else:
            cv2.fillPoly(self.image, [points], colour, cv2.LINE_AA, SHIFT)
            if own:
                cv2.fillPoly(self.owner, [points], self._slot, cv2.LINE_8, SHIFT)

    def grow(self, uv: F64) -> None:
        """Count these pixels (N, 2) to the extent."""
        box, low, high = self._box, uv.min(axis=0), uv.max(axis=0)
        box[0], box[1] = min(box[0], float(low[0])), min(box[1], float(low[1]))
        box[2], box[3] = max(box[2], float(high[0])), max(box[3], float(high[1]))

    def polygon(self, uv: F64, colour: tuple[float, ...], *, own: bool = True) -> None:
        """A polygon (N, 2) in pixels."""
        if own:
            self.grow(uv)
        self.fill(fixed(uv), colour, own=own)

    def polygon3(self, points: F64, colour: tuple[float, ...], *, own: bool = True) -> None:
        """A polygon (N, 3) in the ego frame, cut at the near plane."""
        cam = self.camera.to_camera(points)
        if cam[:, 2].min() < NEAR_M:
            cam = clip_near(cam)
        if len(cam) >= 3:
            self.polygon(self.camera.to_pixels(cam), colour, own=own)

    def polygons3(self, shapes: list[F64], colours: Sequence[tuple[float, ...]], *, owning: int | None = None) -> None:
        """Polygons (N, 3) in the ego frame, painted in this order; only the first `owning` take their pixels."""
        owning = len(shapes) if owning is None else owning
        cam = self.camera.to_camera(np.concatenate(shapes))
        if cam[:, 2].min() < NEAR_M:
            for k, (shape, colour) in enumerate(zip(shapes, colours, strict=True)):
                self.polygon3(shape, colour, own=k < owning)
            return
        uv = self.camera.to_pixels(cam)
        if owning:
            self.grow(uv[: sum(len(s) for s in shapes[:owning])])
        points = fixed(uv)
        start = 0
        for k, (shape, colour) in enumerate(zip(shapes, colours, strict=True)):
            self.fill(points[start : start + len(shape)], colour, own=k < owning)
            start += len(shape)

    def capsule(self, a: F64, b: F64, ra: float, rb: float, colour: tuple[float, ...], *, own: bool = True) -> None:
        """A limb from pixel a to pixel b with end radii in pixels."""
        self.polygon(capsule_outline(a, b, ra, rb), colour, own=own)

    def capsules(self, a: F64, b: F64, ra: F64, rb: F64, colours: list[list[float]]) -> None:
        """Limbs a (K, 2) to b (K, 2) with end radii (K,), painted in this order."""
        outlines = capsule_outlines(a, b, ra, rb)
        self.grow(outlines.reshape(-1, 2))
        for points, colour in zip(fixed(outlines), colours, strict=True):
            cv2.fillConvexPoly(self.image, points, colour, cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(self.owner, points, self._slot, cv2.LINE_8, SHIFT)

    def ring(self, uv: F64, thickness_px: int, colour: tuple[float, ...]) -> None:
        """A closed line through pixels (N, 2)."""
        self.grow(uv)
        points = [fixed(uv)]
        cv2.polylines(self.image, points, True, colour, thickness_px, cv2.LINE_AA, SHIFT)
        cv2.polylines(self.owner, points, True, self._slot, thickness_px, cv2.LINE_8, SHIFT)

    def disc(self, centre: F64, radius: float, colour: tuple[float, ...], *, own: bool = True) -> None:
        """A disc of this radius in pixels."""
        self.polygon(centre + radius * _UNIT, colour, own=own)

    def picture(self, bgr: U8, mask: U8, x: int, y: int) -> None:
        """A picture under a mask, both inside the canvas, its corner at pixel (x, y); light and air apply."""
        place = np.s_[y : y + mask.shape[0], x : x + mask.shape[1]]
        cv2.copyTo(self.lit_picture(bgr), mask, self.image[place])
        cv2.copyTo(np.full_like(mask, self._slot), mask, self.owner[place])

    def lit_picture(self, bgr: U8) -> U8:
        """The same picture under this object's light and air."""
        g, v = self._gain, self._veil
        matrix = np.array([[g[0], 0, 0, v[0]], [0, g[1], 0, v[1]], [0, 0, g[2], v[2]]])
        out: U8 = cv2.transform(bgr, matrix)
        return out

    def glow(self, centre: F64, radius: float, bgr: Bgr, strength: float) -> None:
        """Light added around a pixel; owns nothing."""
        n = max(int(radius * 2) | 1, 3)
        x, y = int(centre[0] - n / 2), int(centre[1] - n / 2)
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + n, self.owner.shape[1]), min(y + n, self.owner.shape[0])
        if x0 >= x1 or y0 >= y1 or strength <= 0 or n > 800:
            return
        halo = cv2.resize(_halo(), (n, n), interpolation=cv2.INTER_LINEAR)[y0 - y : y1 - y, x0 - x : x1 - x]
        light = halo[..., None] * (np.asarray(bgr, np.float32) * np.float32(strength * self._clear))
        part = self.image[y0:y1, x0:x1]
        cv2.add(part, np.minimum(light, 255).astype(np.uint8), part)


_HALF_TURN = np.exp(1j * np.linspace(np.pi / 2, 3 * np.pi / 2, 6))
_TURN = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_UNIT = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


def capsule_outlines(a: F64, b: F64, ra: F64, rb: F64) -> F64:
    """The outlines (K, 12, 2) of limbs between pixels a and b, both (K, 2)."""
    start = np.ascontiguousarray(a, np.float64).view(np.complex128)
    end = np.ascontiguousarray(b, np.float64).view(np.complex128)
    along = end - start
    length = np.abs(along)
    along[length < 1e-9] = 1.0
    back = along / np.maximum(length, 1e-9) * _HALF_TURN
    outline = np.empty((len(a), 12), np.complex128)
    outline[:, :6] = start + back * ra[:, None]
    outline[:, 6:] = end - back * rb[:, None]
    return outline.view(np.float64).reshape(len(a), 12, 2)


def capsule_outline(a: F64, b: F64, ra: float, rb: float) -> F64:
    """The outline (12, 2) of a limb between two pixels."""
    outline = capsule_outlines(np.asarray(a)[None], np.asarray(b)[None], np.array([ra]), np.array([rb]))
    return np.asarray(outline[0])
