"""What lies flat on the ground: crosswalks, shadows, and the mirror image on a wet road."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import NEAR_M, Camera, Pose, clip_near
from edgetl.roadworld.canvas import SHIFT, fixed
from edgetl.roadworld.light import Lighting
from edgetl.roadworld.noise import U8
from edgetl.roadworld.scene import Scene
from edgetl.roadworld.strip import CROSS_HALF_M, MARKING

F64 = NDArray[np.float64]
_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE, _ROUGH = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1), 5 * _TURN
_TRUNK = np.array([0.12, 0.0])
CONTACT = 96
"""How dark (of 255) it is under a vehicle."""


def ground_pixels(camera: Camera, xy: F64) -> F64 | None:
    """A ground polygon (N, 2) in the ego frame as pixels, cut at the near plane; None when it is behind."""
    cam = camera.ground_to_camera(xy)
    if cam[:, 2].max() < NEAR_M:
        return None
    cam = clip_near(cam)
    return camera.to_pixels(cam) if len(cam) >= 3 else None


def paint_crosswalks(scene: Scene, pose: Pose, ego_s: float, colour: U8, kind: U8, top: int) -> None:
    """Zebra bars and a stop line before every crossing; colour and kind start at image row `top`."""
    road = scene.road
    for s_x in road.crossings:
        if not -4 < s_x - ego_s < 90:
            continue
        s1 = s_x - CROSS_HALF_M - 2.6
        bars = [(s1 - 3.2, s1, d, d + 0.5) for d in np.arange(road.kerb_left_m + 0.5, road.kerb_right_m - 0.8, 1.1)]
        bars += [(s1 - 5.0, s1 - 4.6, 0.2, road.right_m - 0.2)]
        far = s_x + CROSS_HALF_M + 2.6
        bars += [(far, far + 3.2, d, d + 0.5) for d in np.arange(road.kerb_left_m + 0.5, road.kerb_right_m - 0.8, 1.1)]
        table = np.array(bars)
        s = table[:, [0, 1, 1, 0]].ravel()
        d = table[:, [2, 2, 3, 3]].ravel()
        x, y = pose.to_ego(*scene.path.to_world(s, d))
        points = np.stack([x, y, np.zeros_like(x)], axis=1)
        uv, depth = scene.camera.project(points)
        quads, whole = uv.reshape(-1, 4, 2), depth.reshape(-1, 4).min(axis=1) > NEAR_M
        wet = 1 - 0.35 * scene.look.wet
        for k in np.flatnonzero(whole).tolist():
            corners = fixed(quads[k] - (0, top))
            cv2.fillConvexPoly(colour, corners, (204 * wet, 208 * wet, 210 * wet), cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(kind, corners, MARKING, cv2.LINE_8, SHIFT)


def footprint(place: F64, yaw: float, length: float, width: float) -> F64:
    """The corners (4, 2) of a body on the ground."""
    f = np.array([np.sin(yaw), np.cos(yaw)]) * length / 2
    r = np.array([np.cos(yaw), -np.sin(yaw)]) * width / 2
    return np.array([place[:2] + f + r, place[:2] + f - r, place[:2] - f - r, place[:2] - f + r])


class Shadows:
    """Collects darkness on the ground: 255 where there is none."""

    def __init__(self, camera: Camera, lighting: Lighting, top: int) -> None:
        h, w = camera.size_hw
        self.mask: U8 = np.full((h - top, w), 255, np.uint8)
        self._camera, self._top = camera, top
        self._tone = int(255 * lighting.look.shadow)
        sun = lighting.sun
        self._cast = sun[:2] / max(float(sun[2]), 0.2) if lighting.look.shadow < 0.97 else None

    def _fill(self, xy: F64, tone: int) -> None:
        uv = ground_pixels(self._camera, xy)
        if uv is not None:
            cv2.fillPoly(self.mask, [fixed(uv - (0, self._top))], tone, cv2.LINE_AA, SHIFT)

    def prism(self, base: F64, height: float) -> None:
        """The sun's shadow of an upright prism with ground corners base (N, 2)."""
        if self._cast is None:
            return
        both = np.concatenate([base, base - self._cast * height]).astype(np.float32)
        self._fill(cv2.convexHull(both)[:, 0].astype(np.float64), self._tone)

    def crown(self, place: F64, height: float) -> None:
        """The sun's shadow of a tree's crown and trunk."""
        if self._cast is None:
            return
        outline = _CIRCLE * (height * (1 + 0.18 * np.sin(_ROUGH + place[0])))[:, None]
        foot = place[:2]
        parts = [
            foot + (self._cast * (-height * lift) + shift * height) + size * outline
            for lift, size, shift in ((0.55, 0.3, 0.1), (0.7, 0.26, -0.12), (0.8, 0.2, 0.05))
        ]
        top = foot - self._cast * (height * 0.5)
        parts.append(np.array([foot - _TRUNK, foot + _TRUNK, top + _TRUNK, top - _TRUNK]))
        cam = self._camera.ground_to_camera(np.concatenate(parts))
        if cam[:, 2].min() < NEAR_M:
            for part in parts:
                self._fill(part, self._tone)
            return
        points = fixed(self._camera.to_pixels(cam) - (0, self._top))
        for k in range(0, len(points), len(_CIRCLE)):
            cv2.fillPoly(self.mask, [points[k : k + len(_CIRCLE)]], self._tone, cv2.LINE_AA, SHIFT)

    def contact(self, base: F64) -> None:
        """The dark right below a body."""
        self._fill(base, CONTACT)

    def finish(self) -> U8:
        """The mask with soft edges."""
        return np.asarray(cv2.blur(self.mask, (5, 3)), np.uint8)


