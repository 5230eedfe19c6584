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


def sky_picture(scene: Scene) -> U8:
    """Sky down to just below the horizon, (rows, WIDE * W, 3) uint8."""
    h, w = scene.camera.size_hw
    rows = int(np.clip(scene.camera.horizon_px + 3, 8, h))
    wide = int(w * WIDE)
    half_h, half_w = (rows + 1) // 2, (wide + 1) // 2
    sky = _gradient(scene, half_h, half_w)
    _clouds(scene, sky)
    if scene.domain == "night":
        rng = np.random.default_rng(scene.seed + 5)
        n = 60 if scene.look.clouds < 0.4 else 12
        spot = rng.integers(0, [max(half_h * 2 // 3, 1), half_w], (n, 2))
        sky[spot[:, 0], spot[:, 1]] += rng.uniform(20, 110, (n, 1)).astype(np.float32)
    _sun_disc(scene, sky)
    full: U8 = cv2.resize(np.clip(sky, 0, 255).astype(np.uint8), (wide, rows), interpolation=cv2.INTER_LINEAR)
    _skyline(scene, full)
    return full


def sky_window(picture: U8, width: int, heading_rad: float, focal_px: float) -> U8:
    """The part of the sky picture that a camera with this heading sees."""
    x = int((picture.shape[1] - width) / 2 + heading_rad * focal_px)
    x = min(max(x, 0), picture.shape[1] - width)
    return picture[:, x : x + width]


def _gradient(scene: Scene, h: int, w: int) -> F32:
    look = scene.look
    k = np.linspace(1.0, 0.0, h, dtype=np.float32)[:, None, None] ** 0.8
    top, low = np.array(look.sky_top, np.float32), np.array(look.sky_low, np.float32)
    column: F32 = top * k + low * (1 - k)
    return np.repeat(column, w, axis=1)


def _clouds(scene: Scene, sky: F32) -> None:
    look = scene.look
    if look.clouds <= 0.02:
        return
    h, w = sky.shape[:2]
    tile = fbm(40 + look.cloud_seed % 4, 256, 512)
    v = (np.arange(h, dtype=np.float32) + 0.5) / h
    depth = 1.0 / (1.12 - v)
    across = (np.arange(w, dtype=np.float32) - w / 2)[None] * (0.16 + 0.13 * depth[:, None])
    map_x = across * np.float32(1.2) + look.cloud_seed * 37 % 512
    map_y = np.repeat((depth * 34 + look.cloud_seed * 11 % 256)[:, None], w, axis=1)
    value = cv2.remap(
        tile, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    edge = 0.42 - 0.62 * look.clouds
    cover = np.clip((value - edge) / 0.4, 0, 1)
    cover = cover * cover * (3 - 2 * cover) * (0.25 + 0.75 * np.clip((1.04 - v) * 3, 0, 1))[:, None]
    bright = float(max(look.sky_low)) * np.array([1.0, 1.0, 1.0], np.float32)
    dim = np.clip(1.04 - 0.5 * np.clip(value - edge - 0.2, 0, 1), 0, 1.1)[..., None]
    sky += (bright * dim - sky) * (cover * min(0.35 + look.clouds, 0.92))[..., None]


def _sun_disc(scene: Scene, sky: F32) -> None:
    look = scene.look
    x, y, z = look.sun
    if max(look.sunlight) < 0.25 or y < 0.2:
        return
    h, w = sky.shape[:2]
    u = w / 2 + np.arctan2(x, y) * scene.camera.focal_px / 2
    v = h - np.arctan2(z, y) * scene.camera.focal_px / 2
    step = 4
    dx = np.arange(0, w, step, dtype=np.float32)[None] - np.float32(u)
    dy = np.arange(0, h, step, dtype=np.float32)[:, None] - np.float32(v)
    r = np.sqrt(dx * dx + dy * dy) / np.float32(0.1 * w)
    halo = cv2.resize(np.exp(-r * 3) * 110 + np.exp(-((r * 12) ** 2)) * 160, (w, h))
    sky += halo[..., None] * np.array([0.75, 0.93, 1.0], np.float32)


def _skyline(scene: Scene, sky: U8) -> None:
    """Hills, woods or far roofs along the horizon, in the colour of the air."""
    h, w = sky.shape[:2]
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
        outline = np.concatenate([np.stack([x, top], 1), [[w + 4, h + 4], [0, h + 4]]])
        cv2.fillPoly(sky, [(outline * 16).astype(np.int32)], tone.tolist(), cv2.LINE_AA, 4)
