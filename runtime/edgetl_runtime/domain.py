"""Is this frame like those the network learnt from? Training statistics in a file, one score for each frame.

A score costs some 0.01 ms. A single odd frame means little; `DomainMonitor.observe` says when they are many. What it
sees are frames unlike any of the training's; a domain whose every frame could be one of the training's, only their
mixture being another, is for `edgetl shift` to find.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgetl_runtime.errors import BundleError, EngineError
from edgetl_runtime.npz import BadArrays, read_npz

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

FORMAT = 1
MAX_DIRECTIONS = 64
MAX_QUANTILES = 1024
MAX_WIDTH = 16384
MAX_BYTES = 32 * 1024 * 1024
LEAST_DEVIATION = 1e-12
"""Of a less or more than its inverse the square, or what is divided by it, is no number any more."""

TYPICAL = 0.99
"""A frame is typical while it lies nearer than this share of held-out training frames."""
SHIFTED_SHARE = 0.2
"""The share of untypical frames that counts as another domain; the test is tuned to it, and sees half of it too."""
FALSE_ALARM_FRAMES = 1e6
"""At least so many independent typical frames pass, on average, before one false alarm."""
INTERVAL_NS = 1_000_000_000
"""Frames closer in time than this show the same scene and are no new evidence."""

State = Literal["typical", "shifted"]


@dataclass(frozen=True, slots=True)
class ShiftScore:
    """One frame. distance: root mean square deviation from the training mean, about 1 where all is as it was.

    quantile: the share of held-out training frames that lie nearer, below 1 always. typical: nearer than
    DomainModel.limit.
    """

    distance: float
    quantile: float
    typical: bool


@dataclass(frozen=True, slots=True)
class DomainState:
    """What `observe` says of a frame and of the stretch before it. evidence: 0..1, shifted from 1 on until it is 0."""

    score: ShiftScore
    state: State
    evidence: float


@dataclass(frozen=True, slots=True)
class DomainModel:
    """A normal distribution of embeddings and the distances of held-out frames, all float64.

    mean (D,); axes (D, K) orthonormal columns; deviations (K,) along them; residual: along any other axis.
    quantiles (Q,) rising distances; probabilities (Q,): the share of `images` held-out frames up to each.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    deviations: NDArray[np.float64]
    residual: float
    quantiles: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    images: int

    @property
    def odd_share(self) -> float:
        """The share of frames of the training domain that lie beyond `limit`."""
        return 1 - min(TYPICAL, float(self.probabilities[-1]))

    @property
    def limit(self) -> float:
        """The largest distance of a typical frame: TYPICAL's quantile, or with few held-out frames the largest."""
        return float(np.interp(1 - self.odd_share, self.probabilities, self.quantiles))

    def distances(self, embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) distances of embeddings (N, D): sqrt of the squared Mahalanobis distance over D."""
        centred = embeddings - self.mean
        along = centred @ self.axes
        outside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squared = ((along / self.deviations) ** 2).sum(axis=1) + outside / self.residual**2
        distances: NDArray[np.float64] = np.sqrt(squared / len(self.mean))
        return distances

    def quantiles_of(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of held-out frames that lie nearer than each distance; 0 before the first, never 1."""
        shares: NDArray[np.float64] = np.interp(distances, self.quantiles, self.probabilities, left=0.0)
        return shares


class DomainMonitor:
    """Scores embeddings against the statistics at `path`, and watches whether they stay away.

    Raises BundleError for a file that is unreadable, incomplete, of another format, or not finite. One monitor
    belongs to one camera; it is not safe to share between threads.
    """

    def __init__(self, path: str | os.PathLike[str], *, interval_ns: int = INTERVAL_NS) -> None:
        self.model = read_domain(path)
        self.interval_ns = interval_ns
        m = self.model
        width = len(m.mean)
        self._centred = np.empty(width)
        self._along = np.empty(m.axes.shape[1])
        self._axes = np.ascontiguousarray(m.axes.T)
        # distance^2 = sum of along^2 * weight + |centred|^2 * rest: the part outside the axes without forming it.
        self._rest = 1 / (m.residual**2 * width)
        self._weight = 1 / (m.deviations**2 * width) - self._rest
        self._limit = m.limit
        alternative = max(SHIFTED_SHARE, min(3 * m.odd_share, 0.9))
        self._up = math.log(alternative / m.odd_share)
        self._down = math.log((1 - alternative) / (1 - m.odd_share))
        self._alarm = math.log(FALSE_ALARM_FRAMES)
        self.reset()

    def reset(self) -> None:
        """Forget what was observed."""
        self._sum = 0.0
        self._state: State = "typical"
        self._last_ns: int | None = None

    @property
    def state(self) -> State:
        """What the frames observed so far say."""
        return self._state

    def score(self, embedding: NDArray[np.floating]) -> ShiftScore:
        """How typical one embedding (1, D) is. One that isn't finite is infinitely far.

        Raises EngineError for another shape.
        """
        width = len(self._centred)
        if embedding.shape != (1, width):
            raise EngineError(
                f"the network's embedding is {embedding.shape}, the domain statistics are for (1, {width})",
                remedy="export the bundle again",
            )
        np.subtract(embedding[0], self.model.mean, out=self._centred)
        np.dot(self._axes, self._centred, out=self._along)
        squared = float(self._centred @ self._centred) * self._rest
        np.multiply(self._along, self._along, out=self._along)
        squared += float(self._along @ self._weight)
        if not math.isfinite(squared):
            return ShiftScore(math.inf, float(self.model.probabilities[-1]), False)
        distance = math.sqrt(max(squared, 0.0))
        share = np.interp(distance, self.model.quantiles, self.model.probabilities, left=0.0)
        return ShiftScore(distance, float(share), distance <= self._limit)

    def observe(self, embedding: NDArray[np.floating], *, t_capture_ns: int) -> DomainState:
        """Score a frame, and count it as evidence where at least `interval_ns` passed since the last that counted.

        A one-sided CUSUM (Page 1954) of the likelihood ratio between a share of SHIFTED_SHARE and the usual share of
        untypical frames: "shifted" once it reaches log(FALSE_ALARM_FRAMES), "typical" again once it is back at 0.
        """
        found = self.score(embedding)
        if self._last_ns is None or not 0 <= t_capture_ns - self._last_ns < self.interval_ns:
            self._last_ns = t_capture_ns
            step = self._down if found.typical else self._up
            # Held at the alarm's height, so that the way back takes as long after an hour as after a minute.
            self._sum = min(max(self._sum + step, 0.0), self._alarm)
            if self._sum >= self._alarm:
                self._state = "shifted"
            elif self._sum == 0.0:
                self._state = "typical"
        return DomainState(found, self._state, self._sum / self._alarm)