class Mirror:
    """What a wet road gives back: silhouettes upside down, drawn out towards the viewer."""

    def __init__(self, camera: Camera, top: int) -> None:
        h, w = camera.size_hw
        self._camera, self._top = camera, top
        self._picture: U8 = np.zeros((h - top, w, 3), np.uint8)
        self._cover: U8 = np.zeros((h - top, w), np.uint8)

    def silhouette(self, base: F64, height: float, colour: F64) -> None:
        """A prism's mirror image in one colour (3,)."""
        if base[:, 1].min() < 2.0:
            return
        low = np.concatenate([base, np.zeros((len(base), 1))], axis=1)
        uv, _ = self._camera.project(np.concatenate([low, low - (0, 0, height)]))
        hull = cv2.convexHull(uv.astype(np.float32))[:, 0].astype(np.float64)
        points = fixed(hull - (0, self._top))
        cv2.fillConvexPoly(self._picture, points, colour.tolist(), cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(self._cover, points, 150, cv2.LINE_AA, SHIFT)

    def streak(self, place: F64, height: float, width: float, colour: F64) -> None:
        """A lamp's streak: place is the ground below it."""
        if place[1] < 2.5:
            return
        uv, depth = self._camera.project(np.array([place + (0, 0, -0.2 * height), place + (0, 0, -1.6 * height)]))
        r = max(width * self._camera.focal_px / float(depth[0]), 0.7)
        box = np.array([uv[0] - (r, 0), uv[0] + (r, 0), uv[1] + (r, 0), uv[1] - (r, 0)])
        cv2.fillConvexPoly(self._picture, fixed(box - (0, self._top)), colour.tolist(), cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(self._cover, fixed(box - (0, self._top)), 230, cv2.LINE_AA, SHIFT)

    def lay(self, ground: U8, hard: U8, sky_bgr: F64, wet: float) -> None:
        """Mix the mirror image and the sky's shine into the lit ground (R, W, 3); hard (R, W) is 0..255.

        What is added, and what it leaves of the ground, is worked out at half the size: reflections are soft.
        """
        rows, columns = hard.shape
        size = (max(columns // 2, 1), max(rows // 2, 1))
        picture = cv2.blur(cv2.resize(self._picture, size, interpolation=cv2.INTER_AREA), (3, 13))
        cover = cv2.blur(cv2.resize(self._cover, size, interpolation=cv2.INTER_AREA), (3, 13))
        weight = cv2.resize(hard, size, interpolation=cv2.INTER_AREA).astype(np.float32) * np.float32(1 / 255)
        mirrored = cover.astype(np.float32) * weight
        mirrored *= np.float32(0.5 * wet / 255)
        sheen = np.linspace(0.42, 0.1, size[1], dtype=np.float32)[:, None] * np.float32(wet) * weight
        left = 1 - np.float32(0.6) * mirrored
        shine = cv2.multiply(picture, cv2.merge([mirrored] * 3), dtype=cv2.CV_8U)
        sky = sheen * left
        cv2.add(shine, cv2.merge([cv2.convertScaleAbs(sky, alpha=k) for k in sky_bgr.tolist()]), shine)
        kept = cv2.resize(cv2.convertScaleAbs((1 - sheen) * left, alpha=255), (columns, rows))
        cv2.multiply(ground, cv2.merge([kept] * 3), ground, scale=1 / 255)
        cv2.add(ground, cv2.resize(shine, (columns, rows)), ground)
