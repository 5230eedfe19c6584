"""How bright a place is: daylight, the ego's headlights, street lamps, and what the air takes away."""

from __future__ import annotations

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


class Lighting:
    """The light of one frame; lamps (N, 2) are the ego positions below the street lamps that burn."""

    def __init__(self, look: Look, sun_ego: F64, lamps: F64) -> None:
        self.look = look
        self.sun = sun_ego
        self.lamps = lamps
        self.ambient = np.array(look.ambient)
        self.sunlight = np.array(look.sunlight)
        self.haze = np.array(look.haze_bgr)
        self.night = look.domain == "night"

    def clear(self, distance_m: float) -> float:
        """What the air lets through over this distance, 0..1."""
        return float(np.exp(-self.look.haze_per_m * max(distance_m, 0.0)))

    def at(self, x: float, y: float) -> tuple[F64, F64]:
        """(ambient, directed) light, each (3,) BGR, at ego (x, y)."""
        if not self.night:
            return self.ambient, self.sunlight
        beam = float(headlight_pool(np.array([x]), np.array([y]))[0])
        light = self.ambient + 0.62 * beam * HEADLIGHT_BGR
        if len(self.lamps):
            away = ((self.lamps - (x, y)) ** 2).sum(axis=1)
            light = light + 0.34 * float(np.exp(-away / 70.0).sum()) * LAMP_BGR
        return light, self.sunlight

    def flat(self, x: float, y: float) -> F64:
        """Light (3,) on something without faces: trees, people, posts."""
        ambient, directed = self.at(x, y)
        return np.asarray(ambient + 0.6 * directed)
