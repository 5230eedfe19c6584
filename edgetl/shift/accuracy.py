"""How accurate a network probably is on data without labels: average thresholded confidence (arXiv:2201.04234).

A threshold is put on validation data such that the share of confidences above it is the accuracy there. The share
above it on new data is the estimate. Beside it stands a second one, by how much the mean confidence fell
(arXiv:2107.03315), which is the better one where confidences are calibrated; far apart, neither should be believed.
A network that is sure and wrong on new data fools both, so these are estimates and no measurement.

For boxes they speak of precision: what share of the stated boxes is right. Objects that were missed leave no
confidence, so recall can't be estimated; the number of right boxes an image, beside the same number on validation
data, is all that can be said of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl.metrics.matching import match
from edgetl.metrics.predict import Frames
from edgetl.shift.distances import BOOTSTRAPS, Interval
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head

if TYPE_CHECKING:
    from edgetl.data import Dataset, Sample
    from edgetl.metrics.subject import Subject
    from edgetl_runtime.letterbox import Geometry

Floats = NDArray[np.float64]

LOWEST_SCORE = 0.1
"""Boxes scored lower are hardly ever right and would only count as well known mistakes."""
FEWEST_CONFIDENCES = 20


@dataclass(frozen=True, slots=True)
class Confidences:
    """What one head said of `images` images.

    scores (N,) in 0..1, one for every box or every image. image (N,): which image each belongs to. correct (N,):
    whether it was right, None where no labels are known.
    """

    head: str
    task: str
    scores: Floats
    image: NDArray[np.int64]
    correct: NDArray[np.bool_] | None
    images: int


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """A head's accuracy (classify) or precision (detect) on new data, without its labels.

    threshold: the confidence that was fitted. by_mean: the second estimate, by the difference of mean confidences, in
    0..1. on_reference: measured on the labelled images. true: measured on
    the new data where it has labels, else None. right_per_image and reference_right_per_image: estimated and measured
    number of right boxes an image, None for a whole-image head.
    """

    head: str
    measure: str
    threshold: float
    estimate: Interval
    by_mean: float
    on_reference: float
    true: float | None
    right_per_image: float | None = None
    reference_right_per_image: float | None = None


def fit_threshold(scores: Floats, correct: NDArray[np.bool_]) -> float:
    """The confidence that as large a share of `scores` (N,) exceeds as is `correct` (N,)."""
    ordered = np.sort(scores)
    right = int(np.count_nonzero(correct))
    if right == len(ordered):
        return float(np.nextafter(ordered[0], -np.inf))
    # Between two scores: neither is above by rounding. Equal scores there can't be parted, so the nearest share wins.
    below = ordered[len(ordered) - right - 1]
    if right == 0:
        return float(below)
    candidates = [float(below), float(np.nextafter(below, -np.inf))]
    misses = [abs(np.count_nonzero(scores > c) - right) for c in candidates]
    return candidates[int(np.argmin(misses))]


def estimate_accuracy(
    reference: Confidences, data: Confidences, *, bootstraps: int = BOOTSTRAPS, seed: int = 0
) -> AccuracyEstimate:
    """The estimate for `data` by a threshold fitted on the labelled `reference`; images are drawn for the interval.

    Raises InputError for a reference without labels and for too few confidences on either side.
    """
    if reference.correct is None:
        raise InputError("the reference has no labels, so no threshold can be fitted", remedy="give a labelled one")
    for side, which in ((reference, "the reference"), (data, "the data")):
        if len(side.scores) < FEWEST_CONFIDENCES:
            raise InputError(
                f"{which} gave {len(side.scores)} confidences of the head {side.head}, "
                f"an estimate needs {FEWEST_CONFIDENCES}",
                remedy="give more images",
            )
    rng = np.random.default_rng(seed)
    threshold = fit_threshold(reference.scores, reference.correct)
    value = float(np.mean(data.scores > threshold))
    drawn = []
    for _ in range(bootstraps):
        first, second = _draw(reference, rng), _draw(data, rng)
        if len(first) and len(second):
            again = fit_threshold(reference.scores[first], reference.correct[first])
            drawn.append(float(np.mean(data.scores[second] > again)))
    low, high = np.quantile(drawn or [value], [0.025, 0.975])  # no draw may have met the few images with boxes
    boxes, right = data.task == "detect", float(np.mean(reference.correct))
    by_mean = right + float(np.mean(data.scores)) - float(np.mean(reference.scores))
    return AccuracyEstimate(
        data.head,
        "precision" if boxes else "accuracy",
        threshold,
        Interval(value, float(low), float(high)),
        min(max(by_mean, 0.0), 1.0),
        right,
        float(np.mean(data.correct)) if data.correct is not None else None,
        value * len(data.scores) / data.images if boxes else None,
        float(np.count_nonzero(reference.correct)) / reference.images if boxes else None,
    )


def _draw(side: Confidences, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows of a bootstrap sample of whole images."""
    times = rng.multinomial(side.images, np.full(side.images, 1 / side.images))
    return np.repeat(np.arange(len(side.scores)), times[side.image])


