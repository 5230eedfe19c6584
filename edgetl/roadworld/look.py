"""Light, air and camera finish of each domain, with the variation of real days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.scene import Bgr, Domain, Look

F64 = NDArray[np.float64]


def _bgr(values: F64) -> Bgr:
    b, g, r = (float(v) for v in values)
    return b, g, r


def sample_look(rng: np.random.Generator, domain: Domain) -> Look:
    """A look of this domain."""
    finish = {
        "exposure": float(rng.uniform(0.92, 1.22)),
        "contrast": float(rng.uniform(0.92, 1.12)),
        "warmth": float(rng.uniform(-0.05, 0.05)),
        "blur_px": float(rng.uniform(0.35, 0.7)),
        "noise": float(rng.uniform(0.04, 0.15)),
        "vignette": float(rng.choice([0.05, 0.1, 0.15, 0.2])),
    }
    if domain == "night":
        return _night(rng, {**finish, "noise": float(rng.uniform(0.12, 0.26))})
    if domain == "fog":
        return _fog(rng, finish)
    if domain == "rain":
        return _rain(rng, finish)
    return _day(rng, finish)


def _sun(azimuth: float, elevation: float) -> tuple[float, float, float]:
    c = float(np.cos(elevation))
    return c * float(np.sin(azimuth)), c * float(np.cos(azimuth)), float(np.sin(elevation))


def _day(rng: np.random.Generator, finish: dict[str, float]) -> Look:
    overcast = float(rng.choice([0.0, 0.0, 0.5, 1.0]) * rng.uniform(0.7, 1))
    low_sun = float(rng.random() < 0.3) * (1 - overcast)
    elevation = float(rng.uniform(0.16, 0.32) if low_sun else rng.uniform(0.5, 1.15))
    warm = np.array([0.66, 0.88, 1.06]) * low_sun + np.array([0.93, 0.99, 1.03]) * (1 - low_sun)
    clear_top, clear_low = np.array([206.0, 140.0, 72.0]), np.array([238.0, 220.0, 196.0])
    grey_top, grey_low = np.array([196.0, 188.0, 180.0]), np.array([228.0, 226.0, 222.0])
    top = clear_top * (1 - overcast) + grey_top * overcast
    low = (clear_low * (1 - 0.55 * low_sun) + np.array([160.0, 202.0, 240.0]) * 0.55 * low_sun) * (
        1 - overcast
    ) + grey_low * overcast
    return Look(
        domain="day", sun=_sun(float(rng.uniform(0, 2 * np.pi)), elevation),
        ambient=_bgr(np.array([0.62, 0.58, 0.55]) + 0.3 * overcast),
        sunlight=_bgr(0.62 * (1 - 0.8 * overcast) * warm),
        shadow=0.52 + 0.42 * overcast, sky_top=_bgr(top), sky_low=_bgr(low),
        clouds=float(np.clip(rng.uniform(0.0, 0.75) + 0.4 * overcast, 0, 1)), cloud_seed=int(rng.integers(1 << 16)),
        haze_bgr=_bgr(low * 0.94), haze_per_m=float(rng.uniform(0.0008, 0.004)), glow=0.0, wet=0.0, **finish,
    )  # fmt: skip


def _night(rng: np.random.Generator, finish: dict[str, float]) -> Look:
    base = float(rng.uniform(0.1, 0.2))
    low = np.array([52.0, 46.0, 46.0]) * rng.uniform(0.6, 1.3) + np.array([0, 6, 14]) * rng.uniform(0, 1.5)
    return Look(
        domain="night", sun=(0.0, -0.4, 0.9), ambient=_bgr(base * np.array([1.12, 1.0, 0.92])),
        sunlight=_bgr(np.full(3, 0.05)), shadow=1.0,
        sky_top=_bgr(np.array([34.0, 22.0, 14.0]) * rng.uniform(0.5, 1.2)), sky_low=_bgr(low),
        clouds=float(rng.uniform(0, 0.5)), cloud_seed=int(rng.integers(1 << 16)), haze_bgr=_bgr(low * 0.8),
        haze_per_m=float(rng.uniform(0.001, 0.005)), glow=1.0, wet=float(rng.choice([0.0, 0.0, 0.5])), **finish,
    )  # fmt: skip


def _fog(rng: np.random.Generator, finish: dict[str, float]) -> Look:
    grey = np.array([208.0, 206.0, 202.0]) * float(rng.uniform(0.8, 1.05))
    return Look(
        domain="fog", sun=_sun(float(rng.uniform(0, 6.28)), 0.9), ambient=_bgr(np.array([0.84, 0.83, 0.82])),
        sunlight=_bgr(np.full(3, 0.1)), shadow=0.97, sky_top=_bgr(grey * 0.96), sky_low=_bgr(grey), clouds=0.0,
        cloud_seed=0, haze_bgr=_bgr(grey), haze_per_m=float(rng.uniform(0.018, 0.045)), glow=0.45,
        wet=float(rng.choice([0.0, 0.35])), **{**finish, "contrast": finish["contrast"] * 0.97},
    )  # fmt: skip


def _rain(rng: np.random.Generator, finish: dict[str, float]) -> Look:
    dim = float(rng.uniform(0.55, 0.85))
    grey = np.array([176.0, 170.0, 164.0]) * dim * 1.15
    return Look(
        domain="rain", sun=_sun(float(rng.uniform(0, 6.28)), 0.9), ambient=_bgr(dim * np.array([0.9, 0.87, 0.84])),
        sunlight=_bgr(np.full(3, 0.07)), shadow=0.97, sky_top=_bgr(grey * 0.82), sky_low=_bgr(grey),
        clouds=float(rng.uniform(0.5, 0.9)), cloud_seed=int(rng.integers(1 << 16)), haze_bgr=_bgr(grey * 0.97),
        haze_per_m=float(rng.uniform(0.006, 0.013)), glow=0.5, wet=float(rng.uniform(0.7, 1.0)), **finish,
    )  # fmt: skip
