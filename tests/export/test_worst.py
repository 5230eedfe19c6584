"""Which frames are the worst, what is kept in passing, and how they are drawn."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl_export.worst import LEAST_WIDTH, LEAST_WIDTH_BARE, Watched, Worst, worst_frames
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead

SIZE_HW = (64, 96)
BOXES = DetectHead(labels=("car", "person"), max_detections=2, thresholds=(0.5, 0.5), stride=8)
ROAD = SegmentHead(name="road", labels=("other", "road"), stride=4)
LIGHT = ClassifyHead(labels=("night", "day"), thresholds=(0.6, 0.6))
Outputs = dict[str, NDArray[np.generic]]


def frames(count: int) -> list[NDArray[np.uint8]]:
    """Grey frames, each of another brightness, which is its number."""
    return [np.full((1, *SIZE_HW, 3), i, np.uint8) for i in range(count)]


class Network:
    """All three heads; `errors` by frame and head move what they say."""

    def __init__(self, errors: Mapping[tuple[int, str], float] | None = None) -> None:
        self.errors = errors or {}
        self.calls = 0

    def __call__(self, frame: NDArray[np.uint8]) -> Outputs:
        self.calls += 1
        number = int(frame[0, 0, 0, 0])
        boxes, road, light = (self.errors.get((number, name), 0.0) for name in ("detect", "road", "classify"))
        mask = np.zeros((1, 16, 24), np.uint8)
        mask[0, : round(16 * road)] = 1
        return {
            "boxes": np.array([[[8, 8, 40, 40], [50, 8, 90, 50]]], np.float32),
            "scores": np.array([[0.9, 0.8 - boxes]], np.float32),
            "classes": np.array([[0, 1]], np.int64),
            "mask_road": mask,
            "probabilities": np.array([[0.1 + light, 0.9 - light]], np.float32),
            "other": np.zeros(1, np.float32),
        }


def compare(errors: Mapping[tuple[int, str], float], heads: tuple[Head, ...], *, count: int = 6) -> Worst:
    """The worst frames of a network with these errors against the one without."""
    pictures = frames(count)
    names = [name for head in heads for name in head.outputs]
    both = (Watched(Network(), pictures, names), Watched(Network(errors), pictures, names))
    return worst_frames(heads, *both, names=("torch", "openvino/int8"))


def image_of(data: bytes) -> NDArray[np.uint8]:
    """A JPEG file's pixels."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def test_outputs_are_kept_in_passing_and_run_only_where_they_are_missing() -> None:
    network, pictures = Network(), frames(3)
    watched = Watched(network, pictures, ["scores"])
    for frame in pictures[:2]:
        assert set(watched(frame)) > {"scores", "other"}
    watched(pictures[0].copy())
    assert network.calls == 3
    assert set(watched.outputs(0)) == {"scores"} and network.calls == 3
    assert watched.outputs(2)["scores"].shape == (1, 2) and network.calls == 4


def test_what_is_kept_is_a_copy() -> None:
    buffer = {"scores": np.zeros((1, 2), np.float32)}
    pictures = frames(1)
    watched = Watched(lambda frame: buffer, pictures, ["scores"])
    watched(pictures[0])
    buffer["scores"][:] = 1
    assert not watched.outputs(0)["scores"].any()


def test_the_worst_come_first_and_at_most_four() -> None:
    errors = {(i, "classify"): 0.1 * i for i in range(6)}
    worst = compare(errors, (LIGHT,))
    assert [frame.index for frame in worst.frames] == [5, 4, 3, 2]
    assert (worst.reference, worst.found, worst.compared) == ("torch", "openvino/int8", 6)
    assert worst.frames[0].difference == "classify: a probability differs by 0.50"
    assert image_of(worst.frames[0].found).shape[1] == LEAST_WIDTH_BARE
    assert worst.frames[0].reference_says == "day 0.90"
    assert worst.frames[0].found_says == "night 0.60"


def test_heads_take_turns_and_a_frame_comes_once() -> None:
    errors = {(0, "detect"): 0.7, (1, "detect"): 0.6, (2, "road"): 0.5, (1, "road"): 0.2, (3, "classify"): 0.05}
    worst = compare(errors, (BOXES, ROAD, LIGHT))
    assert [(frame.index, frame.head) for frame in worst.frames] == [
        (0, "detect"), (2, "road"), (3, "classify"), (1, "detect"),
    ]  # fmt: skip
    assert worst.frames[1].difference == "road: 50.0 per cent of the cells have another class"
    assert worst.frames[0].reference_says == "2 found, day 0.90" and worst.frames[0].found_says == "1 found, day 0.90"


@pytest.mark.parametrize("count", [0, 1, 6])
def test_where_nothing_differs_nothing_is_drawn(count: int) -> None:
    worst = compare({(0, "classify"): 1e-5}, (BOXES, ROAD, LIGHT), count=count)
    assert worst.frames == () and worst.compared == count


def test_small_frames_are_drawn_enlarged_with_what_differs_outlined() -> None:
    (frame,) = compare({(2, "road"): 0.5}, (ROAD,)).frames
    before, after = image_of(frame.reference), image_of(frame.found)
    assert before.shape == after.shape == (SIZE_HW[0] * 5, LEAST_WIDTH, 3) and frame.outlined
    assert before.max() < 250 or (before > 250).mean() < (after > 250).mean()
    edge = after[154:164, 100:400].max(axis=(0, 2))
    assert edge.mean() > 200, "a white line where the changed half ends"
    assert np.abs(before[200:, :].astype(int) - after[200:, :]).mean() < 3


def test_boxes_are_drawn_where_they_are_shown() -> None:
    (frame,) = compare({(1, "detect"): 0.7}, (BOXES,)).frames
    before, after = image_of(frame.reference), image_of(frame.found)
    second = np.s_[40:245, 255:445]
    assert before[second].std() > after[second].std() and not frame.outlined
    assert "per cent" in frame.difference
