"""After the painting: rain in the air, then what lens and sensor do to the picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from edgetl.roadworld.noise import U8, sensor_tile
from edgetl.roadworld.scene import Look


@lru_cache(maxsize=4)
def _streaks(h: int, w: int) -> U8:
    """Falling rain (h + pad, w + pad) uint8 for `cut` to move about."""
    rng = np.random.default_rng(15)
    pad = h // 2
    sheet = np.zeros((h + pad, w + pad), np.uint8)
    for _ in range(int(0.0036 * h * w)):
        near = float(rng.uniform(0, 1)) ** 3
        length = h * (0.022 + 0.08 * near)
        x, y = rng.uniform(0, w + pad), rng.uniform(0, h + pad)
        a = (int(x * 16), int(y * 16))
        b = (int((x + length * 0.1) * 16), int((y + length) * 16))
        cv2.line(sheet, a, b, int(18 + 46 * near), 1 if near < 0.7 else max(h // 300, 1), cv2.LINE_AA, 4)
    soft: U8 = cv2.GaussianBlur(sheet, (0, 0), 0.7)
    return soft


@lru_cache(maxsize=8)
def _vignette(h: int, w: int, strength: float) -> U8:
    y, x = np.ogrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    fall = 1 - strength * ((x * x + y * y) / 2) ** 1.2
    return np.repeat((255 * fall[..., None]).round().astype(np.uint8), 3, axis=2)


def rain_in_air(image: U8, rng: np.random.Generator, light: float) -> None:
    """Add streaks to a picture, in place."""
    h, w = image.shape[:2]
    sheet = _streaks(h, w)
    y, x = (int(v) for v in rng.integers(0, h // 2, 2))
    part = cv2.convertScaleAbs(sheet[y : y + h, x : x + w], alpha=light)
    cv2.add(image, cv2.merge([part, part, part]), image)


def drops_on_lens(image: U8, rng: np.random.Generator) -> None:
    """A few drops on the glass: what is behind them is upside down and blurred."""
    h, w = image.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        r = int(h * rng.uniform(0.008, 0.022)) + 1
        x, y = int(rng.integers(r, w - r)), int(rng.integers(r, h - r))
        part = image[y - r : y + r, x - r : x + r]
        disc = np.zeros(part.shape[:2], np.uint8)
        cv2.circle(disc, (r, r), r - 1, 255, -1)
        turned = cv2.convertScaleAbs(cv2.blur(cv2.flip(part, 0), (5, 5)), alpha=0.96, beta=7)
        cv2.copyTo(turned, disc, part)


def tone_table(look: Look) -> U8:
    """Exposure, contrast and white balance as a (1, 256, 3) table."""
    x = np.arange(256, dtype=np.float64)[:, None] / 255
    balance = np.array([1 - look.warmth, 1.0, 1 + look.warmth])
    y = x * look.exposure * balance
    middle = 0.35
    y = middle + (y - middle) * look.contrast
    y = np.where(y > 0.8, 0.8 + 0.2 * np.tanh((y - 0.8) / 0.2), y)
    return np.asarray((np.clip(y, 0, 1) * 255).round().astype(np.uint8)[None])


def sensor(image: U8, look: Look, rng: np.random.Generator) -> U8:
    """Lens blur, vignette, tone curve and noise."""
    h, w = image.shape[:2]
    soft = cv2.GaussianBlur(image, (0, 0), look.blur_px * h / 360)
    soft = cv2.multiply(soft, _vignette(h, w, round(look.vignette, 2)), scale=1 / 255)
    soft = cv2.LUT(soft, tone_table(look))
    tile = sensor_tile()
    if h > tile.shape[0] - 64 or w > tile.shape[1] - 64:
        tile = np.tile(tile, (h // (tile.shape[0] - 64) + 1, w // (tile.shape[1] - 64) + 1, 1))
    y, x = int(rng.integers(0, tile.shape[0] - h + 1)), int(rng.integers(0, tile.shape[1] - w + 1))
    out: U8 = cv2.addWeighted(soft, 1.0, tile[y : y + h, x : x + w], look.noise, -128 * look.noise)
    return out
