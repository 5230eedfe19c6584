"""Golden samples: frames that travel in the bundle, with the outputs that the chosen pair gave for them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.errors import BundleError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine

TOLERANCE = 1e-3
"""For the chosen engine at fp32: the same program on the same numbers, up to the order of its sums."""
TOLERANCE_REDUCED = 2e-2
"""For the chosen engine at bf16 or int8: instruction sets round a few of 256 steps differently."""
TOLERANCE_OTHER = 1e-1
"""For any other engine or precision: catches a wrong model or colour order; the metric judges the rest."""

_DTYPES = {"frames": "uint8", "boxes": "float32", "scores": "float32", "classes": "int64"}


@dataclass(frozen=True, slots=True)
class Golden:
    """frames: (N, H, W, 3) uint8 BGR at network size. boxes (N, K, 4), scores (N, K), classes (N, K)."""

    frames: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """compared: frames replayed. worst_rel_error: of scores and boxes, at most 1. tolerance: what held it."""

    compared: int
    worst_rel_error: float
    tolerance: float
    ok: bool


def write_golden(path: str | os.PathLike[str], golden: Golden) -> None:
    """Write golden samples as a compressed .npz at `path`."""
    np.savez_compressed(path, frames=golden.frames, boxes=golden.boxes, scores=golden.scores, classes=golden.classes)


def read_golden(bundle: Bundle) -> Golden:
    """The golden samples of a bundle. Raises BundleError where they don't fit the manifest."""
    name, manifest = bundle.manifest.golden, bundle.manifest
    try:
        with np.load(bundle.file(name), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in _DTYPES}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(
            f"the golden samples {name} are unreadable: {error}", remedy="export the bundle again"
        ) from error
    n, k = len(arrays["frames"]), manifest.decode.max_detections
    shapes = {
        "frames": (n, *manifest.preprocess.size_hw, 3),
        "boxes": (n, k, 4),
        "scores": (n, k),
        "classes": (n, k),
    }
    for key, shape in shapes.items():
        if n == 0 or arrays[key].shape != shape or arrays[key].dtype.name != _DTYPES[key]:
            raise BundleError(
                f"the golden samples {name} hold {key} {arrays[key].dtype}{list(arrays[key].shape)}, "
                f"expected {_DTYPES[key]}{list(shape)} and at least one",
                remedy="export the bundle again",
            )
    return Golden(**arrays)


def tolerance_of(bundle: Bundle, engine: Engine) -> float:
    """How far `engine` may be from the golden outputs, as a share of their range."""
    chosen = bundle.manifest.chosen
    if engine.name != chosen.engine or engine.precision != bundle.manifest.variant(chosen.variant).precision:
        return TOLERANCE_OTHER
    return TOLERANCE if engine.precision == "fp32" else TOLERANCE_REDUCED


def replay_golden(bundle: Bundle, engine: Engine, *, tolerance: float | None = None) -> GoldenReport:
    """Run every golden frame through `engine` and compare with the outputs in the bundle.

    Scores are compared in falling order, relative to the largest one. Boxes at or above the bundle's score
    threshold are compared with the nearest box of their class, relative to the network's longer side: engines
    may order near-equal scores differently. A missing box or a NaN counts as 1.
    """
    golden = read_golden(bundle)
    limit = tolerance_of(bundle, engine) if tolerance is None else tolerance
    threshold = bundle.manifest.decode.score_threshold
    side = max(bundle.manifest.preprocess.size_hw)
    name = engine.inputs[0].name
    worst = 0.0
    for i in range(len(golden.frames)):
        outputs = engine.infer({name: golden.frames[i : i + 1]})
        expected: dict[str, NDArray[np.generic]] = {
            "boxes": golden.boxes[i : i + 1],
            "scores": golden.scores[i : i + 1],
            "classes": golden.classes[i : i + 1],
        }
        worst = max(worst, frame_error(expected, outputs, threshold=threshold, side=side))
    return GoldenReport(compared=len(golden.frames), worst_rel_error=worst, tolerance=limit, ok=worst <= limit)


def frame_error(
    expected: Mapping[str, NDArray[np.generic]],
    found: Mapping[str, NDArray[np.generic]],
    *,
    threshold: float,
    side: int,
) -> float:
    """The relative error of one frame's outputs, 0 to 1; see `replay_golden`."""
    scores, other = _scores(expected), _scores(found)
    if scores.shape != other.shape or not np.isfinite(other).all():
        return 1.0
    largest = max(float(np.abs(scores).max(initial=0.0)), 1e-6)
    error = float(np.abs(np.sort(scores) - np.sort(other)).max(initial=0.0)) / largest
    sure = np.flatnonzero(scores >= threshold)
    if len(sure):
        boxes = np.asarray(expected["boxes"], np.float64)[0, sure]
        far = np.abs(boxes[:, None] - np.asarray(found["boxes"], np.float64)[0][None]).max(axis=2) / side
        same = np.asarray(expected["classes"])[0, sure][:, None] == np.asarray(found["classes"])[0][None]
        nearest = np.where(same & np.isfinite(far), far, 1.0).min(axis=1)
        error = max(error, float(nearest.max()))
    return min(error, 1.0)


def _scores(outputs: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = np.asarray(outputs["scores"], np.float64)[0]
    return scores
