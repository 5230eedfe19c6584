"""Accuracy without labels: the threshold, the estimate, matching of boxes, and heads of a network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl.data import Dataset, MaskLayer, Sample
from edgetl.metrics.predict import Frames
from edgetl.metrics.subject import Subject
from edgetl.shift.accuracy import (
    Confidences,
    confidences,
    estimate_accuracy,
    estimate_heads,
    fit_threshold,
)
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, Preprocess, SegmentHead


@pytest.mark.parametrize("right", [0, 1, 7, 19, 20])
def test_the_threshold_gives_the_accuracy_back(right: int) -> None:
    scores = np.random.default_rng(right).permutation(20) / 20
    correct = np.arange(20) < right
    assert np.count_nonzero(scores > fit_threshold(scores, correct)) == right


def test_equal_scores_take_the_nearest_share() -> None:
    scores = np.array([0.5] * 9 + [0.9])
    assert np.mean(scores > fit_threshold(scores, np.arange(10) < 8)) == 1.0
    assert np.mean(scores > fit_threshold(scores, np.arange(10) < 2)) == 0.1


def calibrated(n: int, sharpness: float, seed: int, *, labelled: bool = True) -> Confidences:
    """Scores that are right as often as they say."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(sharpness, 1.0, n)
    correct = rng.random(n) < scores
    return Confidences("classify", "classify", scores, np.arange(n), correct if labelled else None, n)


def test_the_estimate_is_exact_where_a_confidence_says_right_or_wrong() -> None:
    rng = np.random.default_rng(0)
    sides = []
    for a in (4.0, 2.0):
        scores = rng.beta(a, 2.0, 3000)
        sides.append(Confidences("c", "classify", scores, np.arange(3000), scores > 0.4, 3000))
    found = estimate_accuracy(*sides)
    assert found.true is not None and found.true < found.on_reference - 0.1
    assert found.estimate.value == pytest.approx(found.true, abs=0.006)


def test_calibrated_confidences_are_estimated_by_their_mean() -> None:
    reference, data = calibrated(2000, 6.0, 0), calibrated(2000, 3.0, 1)
    found = estimate_accuracy(reference, data)
    assert found.true is not None and found.on_reference == pytest.approx(6 / 7, abs=0.03)
    assert found.by_mean == pytest.approx(found.true, abs=0.03)
    assert found.estimate.high < found.on_reference - 0.05
    assert found.estimate.low < found.estimate.value < found.estimate.high < found.estimate.low + 0.12
    same = estimate_accuracy(reference, calibrated(2000, 6.0, 2, labelled=False))
    assert same.true is None and same.estimate.low < 6 / 7 < same.estimate.high


def test_the_reference_itself_gets_its_own_accuracy_back() -> None:
    scores = np.arange(20) / 20
    side = Confidences("c", "classify", scores, np.arange(20), scores >= 0.65, 20)
    found = estimate_accuracy(side, side)
    assert found.estimate.value == found.on_reference == found.true == pytest.approx(7 / 20)


def test_the_interval_is_that_of_19_in_20_draws() -> None:
    """Half of 400 images are sure: the share's deviation is 0.025, its interval 2 x 1.96 times as wide."""
    scores = np.tile([0.2, 0.9], 200)
    side = Confidences("c", "classify", scores, np.arange(400), scores > 0.5, 400)
    found = estimate_accuracy(side, side).estimate
    assert found.high - found.low == pytest.approx(0.098, rel=0.15)


def test_the_second_estimate_stays_a_share() -> None:
    def side(score: float, right: bool) -> Confidences:
        return Confidences("c", "classify", np.full(20, score), np.arange(20), np.full(20, right), 20)

    assert estimate_accuracy(side(0.5, True), side(0.9, True)).by_mean == 1.0
    assert estimate_accuracy(side(0.9, False), side(0.5, True)).by_mean == 0.0


def test_right_boxes_are_counted_by_each_sides_own_images() -> None:
    sure = np.array([0.9, 0.2] * 20)
    reference = Confidences("d", "detect", sure, np.repeat(np.arange(20), 2), sure > 0.5, 25)
    data = Confidences("d", "detect", sure, np.repeat(np.arange(10), 4), None, 10)
    found = estimate_accuracy(reference, data)
    assert found.estimate.value == 0.5
    assert found.right_per_image == pytest.approx(20 / 10)
    assert found.reference_right_per_image == pytest.approx(20 / 25)


