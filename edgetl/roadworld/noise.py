"""Tileable noise, made once per process from fixed seeds and shared by every scene."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


def _octave(rng: np.random.Generator, h: int, w: int, cells_h: int, cells_w: int) -> F32:
    """One octave of value noise in -1..1 that wraps at its edges."""
    pad = 2
    grid = rng.uniform(-1, 1, (cells_h, cells_w)).astype(np.float32)
    grid = np.pad(grid, pad, mode="wrap")
    step_h, step_w = h // cells_h, w // cells_w
    size = ((cells_w + 2 * pad) * step_w, (cells_h + 2 * pad) * step_h)
    big: F32 = cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)
    return big[pad * step_h : pad * step_h + h, pad * step_w : pad * step_w + w]


@lru_cache(maxsize=16)
def fbm(seed: int, h: int, w: int, first: int = 4, octaves: int = 5) -> F32:
    """Fractal noise (h, w) float32 in about -1..1; h and w are powers of two times `first`."""
    rng = np.random.default_rng(seed)
    total = np.zeros((h, w), np.float32)
    for k in range(octaves):
        cells_h, cells_w = min(first << k, h), min(first << k, w)
        total += _octave(rng, h, w, cells_h, cells_w) * np.float32(0.6**k)
    total /= np.float32(max(float(np.abs(total).max()), 1e-6))
    total.setflags(write=False)
    return total


@lru_cache(maxsize=8)
def grain(seed: int, h: int, w: int) -> F32:
    """White noise (h, w) float32, standard normal."""
    values = np.random.default_rng(seed).standard_normal((h, w)).astype(np.float32)
    values.setflags(write=False)
    return values


@lru_cache(maxsize=2)
def sensor_tile() -> U8:
    """Camera noise (768, 1024, 3) uint8 around 128: part luminance, part colour, a little correlated."""
    rng = np.random.default_rng(77)
    luma = rng.standard_normal((768, 1024, 1)).astype(np.float32)
    chroma = rng.standard_normal((768, 1024, 3)).astype(np.float32)
    mixed = cv2.GaussianBlur(0.8 * luma + 0.6 * chroma, (0, 0), 0.55)
    tile: U8 = np.clip(128 + mixed * (26.0 / float(mixed.std())), 0, 255).astype(np.uint8)
    tile.setflags(write=False)
    return tile