def read_domain(path: str | os.PathLike[str]) -> DomainModel:
    """The statistics in a file. Raises BundleError, see DomainMonitor."""
    try:
        arrays = read_npz(path, _DTYPES, max_bytes=MAX_BYTES)
    except BadArrays as error:
        raise BundleError(f"the domain statistics {path} are unreadable: {error}", remedy=_AGAIN) from error
    if (problem := _problem(arrays)) is not None:
        raise BundleError(f"the domain statistics {path} are not valid: {problem}", remedy=_AGAIN)
    return DomainModel(
        arrays["mean"].astype(np.float64),
        arrays["axes"].astype(np.float64),
        arrays["deviations"].astype(np.float64),
        float(arrays["residual"]),
        arrays["distances"].astype(np.float64),
        arrays["probabilities"].astype(np.float64),
        int(arrays["images"]),
    )


_AGAIN = "export the bundle again"
_DTYPES = {
    "format": "int64",
    "mean": "float32",
    "axes": "float32",
    "deviations": "float32",
    "residual": "float64",
    "distances": "float64",
    "probabilities": "float64",
    "images": "int64",
}


def _problem(arrays: dict[str, NDArray[np.generic]]) -> str | None:
    """What is wrong with the arrays, or None."""
    for name, dtype in _DTYPES.items():
        if arrays[name].dtype.name != dtype:
            return f"{name} is {arrays[name].dtype.name}, expected {dtype}"
        if not np.isfinite(arrays[name]).all():
            return f"{name} holds NaN or infinity"
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes["format"] != () or int(arrays["format"]) != FORMAT:
        return f"format {arrays['format'].tolist()}, expected {FORMAT}"
    width, kept = (*shapes["axes"], 0, 0)[:2]
    count = (*shapes["distances"], 0)[0]
    expected: dict[str, tuple[int, ...]] = {
        "mean": (width,), "axes": (width, kept), "deviations": (kept,), "residual": (),
        "distances": (count,), "probabilities": (count,), "images": (),
    }  # fmt: skip
    for name, shape in expected.items():
        if shapes[name] != shape:
            return f"{name} has shape {list(shapes[name])}, expected {list(shape)}"
    if not (0 < kept <= min(width, MAX_DIRECTIONS) and width <= MAX_WIDTH and 0 < count <= MAX_QUANTILES):
        return f"{kept} axes of width {width} and {count} quantiles"
    return _problem_in_values(arrays)


def _problem_in_values(arrays: dict[str, NDArray[np.generic]]) -> str | None:
    distances, shares = arrays["distances"].astype(np.float64), arrays["probabilities"].astype(np.float64)
    deviations = np.append(arrays["deviations"].astype(np.float64), float(arrays["residual"]))
    if deviations.min() < LEAST_DEVIATION or deviations.max() > 1 / LEAST_DEVIATION:
        return f"deviations must be from {LEAST_DEVIATION:g} to {1 / LEAST_DEVIATION:g}"
    if (np.diff(distances) < 0).any() or distances[0] < 0 or (np.diff(shares) <= 0).any():
        return "quantiles must rise"
    if shares[0] <= 0 or shares[-1] >= 1 or int(arrays["images"]) < len(distances):
        return "probabilities must lie between 0 and 1, of no fewer images than quantiles"
    axes = arrays["axes"].astype(np.float64)
    if np.abs(axes.T @ axes - np.eye(axes.shape[1])).max() > 1e-3:
        return "axes must be orthonormal"
    return None
