"""Scores that mean what they say: known temperatures come back, thresholds are the best by brute force."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from edgetl.data import Dataset, MaskLayer, Sample
from edgetl.heads import heads_for, kinds_of
from edgetl.training import trust
from edgetl.training.trust import (
    Answers,
    _classified,
    _detected,
    best_temperature,
    best_thresholds,
    bins,
    calibration_error,
    fit_trust,
    untempered,
)
from edgetl_runtime.letterbox import geometry


def boxes_at(temperature: float, count: int = 20_000) -> Answers:
    """Detections whose calibrated logits were multiplied by `temperature`."""
    rng = np.random.default_rng(0)
    honest = rng.normal(-0.5, 1.5, count)
    right = rng.random(count) < 1 / (1 + np.exp(-honest))
    logits = honest * temperature
    score = 1 / (1 + np.exp(-logits))
    return Answers(score, right, np.zeros(count, np.int64), np.array([count]), logits[:, None])


def categories_at(temperature: float, count: int = 20_000) -> Answers:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 1.5, (count, 4))
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = (shares.cumsum(1) > rng.random(count)[:, None]).argmax(1)
    logits = honest * temperature
    scaled = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = logits.argmax(1)
    return Answers(scaled.max(1), label == truth, label, np.bincount(truth, minlength=4), logits)


@pytest.mark.parametrize("temperature", [0.5, 1.5, 3.0])
def test_a_known_temperature_comes_back(temperature: float) -> None:
    assert best_temperature(boxes_at(temperature), softmax=False) == pytest.approx(temperature, rel=0.06)
    assert best_temperature(categories_at(temperature), softmax=True) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("all_right", [True, False])
def test_nothing_to_fit_by_leaves_the_scores(all_right: bool) -> None:
    answers = boxes_at(2.0, 50)._replace(right=np.full(50, all_right))
    assert best_temperature(answers, softmax=False) == 1.0
    nothing = Answers(*(a[:0] for a in answers[:3]), np.array([3]), answers.logits[:0])
    assert best_temperature(nothing, softmax=False) == 1.0


def test_reliable_scores_are_not_made_worse() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        score = rng.uniform(0.05, 0.95, 40)
        right = rng.random(40) < score
        answers = Answers(score, right, np.zeros(40, np.int64), np.array([40]), np.log(score / (1 - score))[:, None])
        temperature = best_temperature(answers, softmax=False)
        after = 1 / (1 + np.exp(-answers.logits[:, 0] / temperature))
        assert calibration_error(after, right) <= calibration_error(score, right) + 1e-9


def f1_of(threshold: float, score: np.ndarray, right: np.ndarray, wanted: int) -> float:
    kept = score >= threshold
    hits = int(right[kept].sum())
    return 2 * hits / max(int(kept.sum()) + wanted, 1)


@pytest.mark.parametrize("seed", range(6))
def test_thresholds_are_the_best_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, classes = 300, 3
    label = rng.integers(0, classes, count)
    score = rng.uniform(0.05, 1, count)
    right = rng.random(count) < score**2
    wanted = np.array([int(right[label == c].sum()) + 5 * (c + 1) for c in range(classes)])
    found = best_thresholds(score, right, label, wanted)
    for c in range(classes):
        own = label == c
        best = max(f1_of(t, score[own], right[own], int(wanted[c])) for t in score[own])
        assert f1_of(found[c], score[own], right[own], int(wanted[c])) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("scores", [(1 / 3, 2 / 3, 0.9), tuple(np.arange(1, 11) / 10)])
def test_no_threshold_parts_equal_scores(scores: tuple[float, ...]) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        score = rng.choice(scores, 60)
        right = np.sort(rng.random(60) < score**2)[::-1]
        wanted = int(right.sum()) + 5
        (found,) = best_thresholds(score, right, np.zeros(60, np.int64), np.array([wanted]))
        best = max(f1_of(t, score, right, wanted) for t in score)
        assert f1_of(found, score, right, wanted) == pytest.approx(best, abs=1e-9)


def test_a_network_that_is_always_as_sure_keeps_its_answers() -> None:
    score = np.full(10, 2 / 3)
    assert best_thresholds(score, np.arange(10) < 8, np.zeros(10, np.int64), np.array([10])) == (0.3333,)


def test_a_class_with_few_right_answers_takes_the_threshold_of_all() -> None:
    rng = np.random.default_rng(3)
    label = np.array([0] * 100 + [1] * 5)
    score = np.concatenate([rng.uniform(0.1, 1, 100), [0.11, 0.12, 0.13, 0.14, 0.15]])
    right = np.concatenate([score[:100] > 0.55, np.ones(5, np.bool_)])
    common, rare = best_thresholds(score, right, label, np.array([int(right[:100].sum()), 5]))
    assert common == pytest.approx(0.55, abs=0.02)
    together = max(f1_of(t, score, right, int(right.sum())) for t in score)
    assert f1_of(rare, score, right, int(right.sum())) == pytest.approx(together, abs=1e-9)


def test_no_right_answer_keeps_the_usual_threshold() -> None:
    none = np.zeros(0)
    assert best_thresholds(none, none.astype(bool), none.astype(int), np.array([0, 4])) == (0.3, 0.3)


def test_bins_and_calibration_error_by_hand() -> None:
    score = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    right = np.array([False, True, False, True, False])
    assert bins(score, right) == (
        (0.05, 0.0, 1),
        (0.15, 0.5, 2),
        (pytest.approx(0.975), 0.5, 2),
    )
    assert calibration_error(score, right) == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.475) / 5)
    assert bins(score[:0], right[:0]) == () and calibration_error(score[:0], right[:0]) == 0


class Frames:
    """Numbered frames of nothing, 100x100, as a stand-in for pictures."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.images = [np.full((1, 100, 100, 3), i % 256, np.uint8) for i in range(len(dataset))]
        self.shapes = [geometry((100, 100), (100, 100))] * len(dataset)


