"""How bright a place is: daylight, the ego's headlights, street lamps, and what the air takes away."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.noise import F32
from edgetl.roadworld.scene import Look

F64 = NDArray[np.float64]

HEADLIGHT_BGR = np.array([0.86, 0.96, 1.0])
LAMP_BGR = np.array([0.52, 0.8, 1.0])


def headlight_pool(x: F64 | F32, y: F64 | F32) -> F64 | F32:
    """Share of the low beam that falls at ego (x, y), 0..1; arrays broadcast."""
    forward = np.maximum(y, 0.5)
    spread = np.exp(-((x / (1.6 + 0.2 * forward)) ** 2))
    reach = (1 - np.exp(-forward / 4.0)) / (1.0 + (forward / 19.0) ** 2.2)
    return np.asarray(spread * reach, dtype=np.asarray(x).dtype)


def _headlight(x: float, y: float) -> float:
    """headlight_pool at one place."""
    forward = max(y, 0.5)
    spread = math.exp(-math.pow(x / (1.6 + 0.2 * forward), 2))
    return spread * (1 - math.exp(-forward / 4.0)) / (1.0 + math.pow(forward / 19.0, 2.2))


class Lighting:
    """The light of one frame; lamps (N, 2) are the ego positions below the street lamps that burn."""

    def __init__(self, look: Look, sun_ego: F64, lamps: F64) -> None:
        self.look = look
        self.sun = sun_ego
        self.lamps = lamps
        self._lamps: list[list[float]] = lamps.tolist()
        self.ambient = np.array(look.ambient)
        self.sunlight = np.array(look.sunlight)
        self.haze = np.array(look.haze_bgr)
        self.night = look.domain == "night"

    def clear(self, distance_m: float) -> float:
        """What the air lets through over this distance, 0..1."""
        return math.exp(-self.look.haze_per_m * max(distance_m, 0.0))

    def at(self, x: float, y: float) -> tuple[F64, F64]:
        """(ambient, directed) light, each (3,) BGR, at ego (x, y)."""
        if not self.night:
            return self.ambient, self.sunlight
        light = self.ambient + 0.62 * _headlight(x, y) * HEADLIGHT_BGR
        if self._lamps:
            pools = sum(math.exp(-((a - x) ** 2 + (b - y) ** 2) / 70.0) for a, b in self._lamps)
            light += 0.34 * pools * LAMP_BGR
        return light, self.sunlight

    def flat(self, x: float, y: float) -> F64:
        """Light (3,) on something without faces: trees, people, posts."""
        ambient, directed = self.at(x, y)
        return np.asarray(ambient + 0.6 * directed)