def test_images_are_drawn_whole() -> None:
    """Ten boxes an image that agree: the interval is that of images, more than twice as wide as that of boxes."""
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.random(60), 10)
    correct = scores > 0.5
    by_image = Confidences("d", "detect", scores, np.repeat(np.arange(60), 10), correct, 60)
    by_box = Confidences("d", "detect", scores, np.arange(600), correct, 600)
    widths = [e.high - e.low for e in (estimate_accuracy(c, c).estimate for c in (by_image, by_box))]
    assert widths[0] > 2 * widths[1]


def test_no_labels_or_too_few_are_refused() -> None:
    with pytest.raises(InputError, match="no labels"):
        estimate_accuracy(calibrated(50, 5, 0, labelled=False), calibrated(50, 5, 1))
    with pytest.raises(InputError, match="the data gave 5 confidences"):
        estimate_accuracy(calibrated(50, 5, 0), calibrated(5, 5, 1))
    with pytest.raises(InputError, match="the reference gave 5 confidences"):
        estimate_accuracy(calibrated(5, 5, 0), calibrated(50, 5, 1))


PREPROCESS = Preprocess(size_hw=(32, 64), mean=(0, 0, 0), std=(1, 1, 1))
DETECT = DetectHead(labels=("car", "bus"), max_detections=4, thresholds=(0.3, 0.3), stride=4)
CLASSIFY = ClassifyHead(labels=("dark", "light"), thresholds=(0.0, 0.0))
SEGMENT = SegmentHead(name="drivable", labels=("no", "yes"), stride=4)


def dataset(folder: Path, levels: list[int], *, labelled: bool = True) -> Dataset:
    """Images 128 x 64 (twice the network's input) of one grey each, with a car in the left half."""
    samples = []
    for i, level in enumerate(levels):
        path = folder / f"{i}-{level}.png"
        cv2.imwrite(str(path), np.full((64, 128, 3), level, np.uint8))
        box = np.array([[0, 0, 0.5, 1]] if labelled else np.zeros((0, 4)), np.float32)
        n = len(box)
        samples.append(
            Sample(path, box, np.zeros(n, np.int64), np.zeros(n, np.bool_), str(i), category=int(level > 127))
        )
    if not labelled:
        return Dataset("plain", (), tuple(samples))
    return Dataset("drawn", DETECT.labels, tuple(samples), CLASSIFY.labels, (MaskLayer("drivable", ("no", "yes")),))