def estimate_heads(
    subject: Subject, reference: Dataset, data: Dataset
) -> tuple[tuple[AccuracyEstimate, ...], tuple[str, ...]]:
    """Estimates for every head that allows one, and for the others a line that says why not."""
    if not speaking(subject.heads):
        return (), _silent(subject.heads)
    known, notes = confidences(subject, Frames(reference, subject.preprocess))
    wanted = {name for name, side in known.items() if side.correct is not None}
    lines = [
        *notes,
        *(f"{n}: the reference has no labels of its classes to fit a threshold on" for n in known if n not in wanted),
    ]
    estimates = []
    seen = confidences(subject, Frames(data, subject.preprocess))[0] if wanted else {}
    for name in known:
        if name in wanted:
            try:
                estimates.append(estimate_accuracy(known[name], seen[name]))
            except InputError as error:
                lines.append(f"{name}: {error.message}")
    return tuple(estimates), tuple(lines)


def confidences(subject: Subject, frames: Frames) -> tuple[dict[str, Confidences], tuple[str, ...]]:
    """What every head of the network says of the frames, by head, and why heads are left out.

    Boxes count as right where they match a labelled one of their class with an IoU of MATCH_IOU, best score first;
    those on ignored objects are left out. Mask heads give classes without confidences and are left out.
    """
    dataset = frames.dataset
    heads = speaking(subject.heads)
    rows: dict[str, list[tuple[Floats, NDArray[np.int64]]]] = {h.name: [] for h in heads}
    aligned = _aligned(subject, dataset)
    if heads:
        with Progress(f"confidences on {dataset.name}", len(dataset), unit="images") as progress:
            for sample, image, geometry in zip(aligned.samples, frames.images, frames.shapes, strict=True):
                outputs = subject.infer(image)
                for head in heads:
                    rows[head.name].append(_of_image(head, outputs, aligned, sample, geometry))
                progress.step()
    return {h.name: _collected(h, rows[h.name], _labelled(h, aligned)) for h in heads}, _silent(subject.heads)


def speaking(heads: Sequence[Head]) -> list[DetectHead | ClassifyHead]:
    """The heads that give confidences."""
    return [h for h in heads if isinstance(h, (DetectHead, ClassifyHead))]


def _silent(heads: Sequence[Head]) -> tuple[str, ...]:
    """A line for each head that gives none."""
    known = speaking(heads)
    return tuple(f"{h.name}: masks come without confidences, so nothing is estimated" for h in heads if h not in known)


def _aligned(subject: Subject, dataset: Dataset) -> Dataset:
    """The dataset in the network's classes; as it is where it has others, and then counts as not labelled."""
    try:
        return subject.align(dataset)
    except InputError:
        return dataset


def _labelled(head: Head, aligned: Dataset) -> bool:
    if isinstance(head, ClassifyHead):
        return aligned.categories == head.labels and all(s.category >= 0 for s in aligned.samples)
    return aligned.classes == head.labels and any(len(s.boxes) for s in aligned.samples)


def _of_image(
    head: Head,
    outputs: Mapping[str, NDArray[np.generic]],
    dataset: Dataset,
    sample: Sample,
    geometry: Geometry,
) -> tuple[Floats, NDArray[np.int64]]:
    """Scores of one image, and for each 1 for right, 0 for wrong, -1 for neither."""
    if isinstance(head, ClassifyHead):
        probabilities = np.asarray(outputs[head.outputs[0]], np.float64)[0]
        best = int(np.argmax(probabilities))
        return probabilities[best : best + 1], np.array([int(best == sample.category)], np.int64)
    boxes, scores, classes = (np.asarray(outputs[name])[0] for name in head.outputs)
    keep = np.isfinite(scores) & (scores >= LOWEST_SCORE) & np.isfinite(boxes).all(axis=1)
    height, width = geometry.source_hw
    truth = sample.boxes * np.array([width, height, width, height], np.float32)
    found = geometry.to_source(boxes[keep].astype(np.float32))
    scores = scores[keep].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    known = dataset.classes == head.labels
    labels = sample.labels if known else np.full(len(sample.labels), -1, np.int64)
    return scores[order], match(found[order], classes[keep][order], truth, labels, sample.ignore)


def _collected(head: Head, rows: Sequence[tuple[Floats, NDArray[np.int64]]], labelled: bool) -> Confidences:
    scores = np.concatenate([s for s, _ in rows]) if rows else np.zeros(0)
    flags = np.concatenate([f for _, f in rows]) if rows else np.zeros(0, np.int64)
    image = np.repeat(np.arange(len(rows)), [len(s) for s, _ in rows]).astype(np.int64)
    task = "classify" if isinstance(head, ClassifyHead) else "detect"
    if not labelled:
        return Confidences(head.name, task, scores, image, None, len(rows))
    counts = flags >= 0
    return Confidences(head.name, task, scores[counts], image[counts], flags[counts] == 1, len(rows))
