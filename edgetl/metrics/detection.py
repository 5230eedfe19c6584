"""Average precision of detections as COCO defines it, with merged classes and a smallest height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.metrics.matching import match_at
from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Detections

IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
"""Of an image and class."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What stands in one image: boxes (N, 4) x1, y1, x2, y2 in source pixels, labels (N,), ignore (N,)."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DetectionMetric:
    """ap50 and ap (0.50:0.95) over classes that occur, in 0..1; NaN where no object counts, or AP50 alone is wanted."""

    ap50: float
    ap: float
    per_class: dict[str, float]
    images: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """merge: new class -> old classes scored as one (others are left out when given). min_height in source px.

    ap50_only: leave out AP at higher overlaps, which is NaN then: most of the work.
    """

    merge: tuple[tuple[str, tuple[str, ...]], ...] = ()
    min_height_px: float = 0.0
    ap50_only: bool = False


def parse_merge(texts: Sequence[str], classes: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """`vehicle=car,bus,truck` arguments. Raises InputError for a class that is not there, or merged twice."""
    merged: list[tuple[str, tuple[str, ...]]] = []
    for text in texts:
        name, _, rest = text.partition("=")
        parts = tuple(p.strip() for p in rest.split(",") if p.strip())
        unknown = [p for p in parts if p not in classes]
        if not name or not parts or unknown:
            raise InputError(
                f"--merge {text}: " + (f"no class {unknown[0]!r}" if unknown else "expected NAME=CLASS,CLASS"),
                remedy=f"classes are: {', '.join(classes)}",
            )
        twice = [p for i, p in enumerate(parts) if p in parts[:i] or any(p in other for _, other in merged)]
        if twice or name in dict(merged):
            raise InputError(
                f"--merge {text}: {twice[0] if twice else name!r} is given twice", remedy="merge each class once"
            )
        merged.append((name, parts))
    return tuple(merged)


def average_precision(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    classes: Sequence[str],
    scoring: Scoring | None = None,
) -> DetectionMetric:
    """COCO average precision (101 recall points, at most 100 detections an image and class).

    Boxes below `min_height_px` are neither right nor wrong, on both sides. With `merge`, only the merged
    classes are scored. The same as pycocotools' COCOeval, which tests hold it to; that makes dictionaries of boxes and
    prints: 0.3 to 0.5 s for 250 images of 100 boxes, where this takes 0.1 s.
    """
    scoring = scoring or Scoring()
    names, table = _class_table(classes, scoring)
    ious = IOUS[:1] if scoring.ap50_only else IOUS
    wanted = np.zeros(len(names), np.int64)
    scores, labels, flags = [], [], []
    for truth, found in zip(truths, detections, strict=True):
        own, low = _new_labels(truth.labels, table), _heights(truth.boxes) < scoring.min_height_px
        wanted += np.bincount(own[(own >= 0) & ~truth.ignore & ~low], minlength=len(names))
        boxes, score, label = _best(found, table)
        right = match_at(ious, boxes, label, truth.boxes, own, truth.ignore, low)
        flags.append(np.where((right == 0) & (_heights(boxes) < scoring.min_height_px), -1, right))
        scores.append(score)
        labels.append(label)
    if not truths:
        return DetectionMetric(float("nan"), float("nan"), dict.fromkeys(names, float("nan")), 0)
    by = _Found(np.concatenate(scores), np.concatenate(labels), np.concatenate(flags, axis=1))
    precision = np.stack([_precision(by, label, int(count)) for label, count in enumerate(wanted)], axis=1)
    per_class = {name: float(precision[0, i].mean()) for i, name in enumerate(names)}
    ap = float("nan") if scoring.ap50_only else _mean(precision)
    return DetectionMetric(_mean(precision[:1]), ap, per_class, len(truths))


@dataclass(frozen=True, slots=True)
class _Found:
    """All detections: scores (N,), labels (N,), flags (T, N) as `match` gives them at T overlaps."""

    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    flags: NDArray[np.int64]


def _precision(found: _Found, label: int, wanted: int) -> NDArray[np.float64]:
    """(T, 101) highest precision of one class at each recall or above; NaN where no object of it counts."""
    result = np.full((len(found.flags), len(RECALLS)), np.nan)
    if not wanted:
        return result
    own = found.labels == label
    flags = found.flags[:, own][:, np.argsort(-found.scores[own], kind="stable")]
    for row, each in zip(result, flags, strict=True):
        counted = each[each >= 0]
        hits = np.cumsum(counted)
        precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
        at = np.searchsorted(hits / wanted, RECALLS)
        row[:] = np.append(precision, 0.0)[at]
    return result


def _mean(precision: NDArray[np.float64]) -> float:
    """The mean over classes (axis 1) that occur; NaN where none does."""
    present = precision[:, ~np.isnan(precision[0, :, 0])]
    return float(present.mean()) if present.size else float("nan")


def _class_table(classes: Sequence[str], scoring: Scoring) -> tuple[list[str], dict[int, int]]:
    """Names of the scored classes, and old class index -> scored class index."""
    if not scoring.merge:
        return list(classes), {i: i for i in range(len(classes))}
    names = [name for name, _ in scoring.merge]
    table = {classes.index(part): i for i, (_, parts) in enumerate(scoring.merge) for part in parts}
    return names, table


def _new_labels(labels: NDArray[np.integer], table: Mapping[int, int]) -> NDArray[np.int64]:
    """Class indices as they are scored, -1 for those left out."""
    return np.array([table.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def _heights(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    heights: NDArray[np.float64] = boxes[:, 3].astype(np.float64) - boxes[:, 1]
    return heights


def _best(
    found: Detections, table: Mapping[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The detections of scored classes under their new class index, the best of each class, the highest score first."""
    labels = _new_labels(found.classes, table)
    order = np.argsort(-found.scores, kind="stable")
    order = order[labels[order] >= 0]
    if len(order) > MOST_DETECTIONS:
        kept = [order[labels[order] == label][:MOST_DETECTIONS] for label in np.unique(labels[order])]
        order = order[np.isin(order, np.concatenate(kept))]
    return found.boxes_xyxy[order], found.scores[order], labels[order]
