"""Network outputs to detections in the source image: threshold, map back, clip, drop what is degenerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.errors import EngineError
from edgetl_runtime.result import Detections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgetl_runtime.letterbox import Geometry
    from edgetl_runtime.spec import Decode


def decode(outputs: Mapping[str, NDArray[np.generic]], spec: Decode, geometry: Geometry) -> Detections:
    """Detections of one frame, best score first, in source pixels; new arrays, the outputs may be reused.

    outputs: boxes (1, K, 4) float32 in network pixels, scores (1, K) float32, classes (1, K) int64.
    A row counts where its score is finite and not below `spec.score_threshold`, its box is finite, and the
    box has an area inside the source image. NaN is never a detection. Raises EngineError for a missing
    output or a shape that does not fit.
    """
    boxes, scores, classes = _rows(outputs)
    with np.errstate(invalid="ignore"):
        keep = np.flatnonzero((scores >= spec.score_threshold) & np.isfinite(scores))
    kept = boxes[keep]
    finite = np.isfinite(kept).all(axis=1)
    keep, kept = keep[finite], kept[finite]
    source = geometry.to_source(kept)
    area = (source[:, 2] > source[:, 0]) & (source[:, 3] > source[:, 1])
    keep, source = keep[area], source[area]
    order = np.argsort(-scores[keep], kind="stable")[: spec.max_detections]
    rows = keep[order]
    return Detections(
        boxes_xyxy=source[order],
        scores=scores[rows].astype(np.float32, copy=False),
        classes=classes[rows].astype(np.int64, copy=False),
    )


def _rows(
    outputs: Mapping[str, NDArray[np.generic]],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    try:
        boxes, scores, classes = outputs["boxes"], outputs["scores"], outputs["classes"]
    except KeyError as error:
        raise EngineError(f"the engine gave no output {error}; it gave {sorted(outputs)}") from error
    k = scores.shape[-1] if scores.ndim else 0
    if boxes.shape != (1, k, 4) or scores.shape != (1, k) or classes.shape != (1, k):
        raise EngineError(
            "expected boxes (1, K, 4), scores (1, K) and classes (1, K), found "
            f"{boxes.shape}, {scores.shape} and {classes.shape}"
        )
    return boxes[0], scores[0], classes[0]