def drawn(count: int) -> Dataset:
    """A car left in every frame, a person right whose labels are ignored; every third frame is of night."""
    boxes = np.array([[0, 0, 0.4, 0.4], [0.6, 0.6, 1, 1]], np.float32)
    one = Sample(None, boxes, np.array([0, 1]), np.array([False, True]), "a")  # type: ignore[arg-type]
    samples = tuple(dataclasses.replace(one, category=int(i % 3 == 0)) for i in range(count))
    return Dataset("d", ("car", "person"), samples, ("day", "night"), (MaskLayer("ground", ("other", "road")),))


def test_a_whole_fit_over_frames() -> None:
    """Right boxes at 0.8, wrong ones at 0.4 in every other frame, background at 0.01; ignored persons don't count."""
    data = drawn(60)
    kinds = kinds_of(heads_for(data, ("detect", "segment", "classify")), data)

    def infer(frame: np.ndarray) -> dict[str, np.ndarray]:
        index = int(frame.flat[0])
        wrong = 0.4 if index % 2 else 0.01
        sure = 0.9 if index % 5 else 0.6
        night = index % 3 == 0 and index % 2 == 0
        row = [1 - sure, sure] if night else [sure, 1 - sure]
        boxes = [[0, 0, 40, 40], [60, 60, 100, 100], [0, 60, 40, 100], [50, 0, 90, 40]]
        return {
            "boxes": np.array([boxes], np.float32),
            "scores": np.array([[0.8, 0.7, wrong, 0.01]], np.float32),
            "classes": np.array([[0, 1, 0, 0]], np.int64),
            "probabilities": np.array([row], np.float32),
        }

    heads, reliability = fit_trust(infer, Frames(data), kinds)  # type: ignore[arg-type]
    detect, ground, _ = heads
    assert set(reliability) == {"detect", "classify"} and ground == kinds[1].head
    assert reliability["detect"].answers == 60 + 30, "ignored objects and background are no answers"
    assert _detected(infer, Frames(data), kinds[0].head).wanted.tolist() == [60, 0]  # type: ignore[arg-type]
    assert [(r, n) for _, r, n in reliability["detect"].before] == [(0.0, 30), (1.0, 60)]
    assert detect.temperature < 1, "scores of 0.8 and 0.4 for always and never are too timid"
    low, high = (1 / (1 + (1 / s - 1) ** (1 / detect.temperature)) for s in (0.4, 0.8))
    assert detect.thresholds == (pytest.approx((low + high) / 2, abs=1e-3),) * 2, "of the scores as they will be"
    after = reliability["detect"].after
    assert [(r, n) for _, r, n in after] == [(0.0, 30), (1.0, 60)]
    assert [s for s, _, _ in after] == [pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3)]
    for name in reliability:
        assert reliability[name].error_after <= reliability[name].error_before
    assert reliability["classify"].answers == 60
    bare = (*data.samples[:30], *(dataclasses.replace(s, category=-1) for s in data.samples[30:]))
    some = Frames(dataclasses.replace(data, samples=bare))
    assert len(_classified(infer, some, kinds[2].head).score) == 30  # type: ignore[arg-type]
    assert untempered(heads) == tuple(
        h if i == 1 else msgspec.structs.replace(h, temperature=1.0) for i, h in enumerate(heads)
    )


def test_heads_without_labels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn(3)
    kinds = kinds_of(heads_for(data, ("detect", "classify")), data)
    bare = dataclasses.replace(
        data, samples=tuple(dataclasses.replace(s, category=-1, ignore=s.ignore | True) for s in data.samples)
    )
    monkeypatch.setattr(trust, "decode", None)
    heads, reliability = fit_trust(lambda frame: {}, Frames(bare), kinds)  # type: ignore[arg-type]
    assert heads == tuple(k.head for k in kinds) and reliability == {}
