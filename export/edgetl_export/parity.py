"""Parity: how far one step's tensors are from the step before, on real frames."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Infer = Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.generic]]]
"""One frame (1, H, W, 3) uint8 to named tensors."""


@dataclass(frozen=True, slots=True)
class Parity:
    """max_rel_error: largest difference over the largest reference value. cosine: lowest similarity.

    tensor, frame: where the largest error stood.
    """

    max_rel_error: float
    cosine: float
    tensor: str
    frame: int


SAME = Parity(max_rel_error=0.0, cosine=1.0, tensor="", frame=-1)
"""What nothing that differs comes to."""


def record(
    infer: Infer, frames: Sequence[NDArray[np.uint8]], names: Sequence[str]
) -> list[dict[str, NDArray[np.float32]]]:
    """Copies of these tensors for every frame."""
    rows = []
    for frame in frames:
        outputs = infer(frame)
        rows.append({n: np.array(outputs[n], np.float32) for n in names})
    return rows


def compare(
    reference: Sequence[Mapping[str, NDArray[np.float32]]], other: Sequence[Mapping[str, NDArray[np.float32]]]
) -> Parity:
    """The worst tensor of the worst frame. A value that is not finite is an infinite error."""
    worst = SAME
    for i, (a, b) in enumerate(zip(reference, other, strict=True)):
        for name, expected in a.items():
            error, cosine = tensor_error(expected, b[name])
            if error >= worst.max_rel_error:
                worst = Parity(error, min(cosine, worst.cosine), name, i)
            elif cosine < worst.cosine:
                worst = Parity(worst.max_rel_error, cosine, worst.tensor, worst.frame)
    return worst


def tensor_error(expected: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, float]:
    """Largest absolute difference over the largest absolute reference, and cosine similarity."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf"), -1.0
    a, b = expected.ravel(), found.ravel()
    lengths = math.sqrt(_product(a, a)) * math.sqrt(_product(b, b))
    cosine = _product(a, b) / lengths if lengths > 0 else float(not np.any(a != b))
    return _largest(b - a) / max(_largest(a), 1e-12), min(cosine, 1.0)


def _largest(values: NDArray[np.float32]) -> float:
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


def _product(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The inner product in float64. Not by BLAS, whose threads wait for more at full speed, 30 ms after each."""
    return float(np.einsum("i,i", a, b, dtype=np.float64))


def rms_error(
    reference: Sequence[Mapping[str, NDArray[np.float32]]], other: Sequence[Mapping[str, NDArray[np.float32]]]
) -> float:
    """Root mean square difference over the reference's own spread, the mean over tensors; infinite if not finite."""
    errors = []
    for name in reference[0]:
        a = np.stack([row[name] for row in reference]).astype(np.float64)
        b = np.stack([row[name] for row in other]).astype(np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        errors.append(float(np.sqrt(np.mean((a - b) ** 2)) / max(float(a.std()), 1e-12)))
    return float(np.mean(errors))


def digest_of(rows: Sequence[Mapping[str, NDArray[np.generic]]], names: Sequence[str]) -> str:
    """The same for the same values of these tensors, as float32, on every frame; "" of no tensors."""
    digest = hashlib.sha256()
    for row in rows:
        for name in names:
            digest.update(f"{name} {row[name].shape} ".encode() + row[name].astype(np.float32, copy=False).tobytes())
    return digest.hexdigest() if names else ""


class Finite:
    """Counts the frames for which a network gives something that is not finite.

    names: of the outputs to look at. Frames are told apart by identity and must stay alive.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._not: set[int] = set()

    def through(self, infer: Infer) -> Infer:
        """The same function, counted."""

        def counted(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
            outputs = infer(frame)
            there = [outputs[name] for name in self._names if name in outputs]
            if not all(np.isfinite(array).all() for array in there if np.issubdtype(array.dtype, np.floating)):
                self._not.add(id(frame))
            return outputs

        return counted

    @property
    def not_finite(self) -> int:
        """How many frames."""
        return len(self._not)


def other_input_other_output(rows: Sequence[Mapping[str, NDArray[np.float32]]]) -> bool:
    """Whether two different frames gave different tensors: a graph that ignores its input fails."""
    return len(rows) < 2 or any(not np.array_equal(rows[0][n], row[n]) for row in rows[1:] for n in row)
