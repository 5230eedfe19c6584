"""Sky, clouds, stars and the skyline: one wide picture per scene, of which every frame shows a window."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.noise import F32, U8, fbm
from edgetl.roadworld.scene import Scene

F64 = NDArray[np.float64]
WIDE = 2.6
"""Width of the sky picture in image widths."""


class Sky:
    """The sky of a scene down to just below the horizon: WIDE widths of it, or the one that a standing camera sees."""

    def __init__(self, scene: Scene) -> None:
        h, self._width = scene.camera.size_hw
        self._focal_px = scene.camera.focal_px
        self._wide = int(self._width * WIDE)
        self._first, end = 0, self._wide
        if not scene.ego_mps:
            seen = self._column(scene.ego_at(0.0)[1].heading_rad)
            self._first, end = seen // 2 * 2, seen + self._width
        rows = int(np.clip(scene.camera.horizon_px + 3, 8, h))
        self._picture = _paint(scene, rows, self._wide, (self._first, end))

    def _column(self, heading_rad: float) -> int:
        x = int((self._wide - self._width) / 2 + heading_rad * self._focal_px)
        return min(max(x, 0), self._wide - self._width)

    def window(self, heading_rad: float) -> U8:
        """What a camera with this heading sees, (rows, W, 3) uint8; a standing camera has only the one heading."""
        x = self._column(heading_rad) - self._first
        return self._picture[:, x : x + self._width]


def _paint(scene: Scene, rows: int, wide: int, columns: tuple[int, int]) -> U8:
    """Columns (first, end) of the sky picture (rows, wide); the first is even."""
    half_h, half_w = (rows + 1) // 2, (wide + 1) // 2
    x = np.arange(columns[0] // 2, (columns[1] + 1) // 2)
    sky = _gradient(scene, half_h, len(x))
    _clouds(scene, sky, (x - half_w / 2).astype(np.float32))
    if scene.domain == "night":
        rng = np.random.default_rng(scene.seed + 5)
        n = 60 if scene.look.clouds < 0.4 else 12
        spot = rng.integers(0, [max(half_h * 2 // 3, 1), half_w], (n, 2))
        bright = rng.uniform(20, 110, (n, 1)).astype(np.float32)
        seen = (spot[:, 1] >= x[0]) & (spot[:, 1] <= x[-1])
        sky[spot[seen, 0], spot[seen, 1] - x[0]] += bright[seen]
    _sun_disc(scene, sky, (x - half_w / 2).astype(np.float32), 0.1 * half_w)
    size = (2 * len(x), rows)
    full: U8 = cv2.resize(np.clip(sky, 0, 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    _skyline(scene, full, wide, columns[0])
    return full


def _gradient(scene: Scene, h: int, w: int) -> F32:
    look = scene.look
    k = np.linspace(1.0, 0.0, h, dtype=np.float32)[:, None, None] ** 0.8
    top, low = np.array(look.sky_top, np.float32), np.array(look.sky_low, np.float32)
    column: F32 = top * k + low * (1 - k)
    return np.repeat(column, w, axis=1)


def _clouds(scene: Scene, sky: F32, x: F32) -> None:
    """Clouds on the sky; x (W,) is where its columns lie, from the middle."""
    look = scene.look
    if look.clouds <= 0.02:
        return
    h, w = sky.shape[:2]
    tile = fbm(40 + look.cloud_seed % 4, 256, 512)
    v = (np.arange(h, dtype=np.float32) + np.float32(0.5)) / np.float32(h)
    depth = 1 / (np.float32(1.12) - v)
    map_x = x[None] * (np.float32(0.192) + np.float32(0.156) * depth[:, None])
    map_x += np.float32(look.cloud_seed * 37 % 512)
    map_y = np.repeat((depth * 34 + np.float32(look.cloud_seed * 11 % 256))[:, None], w, axis=1)
    value: F32 = cv2.remap(tile, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    value -= np.float32(0.42 - 0.62 * look.clouds)
    cover = np.clip(value * np.float32(2.5), 0, 1)
    strength = np.float32(min(0.35 + look.clouds, 0.92))
    cover *= cover * (3 - 2 * cover) * ((0.25 + 0.75 * np.clip((np.float32(1.04) - v) * 3, 0, 1)) * strength)[:, None]
    tone = np.clip(value - np.float32(0.2), 0, 1)
    tone = (1 - np.maximum(np.float32(0.5) * tone - np.float32(0.04), -0.1)) * np.float32(max(look.sky_low))
    for k in range(3):
        sky[..., k] += (tone - sky[..., k]) * cover


def _sun_disc(scene: Scene, sky: F32, columns: F32, size: float) -> None:
    """The sun's glow; columns (W,) is where the sky's columns lie from the middle, size the glow's."""
    look = scene.look
    x, y, z = look.sun
    if max(look.sunlight) < 0.25 or y < 0.2:
        return
    h, w = sky.shape[:2]
    u = np.arctan2(x, y) * scene.camera.focal_px / 2
    v = h - np.arctan2(z, y) * scene.camera.focal_px / 2
    step = 4
    dx = columns[None, ::step] - np.float32(u)
    dy = np.arange(0, h, step, dtype=np.float32)[:, None] - np.float32(v)
    r = np.sqrt(dx * dx + dy * dy) / np.float32(size)
    halo = cv2.resize(np.exp(-r * 3) * 110 + np.exp(-((r * 12) ** 2)) * 160, (w, h))
    sky += cv2.merge([halo * np.float32(0.75), halo * np.float32(0.93), halo])


def _skyline(scene: Scene, sky: U8, w: int, first: int) -> None:
    """Hills, woods or far roofs along the horizon, in the colour of the air; sky shows w columns from `first` on."""
    h = sky.shape[0]
    look = scene.look
    rng = np.random.default_rng(scene.seed + 9)
    f = scene.camera.focal_px
    base = scene.camera.horizon_px
    clear = float(np.exp(-look.haze_per_m * 260))
    light = np.array(look.ambient) + 0.5 * np.array(look.sunlight)
    x = np.arange(0, w + 4, 4)
    for layer, (far, rough) in enumerate(((0.045, 90.0), (0.026, 28.0))):
        height = f * far * rng.uniform(0.5, 1.3)
        wave = sum(np.sin(x / (rough * w / 1664) / k + rng.uniform(0, 6.3)) * k for k in (0.35, 0.7, 1.6, 3.1))
        top = base - height * (1.0 + 0.22 * np.asarray(wave))
        if scene.setting == "urban" and layer == 1:
            top = base - height * np.repeat(rng.uniform(0.4, 2.2, len(x) // 6 + 1), 6)[: len(x)]
        ground = np.array([92.0, 96.0, 84.0]) if scene.setting == "urban" else np.array([58.0, 86.0, 70.0])
        t = clear * (0.35 + 0.4 * layer)
        tone = ground * light * t + np.array(look.haze_bgr) * (1 - t)
        outline = np.concatenate([np.stack([x, top], 1), [[w + 4, h + 4], [0, h + 4]]]) - (first, 0)
        cv2.fillPoly(sky, [(outline * 16).astype(np.int32)], tone.tolist(), cv2.LINE_AA, 4)
