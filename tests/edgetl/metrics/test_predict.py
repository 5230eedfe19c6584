"""Scoring a network: every head with labels, each frame once, at the place where it lies."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import Dataset, read_dataset, read_image
from edgetl.heads import HeadMetric, heads_for, kinds_of
from edgetl.metrics.detection import Scoring
from edgetl.metrics.predict import Evaluation, Frames, FramesOnce, evaluate, letterboxed, remembering, scored_kinds
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Letterbox, reference_letterbox
from edgetl_runtime.spec import Preprocess

PREPROCESS = Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture
def data(scenes: Path) -> Dataset:
    return read_dataset(scenes, "val")


class Oracle:
    """A network that knows the labels: finds every box, and the mask at stride 2, of the frame it is shown."""

    def __init__(self, frames: Frames) -> None:
        self.frames, self.calls = frames, 0

    def __call__(self, frame: np.ndarray) -> dict[str, np.ndarray]:
        self.calls += 1
        index = next(i for i, image in enumerate(self.frames.images) if np.array_equal(image, frame))
        sample, place = self.frames.dataset.samples[index], self.frames.shapes[index]
        height, width = place.source_hw
        boxes = place.to_network(sample.boxes * np.array([width, height, width, height], np.float32))
        mask = cv2.imread(str(sample.masks[0]), cv2.IMREAD_UNCHANGED)
        mask[mask == 255] = 0
        scaled = cv2.resize(mask, (place.new_hw[1], place.new_hw[0]), interpolation=cv2.INTER_NEAREST)
        whole = np.zeros((64, 96), np.uint8)
        whole[place.pad_top : place.pad_top + place.new_hw[0], place.pad_left : place.pad_left + place.new_hw[1]] = (
            scaled
        )
        return {
            "boxes": boxes[None],
            "scores": np.full((1, len(boxes)), 0.9, np.float32),
            "classes": sample.labels[None],
            "mask_ground": whole[None, 1::2, 1::2],
        }


def test_who_knows_the_labels_scores_all(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect", "segment")), data)
    frames = Frames(data, PREPROCESS)
    oracle = Oracle(frames)
    found = evaluate(oracle, frames, kinds)
    assert oracle.calls == len(frames) == found.images == 4, "all heads are scored by one run"
    assert found.heads["detect"].value == pytest.approx(1)
    assert found.heads["ground"].value > 0.93, "a mask at half the size can't be exact at edges"
    assert found.metric == "mean" and found.value == pytest.approx(np.mean(list(found.values.values())))


def test_frames_that_are_wanted_once_lie_in_one_buffer_and_score_alike(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect", "segment")), data)
    frames = Frames(data, PREPROCESS)
    oracle, buffers = Oracle(frames), []

    def seen(frame: np.ndarray) -> dict[str, np.ndarray]:
        buffers.append(frame)
        return oracle(frame)

    once = FramesOnce(data, PREPROCESS)
    assert evaluate(seen, once, kinds).values == evaluate(oracle, frames, kinds).values
    assert len(buffers) == len(once) == 4 and all(b is buffers[0] for b in buffers)


def test_the_same_answer_for_every_frame_scores_low(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect", "segment")), data)
    frames = Frames(data, PREPROCESS)
    oracle = Oracle(frames)
    stuck = evaluate(lambda frame: oracle(frames.images[0]), frames, kinds)
    assert stuck.heads["detect"].value < 0.6


def test_scoring_reaches_the_boxes(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect",)), data)
    frames = Frames(data, PREPROCESS)
    merged = evaluate(Oracle(frames), frames, kinds, scoring=Scoring(merge=(("thing", ("car", "person")),)))
    assert set(merged.heads["detect"].per_class) == {"thing"}
    assert math.isnan(evaluate(Oracle(frames), frames, kinds, scoring=Scoring(min_height_px=99)).value)


def test_frames_are_letterboxed_copies(data: Dataset) -> None:
    frames = Frames(data, PREPROCESS)
    for image, sample in zip(frames.images, data.samples, strict=True):
        wanted = reference_letterbox(read_image(sample.image), PREPROCESS)
        assert np.abs(image.astype(int) - wanted).max() <= 2
    assert len({id(i) for i in frames.images}) == 4 and not np.array_equal(frames.images[0], frames.images[1])


def test_only_heads_with_labels_are_scored(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect", "segment")), data)
    bare = dataclasses.replace(
        data, samples=tuple(dataclasses.replace(s, ignore=np.ones(len(s.boxes), np.bool_)) for s in data.samples)
    )
    assert [k.head.name for k in scored_kinds(kinds, data)] == ["detect", "ground"]
    assert [k.head.name for k in scored_kinds(kinds, bare)] == ["ground"]
    frames = Frames(bare, PREPROCESS)
    assert evaluate(Oracle(frames), frames, kinds).metric == "miou"
    none = dataclasses.replace(bare, samples=tuple(dataclasses.replace(s, masks=(None,)) for s in bare.samples))
    with pytest.raises(InputError, match=r"no labelled object, mask or category .*detect \(car, person\); ground"):
        scored_kinds(kinds, none)


def metric(value: float) -> HeadMetric:
    return HeadMetric("ap50", value, {})


@pytest.mark.parametrize(
    ("values", "name", "mean"),
    [
        ({"a": 0.4}, "ap50", 0.4),
        ({"a": 0.4, "b": 0.8}, "mean", 0.6),
        ({"a": 0.4, "b": math.nan}, "mean", 0.4),
        ({"a": math.nan}, "ap50", math.nan),
    ],
)
def test_one_figure_of_several_heads(values: dict[str, float], name: str, mean: float) -> None:
    found = Evaluation({k: metric(v) for k, v in values.items()}, 1)
    assert found.metric == name and found.value == pytest.approx(mean, nan_ok=True)


def test_each_frame_is_run_once_however_often_it_is_scored(data: Dataset) -> None:
    kinds = kinds_of(heads_for(data, ("detect", "segment")), data)
    frames = Frames(data, PREPROCESS)
    oracle = Oracle(frames)
    infer = remembering(oracle)
    found = [evaluate(f, frames, kinds).values for f in (infer, infer, oracle)]
    assert found[0] == found[1] == found[2]
    assert oracle.calls == 2 * len(frames), "once for the two that remember, once without"


def test_images_that_are_decoded_ahead_come_in_order(data: Dataset) -> None:
    samples = data.samples * 5  # more than are decoded ahead
    many = dataclasses.replace(data, samples=samples)
    for sample, frame in zip(samples, letterboxed(many, PREPROCESS, title="reading"), strict=True):
        expected = Letterbox(PREPROCESS)(read_image(sample.image))[0]
        np.testing.assert_array_equal(frame, expected)


def test_an_image_that_can_not_be_read_is_told_in_its_turn(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    broken = dataclasses.replace(data.samples[0], image=tmp_path / "broken.jpg")
    frames = letterboxed(dataclasses.replace(data, samples=(data.samples[0], broken)), PREPROCESS, title="reading")
    assert next(frames).any()
    with pytest.raises(InputError, match=r"broken\.jpg"):
        next(frames)
