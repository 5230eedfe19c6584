"""What activations are like on real frames, and the range that INT8 gives to each: the calibrators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from edgetl_export.crew import crew_of
from edgetl_export.graph import load_model, save_model, with_outputs
from edgetl_runtime.errors import InputError

T = TypeVar("T")
Calibrator = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATORS: tuple[Calibrator, ...] = get_args(Calibrator)
Range = tuple[float, float]
"""The lowest and the highest value that INT8 shall hold; zero is always among them."""

SAMPLES_PER_FRAME = 8192
BINS = 2048
LEVELS = 128
ALL_STEPS, SIDE_STEPS = 255, 127
"""Between the values of INT8: from end to end, and from zero to either end."""
PERCENTILE = 99.99
SMALLEST_SHARE = 0.01
STEPS = 64
COST_SAMPLES = 32768
MOST_OBSERVERS = 2
"""Each holds every tensor of a frame in memory."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One tensor over some frames.

    low, high: of every value. samples: float32, an even choice of up to SAMPLES_PER_FRAME values of each frame.
    means: the mean of each channel, (C,) float64 along axis 1; of one value where there is no such axis.
    """

    low: float
    high: float
    samples: NDArray[np.float32]
    means: NDArray[np.float64]


def observe(
    path: Path, tensors: Sequence[str], frames: Sequence[NDArray[np.uint8]], scratch: Path
) -> dict[str, Observed]:
    """Run the fp32 graph at `path` over the frames (1, H, W, 3) uint8 and watch inner tensors.

    scratch: a folder for the graph with more outputs. Raises InputError without frames, or for a tensor that is not
    finite on one of them.
    """
    if not frames:
        raise InputError("no calibration frames", remedy="give --data with training images")
    rows: dict[str, list[Observed]] = {name: [] for name in tensors}
    for index, row in enumerate(_each(path, tensors, frames, scratch, _seen)):
        for name, one in row.items():
            if not (np.isfinite(one.low) and np.isfinite(one.high)):
                raise InputError(f"the tensor {name!r} is not finite on calibration frame {index}")
            rows[name].append(one)
    return {name: _together(of_frames) for name, of_frames in rows.items()}


def magnitudes(
    path: Path, tensors: Sequence[str], frames: Sequence[NDArray[np.uint8]], scratch: Path
) -> dict[str, float]:
    """The largest magnitude of inner tensors, as `observe` watches them; infinite for one that is not finite somewhere,
    0 for one that holds nothing.
    """
    found = dict.fromkeys(tensors, 0.0)
    for row in _each(path, tensors, frames, scratch, _magnitude):
        found = {name: max(top, row[name]) for name, top in found.items()}
    return found


def _each(
    path: Path,
    tensors: Sequence[str],
    frames: Sequence[NDArray[np.uint8]],
    scratch: Path,
    look: Callable[[NDArray[np.generic]], T],
) -> Iterator[dict[str, T]]:
    """What `look` makes of every tensor, frame by frame."""
    probe = scratch / "observed.onnx"
    save_model(with_outputs(load_model(path), tensors), probe)
    with crew_of("onnxruntime", probe, "fp32", most=MOST_OBSERVERS) as crew:
        for _, row in crew.each(frames, lambda outputs: {name: look(outputs[name]) for name in tensors}):
            yield row


def _magnitude(tensor: NDArray[np.generic]) -> float:
    top = float(np.abs(np.asarray(tensor, np.float32)).max(initial=0.0))
    return top if np.isfinite(top) else float("inf")


def _seen(tensor: NDArray[np.generic]) -> Observed:
    """A tensor on one frame."""
    value = np.asarray(tensor, np.float32)
    return Observed(float(value.min()), float(value.max()), _even(value), _channel_means(value))


def _together(frames: Sequence[Observed]) -> Observed:
    """One tensor on all frames."""
    sums = frames[0].means.copy()
    for each in frames[1:]:
        sums += each.means
    return Observed(
        min(each.low for each in frames),
        max(each.high for each in frames),
        np.concatenate([each.samples for each in frames]),
        sums / len(frames),
    )


def _even(value: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = value.reshape(-1)
    # An odd stride does not fall on the same column or channel again and again.
    chosen: NDArray[np.float32] = flat[:: flat.size // SAMPLES_PER_FRAME | 1].copy()
    return chosen


def _channel_means(value: NDArray[np.float32]) -> NDArray[np.float64]:
    if value.ndim < 2:
        return np.atleast_1d(value.mean(dtype=np.float64))
    of_images = value.reshape(*value.shape[:2], -1).mean(axis=2)
    means: NDArray[np.float64] = of_images.mean(axis=0, dtype=np.float64)
    return means


def ranges(observed: Mapping[str, Observed], calibrator: Calibrator, *, symmetric: bool = False) -> dict[str, Range]:
    """The range of every tensor by one calibrator, zero always inside."""
    return {name: range_of(seen, calibrator, symmetric=symmetric) for name, seen in observed.items()}


def range_of(seen: Observed, calibrator: Calibrator, *, symmetric: bool = False) -> Range:
    """The range of one tensor; symmetric: around zero, of 127 steps on either side instead of 255 in all.

    minmax: all that was seen. percentile: all but 0.01 % at either end. mse: the share of the full range with the
    least mean square error of quantised samples. entropy: the one that keeps the distribution best by
    Kullback-Leibler divergence (Migacz, "8-bit inference with TensorRT", GTC 2017).
    """
    if symmetric:
        _, top = _range_of(_magnitudes(seen), calibrator, SIDE_STEPS)
        return -top, top
    return _range_of(seen, calibrator, ALL_STEPS)


def _magnitudes(seen: Observed) -> Observed:
    return Observed(0.0, max(-seen.low, seen.high, 0.0), np.abs(seen.samples), seen.means)


def _range_of(seen: Observed, calibrator: Calibrator, steps: int) -> Range:
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if high - low <= 0:
        return 0.0, 1.0
    if calibrator == "minmax":
        return low, high
    if calibrator == "percentile":
        a, b = np.percentile(seen.samples, [100 - PERCENTILE, PERCENTILE])
        return _nonzero(min(float(a), 0.0), max(float(b), 0.0), (low, high))
    cost = _square_error(seen, steps) if calibrator == "mse" else _divergence(seen, (low, high))
    return _best_share((low, high), cost)


def _nonzero(low: float, high: float, full: Range) -> Range:
    return (low, high) if high > low else full


def _best_share(full: Range, cost: Callable[[Range], float]) -> Range:
    """The cheapest of the full range and shares of it; a share is cut at both ends alike."""
    shares = np.geomspace(1.0, SMALLEST_SHARE, STEPS)
    tried = [(float(full[0] * s), float(full[1] * s)) for s in shares]
    costs = [cost(r) for r in tried]
    return tried[int(np.argmin(costs))]


def _square_error(seen: Observed, steps: int) -> Callable[[Range], float]:
    values = seen.samples[:: max(len(seen.samples) // COST_SAMPLES, 1) | 1].astype(np.float64)

    def cost(limits: Range) -> float:
        step = (limits[1] - limits[0]) / steps
        rounded = np.round((np.clip(values, *limits) - limits[0]) / step) * step + limits[0]
        return float(np.mean((rounded - values) ** 2))

    return cost


def _divergence(seen: Observed, full: Range) -> Callable[[Range], float]:
    counts, edges = np.histogram(seen.samples, BINS, full)
    mass = counts.astype(np.float64)

    def cost(limits: Range) -> float:
        first, last = np.searchsorted(edges, limits[0], "left"), np.searchsorted(edges, limits[1], "right") - 1
        inside = mass[first:last]
        if len(inside) < LEVELS or inside.sum() <= 0:
            return float("inf")
        clipped = inside.copy()
        clipped[0] += mass[:first].sum()
        clipped[-1] += mass[last:].sum()
        groups = np.arange(len(inside)) * LEVELS // len(inside)
        used = inside > 0
        totals = np.bincount(groups, inside, LEVELS)
        cells = np.bincount(groups, used, LEVELS)
        spread = np.where(used, (totals / np.maximum(cells, 1))[groups], 0.0)
        p, q = clipped / clipped.sum(), spread / spread.sum()
        lost = p > 0
        return float(np.sum(p[lost] * np.log(p[lost] / np.maximum(q[lost], 1e-12))))

    return cost
