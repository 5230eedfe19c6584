"""Scores that mean what they say: a temperature and thresholds for each class, fitted on validation images.

Temperature after Guo et al. 2017 (arXiv:1706.04599): one number that divides the logits. It moves no detection past
another within a class, so average precision and accuracy stay; only the scores change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Kind
from edgetl.heads.detect import truth_of
from edgetl.metrics.matching import match
from edgetl.metrics.predict import Frames, Infer
from edgetl_runtime.decode import decode
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, Reliability, SegmentHead, at_threshold

BINS = 10
LOWEST_SCORE = 0.05
"""Detections below this are background to every user; they would drown the others in the fit."""
FEWEST = 8
"""A class with fewer right answers than this takes the threshold of all classes together."""
TEMPERATURES = np.geomspace(0.25, 4.0, 121)


class Answers(NamedTuple):
    """Every answer of a head on labelled frames. score (N,) of the class, in 0..1; right (N,); label (N,) of the
    class; wanted: how many objects or frames each class has. The scores are those of temperature 1."""

    score: NDArray[np.float64]
    right: NDArray[np.bool_]
    label: NDArray[np.int64]
    wanted: NDArray[np.int64]
    logits: NDArray[np.float64]


def fit_trust(infer: Infer, frames: Frames, kinds: Sequence[Kind]) -> tuple[tuple[Head, ...], dict[str, Reliability]]:
    """The heads with fitted temperature and thresholds, and how reliable the scores are, by head.

    infer: the network at temperature 1. Heads without scores, or without labels here, stay as they are.
    """
    heads, reliability = [], {}
    for kind in kinds:
        head = kind.head
        if not isinstance(head, (DetectHead, ClassifyHead)) or not kind.labelled(frames.dataset):
            heads.append(head)
            continue
        answers = _detected(infer, frames, head) if isinstance(head, DetectHead) else _classified(infer, frames, head)
        temperature = best_temperature(answers, softmax=isinstance(head, ClassifyHead))
        after = _at(answers, temperature, softmax=isinstance(head, ClassifyHead))
        thresholds = best_thresholds(after, answers.right, answers.label, answers.wanted)
        heads.append(msgspec.structs.replace(head, temperature=round(temperature, 4), thresholds=thresholds))
        reliability[head.name] = Reliability(
            before=bins(answers.score, answers.right),
            after=bins(after, answers.right),
            error_before=calibration_error(answers.score, answers.right),
            error_after=calibration_error(after, answers.right),
            answers=len(answers.score),
        )
    return tuple(heads), reliability


def untempered(heads: Sequence[Head]) -> tuple[Head, ...]:
    """The heads with temperature 1, for fitting anew."""
    return tuple(h if isinstance(h, SegmentHead) else msgspec.structs.replace(h, temperature=1.0) for h in heads)


def _detected(infer: Infer, frames: Frames, head: DetectHead) -> Answers:
    plain = at_threshold(head, LOWEST_SCORE)
    scores, rights, labels = [], [], []
    wanted = np.zeros(len(head.labels), np.int64)
    for index, (image, shape) in enumerate(zip(frames.images, frames.shapes, strict=True)):
        found = decode(infer(image), plain, shape)
        assert isinstance(found, Detections)
        truth = truth_of(frames.dataset, index, shape)
        flags = match(found.boxes_xyxy, found.classes, truth.boxes, truth.labels, truth.ignore)
        counts = flags >= 0
        scores.append(found.scores[counts])
        rights.append(flags[counts] == 1)
        labels.append(found.classes[counts])
        wanted += np.bincount(truth.labels[~truth.ignore], minlength=len(head.labels))
    score = np.concatenate(scores).astype(np.float64).clip(1e-6, 1 - 1e-6)
    return Answers(score, np.concatenate(rights), np.concatenate(labels), wanted, np.log(score / (1 - score))[:, None])


def _classified(infer: Infer, frames: Frames, head: ClassifyHead) -> Answers:
    rows, truths = [], []
    for index, image in enumerate(frames.images):
        category = frames.dataset.samples[index].category
        if category >= 0:
            rows.append(np.array(infer(image)["probabilities"], np.float64)[0])
            truths.append(category)
    logits, truth = np.log(np.stack(rows).clip(1e-12)), np.array(truths)
    label = logits.argmax(1)
    score = np.exp(logits).max(1)
    wanted = np.bincount(truth, minlength=len(head.labels))
    return Answers(score, label == truth, label, wanted, logits)


def _at(answers: Answers, temperature: float, *, softmax: bool) -> NDArray[np.float64]:
    """The answers' scores at this temperature."""
    scaled = answers.logits / temperature
    if not softmax:
        return np.asarray(1 / (1 + np.exp(-scaled[:, 0])))
    scaled -= scaled.max(1, keepdims=True)
    shares = np.exp(scaled)
    return np.asarray((shares / shares.sum(1, keepdims=True)).max(1))


def best_temperature(answers: Answers, *, softmax: bool) -> float:
    """The temperature of least negative log likelihood of right and wrong; 1 where there is nothing to fit by, or
    where it would not make the scores more reliable."""
    if not answers.right.any() or answers.right.all():
        return 1.0
    losses = []
    for t in TEMPERATURES:
        score = _at(answers, float(t), softmax=softmax).clip(1e-9, 1 - 1e-9)
        losses.append(-np.where(answers.right, np.log(score), np.log(1 - score)).mean())
    best = float(TEMPERATURES[int(np.argmin(losses))])
    before = calibration_error(answers.score, answers.right)
    after = calibration_error(_at(answers, best, softmax=softmax), answers.right)
    return best if after < before else 1.0


def best_thresholds(
    score: NDArray[np.float64], right: NDArray[np.bool_], label: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[float, ...]:
    """For each class the score with the best F1; classes with few right answers take that of all together."""
    together = _best_f1(score, right, int(wanted.sum()))
    found = []
    for index, number in enumerate(wanted):
        own = label == index
        enough = int(right[own].sum()) >= FEWEST
        found.append(round(_best_f1(score[own], right[own], int(number)) if enough else together, 4))
    return tuple(found)


def _best_f1(score: NDArray[np.float64], right: NDArray[np.bool_], wanted: int) -> float:
    """Half-way between the last score that counts and the next, at the best F1; 0.3 where nothing is right."""
    if not right.any():
        return 0.3
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(wanted, int(hits[-1])))
    f1[:-1][ordered[1:] == ordered[:-1]] = 0.0  # no threshold parts equal scores
    last = int(f1.argmax())
    low = ordered[last + 1] if last + 1 < len(order) else 0.0
    return float((ordered[last] + low) / 2)


def bins(score: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    """Ten bins of equal width that hold anything: mean score, share that is right, how many."""
    place = (score * BINS).astype(int).clip(0, BINS - 1)
    held = [(score[place == b], right[place == b]) for b in range(BINS)]
    return tuple((float(s.mean()), float(r.mean()), len(s)) for s, r in held if len(s))


def calibration_error(score: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: |mean score - share right| over the bins, weighted by how many they hold."""
    total = max(len(score), 1)
    return sum(n / total * abs(s - r) for s, r, n in bins(score, right))
