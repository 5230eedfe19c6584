"""Drawing by lot, faster than numpy's own calls for single values and with the very values that they draw."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def _steps(odds: tuple[float, ...]) -> NDArray[np.float64]:
    steps = np.cumsum(np.array(odds))
    return np.asarray(steps / steps[-1])


def draw(rng: np.random.Generator, odds: tuple[float, ...]) -> int:
    """An index with these probabilities: what rng.choice(len(odds), p=odds) draws."""
    return int(_steps(odds).searchsorted(rng.random(), side="right"))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from low up to high: what rng.uniform(low, high) draws."""
    return low + (high - low) * rng.random()
