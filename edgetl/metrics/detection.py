"""Average precision of detections, by pycocotools, with merged classes and a smallest height."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.result import Detections

_STDOUT = threading.Lock()


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
    classes are scored.
    """
    scoring = scoring or Scoring()
    names, table = _class_table(classes, scoring)
    evaluator = _evaluator(_coco(truths, names, table), detections, table, len(names), scoring)
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    per_class = {name: _mean(precision[0, :, i]) for i, name in enumerate(names)}
    ap = float("nan") if scoring.ap50_only else _mean(precision)
    return DetectionMetric(_mean(precision[0]), ap, per_class, len(truths))


def _mean(values: NDArray[np.float64]) -> float:
    present = values[values > -1]
    return float(present.mean()) if present.size else float("nan")


def _class_table(classes: Sequence[str], scoring: Scoring) -> tuple[list[str], dict[int, int]]:
    """Names of the scored classes, and old class index -> scored class index."""
    if not scoring.merge:
        return list(classes), {i: i for i in range(len(classes))}
    names = [name for name, _ in scoring.merge]
    table = {classes.index(part): i for i, (_, parts) in enumerate(scoring.merge) for part in parts}
    return names, table


def _coco(truths: Sequence[Truth], names: Sequence[str], table: Mapping[int, int]) -> Any:
    """The ground truth as a pycocotools object, `area` holding the box's height (see _evaluator)."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise MissingPackage("pycocotools", extra="train") from error
    annotations: list[dict[str, Any]] = []
    for image_id, truth in enumerate(truths, start=1):
        for box, label, ignore in zip(truth.boxes.tolist(), truth.labels.tolist(), truth.ignore.tolist(), strict=True):
            if label in table:
                x1, y1, x2, y2 = box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": table[label] + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": y2 - y1,
                        "iscrowd": int(ignore),
                    }
                )
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(1, len(truths) + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in enumerate(names, start=1)],
    }
    with _silent():
        coco.createIndex()
    return coco


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """pycocotools prints. One thread at a time: standard output is the whole process's."""
    with _STDOUT, contextlib.redirect_stdout(io.StringIO()):
        yield


def _evaluator(
    truth: Any, detections: Sequence[Detections], table: Mapping[int, int], classes: int, scoring: Scoring
) -> Any:
    """Run COCOeval once over all areas; its area range works on heights here, so it ignores low boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows: list[dict[str, Any]] = []
    for image_id, found in enumerate(detections, start=1):
        boxes, scores, labels = _scored(found, table)
        for (x1, y1, x2, y2), score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": y2 - y1,
                    "score": score,
                    "iscrowd": 0,
                }
            )
    found_coco = COCO()
    found_coco.dataset = {"images": truth.dataset["images"], "annotations": rows}
    found_coco.dataset["categories"] = [{"id": i} for i in range(1, classes + 1)]
    with _silent():
        found_coco.createIndex()
        evaluation = COCOeval(truth, found_coco, "bbox")
        evaluation.params.areaRng = [[scoring.min_height_px, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.params.maxDets = [100]
        if scoring.ap50_only:
            evaluation.params.iouThrs = evaluation.params.iouThrs[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _scored(
    found: Detections, table: Mapping[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """The detections of scored classes under their new class index."""
    keep = np.isin(found.classes, list(table))
    labels = np.array([table[int(c)] for c in found.classes[keep]], dtype=np.int64)
    return found.boxes_xyxy[keep], found.scores[keep], labels
