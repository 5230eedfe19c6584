"""Network outputs to what they say of the source image: boxes, a mask, a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

from edgetl_runtime.errors import EngineError
from edgetl_runtime.result import Detections, Mask, Scores
from edgetl_runtime.spec import ClassifyHead, DetectHead, SegmentHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from edgetl_runtime.letterbox import Geometry
    from edgetl_runtime.result import Output
    from edgetl_runtime.spec import Head

    Outputs = Mapping[str, NDArray[np.generic]]


@overload
def decode(outputs: Outputs, head: DetectHead, geometry: Geometry) -> Detections: ...
@overload
def decode(outputs: Outputs, head: SegmentHead, geometry: Geometry) -> Mask: ...
@overload
def decode(outputs: Outputs, head: ClassifyHead, geometry: Geometry) -> Scores: ...
@overload
def decode(outputs: Outputs, head: Head, geometry: Geometry) -> Output: ...
def decode(outputs: Outputs, head: Head, geometry: Geometry) -> Output:
    """What one head says of one frame, in source coordinates; new arrays, the outputs may be reused.

    outputs: the network's, by name, of one frame as the head's docstring in edgetl_runtime.spec gives them.
    Raises EngineError for a missing output, a shape or class that does not fit, or probabilities that are no numbers.
    """
    return decoder_of(head)(outputs, geometry)


def decoder_of(head: Head) -> Callable[[Outputs, Geometry], Output]:
    """`decode` of this head, for many frames: what does not change is made once."""
    if isinstance(head, DetectHead):
        return _detector(head)
    if isinstance(head, SegmentHead):
        return lambda outputs, geometry: _mask(outputs, head, geometry)
    return lambda outputs, geometry: _scores(outputs, head)


def _detector(head: DetectHead) -> Callable[[Outputs, Geometry], Detections]:
    """Best score first. A row counts where its score is finite and not below its label's threshold, its box is
    finite, and the box has an area inside the source image. NaN is never a detection.

    The engine has emptied the processor's caches when this runs: steps and lookups count, not rows.
    """
    thresholds, lowest = np.array(head.thresholds, np.float32), np.array([min(head.thresholds)], np.float32)
    names, most = head.outputs, head.max_detections

    def detections(outputs: Outputs, geometry: Geometry) -> Detections:
        boxes, scores, classes = _rows(outputs, names)
        keep = (scores >= lowest).nonzero()[0]
        found, sure, kept = classes.take(keep), scores.take(keep), boxes.take(keep, axis=0)
        if labels := found.tolist():
            _check_classes(min(labels), max(labels), head)
        source = geometry.to_source(kept)
        sound = np.isfinite(kept)
        sound[:, 2:] &= source[:, 2:] > source[:, :2]
        good = np.logical_and.reduce(sound, axis=1)
        good &= sure >= thresholds.take(found)
        good &= np.isfinite(sure)
        rows = good.nonzero()[0]
        rows = rows.take((-sure.take(rows)).argsort(kind="stable")[:most])
        return Detections(
            boxes_xyxy=source.take(rows, axis=0),
            scores=sure.take(rows).astype(np.float32, copy=False),
            classes=found.take(rows).astype(np.int64, copy=False),
        )

    return detections


def _rows(
    outputs: Outputs, names: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    try:
        boxes, scores, classes = outputs[names[0]], outputs[names[1]], outputs[names[2]]
    except KeyError as error:
        raise _missing(outputs, str(error.args[0])) from None
    k = scores.size
    if boxes.shape != (1, k, 4) or scores.shape != (1, k) or classes.shape != (1, k):
        raise EngineError(
            "expected boxes (1, K, 4), scores (1, K) and classes (1, K), found "
            f"{boxes.shape}, {scores.shape} and {classes.shape}"
        )
    return boxes[0], scores[0], classes[0]


def _mask(outputs: Outputs, head: SegmentHead, geometry: Geometry) -> Mask:
    """The cells that the source image touches; the padding is cut off."""
    (name,) = head.outputs
    cells = _output(outputs, name)
    (height, width), step = geometry.size_hw, head.stride
    expected = (1, height // step, width // step)
    if cells.shape != expected or cells.dtype != np.uint8 or height % step or width % step:
        raise EngineError(
            f"expected {name} {expected} uint8 for stride {step} of {height}x{width} pixels, "
            f"found {cells.shape} {cells.dtype}"
        )
    (new_h, new_w), top, left = geometry.new_hw, geometry.pad_top, geometry.pad_left
    rows = slice(top // step, -(-(top + new_h) // step))
    columns = slice(left // step, -(-(left + new_w) // step))
    classes = np.array(cells[0, rows, columns], np.uint8, order="C")
    _check_classes(0, int(classes.max()), head)
    return Mask(
        classes=classes,
        size_hw=geometry.source_hw,
        cell=step,
        window=(top % step, left % step, new_h, new_w),
    )


def _scores(outputs: Outputs, head: ClassifyHead) -> Scores:
    (name,) = head.outputs
    row = _output(outputs, name)
    if row.shape != (1, len(head.labels)):
        raise EngineError(f"expected {name} (1, {len(head.labels)}), found {row.shape}")
    probabilities = np.array(row[0], np.float32)
    if not np.isfinite(probabilities).all():
        raise EngineError(f"{name} of the head {head.name!r} are not all finite")
    best = int(probabilities.argmax())
    sure = probabilities[best] >= np.float32(head.thresholds[best])
    return Scores(probabilities=probabilities, label=best if sure else -1)


def _output(outputs: Outputs, name: str) -> NDArray[np.generic]:
    if name not in outputs:
        raise _missing(outputs, name)
    return outputs[name]


def _missing(outputs: Outputs, name: str) -> EngineError:
    return EngineError(f"the engine gave no output {name!r}; it gave {sorted(outputs)}")


def _check_classes(lowest: int, highest: int, head: Head) -> None:
    if lowest < 0 or highest >= len(head.labels):
        wrong = lowest if lowest < 0 else highest
        raise EngineError(f"the head {head.name!r} gave the class {wrong}, it has {len(head.labels)} labels")