def network(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Sees the car, calls it a bus in dark frames; the category by brightness; one box too low to count."""
    light = float(frame.mean()) / 255
    left, right = [0, 0, 32, 32], [32, 0, 64, 32]
    return {
        "boxes": np.array([[left, right, left, left]], np.float32),
        "scores": np.array([[0.5 + light / 2, 0.2, 0.05, np.nan]], np.float32),
        "classes": np.array([[int(light < 0.2), 0, 0, 0]]),
        "probabilities": np.array([[1 - light, light]], np.float32),
        "mask_drivable": np.zeros((1, 8, 16), np.uint8),
    }


def test_confidences_of_every_head(tmp_path: Path) -> None:
    subject = Subject(network, (DETECT, CLASSIFY, SEGMENT), PREPROCESS, "fake", "fp32")
    found, notes = confidences(subject, Frames(dataset(tmp_path, [20, 200]), PREPROCESS))
    detect, classify = found["detect"], found["classify"]
    assert detect.scores.round(3).tolist() == [0.539, 0.2, 0.892, 0.2]
    assert detect.image.tolist() == [0, 0, 1, 1] and detect.images == 2
    assert detect.correct is not None and detect.correct.tolist() == [False, False, True, False]
    assert classify.correct is not None and classify.correct.tolist() == [True, True]
    assert classify.scores.round(2).tolist() == [0.92, 0.78]
    assert len(notes) == 1 and "drivable" in notes[0]


def test_boxes_on_an_ignored_object_are_left_out(tmp_path: Path) -> None:
    data = dataset(tmp_path, [20, 200])
    boxes, labels, ignore = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], np.float32), np.zeros(2, np.int64), [False, True]
    samples = (
        dataclasses.replace(s, boxes=boxes, labels=labels, ignore=np.array(ignore, np.bool_)) for s in data.samples
    )
    crowded = dataclasses.replace(data, samples=tuple(samples))
    subject = Subject(network, (DETECT,), PREPROCESS, "fake", "fp32")
    detect = confidences(subject, Frames(crowded, PREPROCESS))[0]["detect"]
    assert detect.scores.round(3).tolist() == [0.539, 0.892] and detect.image.tolist() == [0, 1]
    assert detect.correct is not None and detect.correct.tolist() == [False, True]


def test_of_two_boxes_on_one_object_the_surer_is_right(tmp_path: Path) -> None:
    def rising(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        outputs = network(frame)
        scores = np.array([[0.3, 0.9, 0.05, np.nan]], np.float32)
        return outputs | {
            "boxes": outputs["boxes"][:, [0, 0, 2, 3]],
            "scores": scores,
            "classes": np.zeros((1, 4), int),
        }

    subject = Subject(rising, (DETECT,), PREPROCESS, "fake", "fp32")
    detect = confidences(subject, Frames(dataset(tmp_path, [200]), PREPROCESS))[0]["detect"]
    assert detect.scores.round(3).tolist() == [0.9, 0.3]
    assert detect.correct is not None and detect.correct.tolist() == [True, False]


def test_a_box_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    def broken(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        outputs = network(frame)
        boxes = outputs["boxes"].copy()
        boxes[0, 1, 2] = np.nan
        return outputs | {"boxes": boxes}

    subject = Subject(broken, (DETECT,), PREPROCESS, "fake", "fp32")
    detect = confidences(subject, Frames(dataset(tmp_path, [200]), PREPROCESS))[0]["detect"]
    assert detect.scores.round(3).tolist() == [0.892]


def test_one_image_without_a_category_leaves_no_accuracy(tmp_path: Path) -> None:
    data = dataset(tmp_path, [20, 200])
    part = dataclasses.replace(data, samples=(data.samples[0], dataclasses.replace(data.samples[1], category=-1)))
    subject = Subject(network, (CLASSIFY,), PREPROCESS, "fake", "fp32")
    assert confidences(subject, Frames(part, PREPROCESS))[0]["classify"].correct is None


def test_data_without_labels_has_no_truth(tmp_path: Path) -> None:
    subject = Subject(network, (DETECT, CLASSIFY), PREPROCESS, "fake", "fp32")
    found, _ = confidences(subject, Frames(dataset(tmp_path, [20, 200], labelled=False), PREPROCESS))
    assert found["detect"].correct is None and found["classify"].correct is None
    assert len(found["detect"].scores) == 4


def test_categories_in_another_order_are_the_networks(tmp_path: Path) -> None:
    """As folders of classes give them: in the order of their names, and only those that there are."""
    data = dataset(tmp_path, [200, 220])
    only_light = dataclasses.replace(
        data, categories=("light",), samples=tuple(dataclasses.replace(s, category=0) for s in data.samples)
    )
    subject = Subject(network, (CLASSIFY,), PREPROCESS, "fake", "fp32")
    classify = confidences(subject, Frames(only_light, PREPROCESS))[0]["classify"]
    assert classify.correct is not None and classify.correct.tolist() == [True, True]
    strange = dataclasses.replace(only_light, categories=("pink",))
    assert confidences(subject, Frames(strange, PREPROCESS))[0]["classify"].correct is None


def test_boxes_of_no_class_of_the_networks_are_no_labels(tmp_path: Path) -> None:
    data = dataclasses.replace(dataset(tmp_path, [20, 200]), classes=("tree", "bus"))
    subject = Subject(network, (DETECT,), PREPROCESS, "fake", "fp32", {"detect": {"car": ["lorry"]}})
    assert confidences(subject, Frames(data, PREPROCESS))[0]["detect"].correct is None


def test_the_notes_are_in_the_order_of_the_heads(tmp_path: Path) -> None:
    heads = tuple(msgspec.structs.replace(CLASSIFY, name=f"h{i}") for i in range(8))
    subject = Subject(network, heads, PREPROCESS, "fake", "fp32")
    bare = dataset(tmp_path, [20], labelled=False)
    assert [n.partition(":")[0] for n in estimate_heads(subject, bare, bare)[1]] == [h.name for h in heads]


def test_estimates_of_a_network_on_darker_data(tmp_path: Path) -> None:
    subject = Subject(network, (DETECT, CLASSIFY, SEGMENT), PREPROCESS, "fake", "fp32")
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    levels = [30 + 8 * i for i in range(26)]
    reference, dark = dataset(tmp_path / "a", levels), dataset(tmp_path / "b", [10 + 3 * i for i in range(26)])
    estimates, notes = estimate_heads(subject, reference, dark)
    boxes = {e.head: e for e in estimates}["detect"]
    assert boxes.measure == "precision" and boxes.true is not None
    assert boxes.true < boxes.on_reference and boxes.estimate.value < boxes.on_reference
    assert boxes.reference_right_per_image is not None and boxes.reference_right_per_image <= 1
    assert any("drivable" in n for n in notes)
    none, why = estimate_heads(subject, dataset(tmp_path / "a", levels, labelled=False), dark)
    assert none == () and sum("no labels" in n for n in why) == 2
