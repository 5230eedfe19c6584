"""Drawing: the frame stays as it is, boxes and masks have their colours, the buffers are kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from runtime_support import DETECT

from edgetl_runtime.annotate import (
    _LATE_BGR,
    MASK_OPACITY,
    MASK_PALETTE,
    PALETTE,
    Annotator,
    colour_of,
    drawn_boxes,
    drawn_classes,
)
from edgetl_runtime.result import Detections, Frame, Mask, Output, Result, Scores
from edgetl_runtime.spec import ClassifyHead, DetectHead, SegmentHead

BOXES = DetectHead(labels=("a", "b", "c", "d", "e"), max_detections=9, thresholds=(0.5,) * 5, stride=8)
ROAD = SegmentHead(name="drivable", labels=("background", "drivable"), stride=4)
LANES = SegmentHead(name="lanes", labels=("no", "lane"), stride=4)
LIGHT = ClassifyHead(labels=("night", "day"), thresholds=(0.6, 0.6))


def boxes_of(boxes: list[list[float]]) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4), np.linspace(0.9, 0.5, n, dtype=np.float32), np.arange(n)
    )


def result_of(size_hw: tuple[int, int], state: str = "fresh", **outputs: Output) -> Result:
    return Result(7, "cam", 0, 35_000_000, outputs, size_hw, {"infer": 1.0}, state=state)  # type: ignore[arg-type]


@pytest.mark.parametrize("size_hw", [(360, 640), (720, 1280), (1080, 1920), (120, 160)])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_draws_on_a_copy(size_hw: tuple[int, int], count: int) -> None:
    h, w = size_hw
    boxes = [[w * i / 6, h * 0.5, w * (i + 0.7) / 6, h * 0.9] for i in range(count)]
    frame = Frame(np.full((h, w, 3), 90, np.uint8), 7, "cam", 0)
    annotate = Annotator((BOXES,))
    picture = annotate(frame, result_of(size_hw, detect=boxes_of(boxes)))
    assert (frame.image == 90).all()
    assert picture.shape == frame.image.shape
    for i, (x1, _, _, y2) in enumerate(boxes):
        edge = picture[round(y2 - h * 0.02), max(round(x1) - 2, 0) : round(x1) + 3].astype(int)
        assert np.abs(edge - PALETTE[i]).sum(axis=-1).min() < 60, (i, edge)
    assert annotate(frame, result_of(size_hw, detect=boxes_of([]))) is picture


def test_boxes_at_the_very_edge_and_late_results() -> None:
    frame = Frame(np.zeros((90, 160, 3), np.uint8), 0, "cam", 0)
    picture = Annotator((DETECT,))(frame, result_of((90, 160), "late", detect=boxes_of([[0, 0, 160, 90]])))
    assert tuple(picture[1, -2]) == _LATE_BGR


def mask_colour(number: int) -> tuple[int, int, int]:
    return colour_of(number, MASK_PALETTE)


def blended(colour: tuple[int, int, int]) -> np.ndarray:
    return (1 - MASK_OPACITY) * 100 + MASK_OPACITY * np.array(colour)


def test_masks_tint_only_what_they_show_and_the_later_lies_on_top() -> None:
    h, w = 240, 320
    frame = Frame(np.full((h, w, 3), 100, np.uint8), 0, "cam", 0)
    road, lanes = np.zeros((2, 24, 32), np.uint8)
    road[10:16, 4:28] = 1
    lanes[12:14, 10:12] = 1
    annotate = Annotator((BOXES, ROAD, LANES))
    outputs = {"detect": boxes_of([]), "drivable": Mask(road, (h, w)), "lanes": Mask(lanes, (h, w))}
    picture = annotate(frame, result_of((h, w), **outputs))
    assert (frame.image == 100).all()
    expected = np.full((h, w, 3), 100.0)
    expected[100:160, 40:280] = blended(mask_colour(0))
    expected[120:140, 100:120] = blended(mask_colour(1))
    clear = slice(30, 210)  # between the strip above and the legend below
    assert np.abs(picture[clear] - expected[clear]).max() <= 1
    bar = picture[-8:].reshape(-1, 3).tolist()
    assert list(mask_colour(0)) in bar and list(mask_colour(1)) in bar, "the legend names both"
    outputs["lanes"] = outputs["drivable"] = Mask(np.zeros((24, 32), np.uint8), (h, w))
    assert (annotate(frame, result_of((h, w), **outputs))[clear] == 100).all(), "nothing of the frame before is left"


def test_a_mask_lies_where_the_source_says_and_not_where_its_cells_end() -> None:
    """Cells of 4 network pixels, the image from pixel 3 on; 40 source pixels each."""
    frame = Frame(np.full((240, 40, 3), 100, np.uint8), 0, "cam", 0)
    mask = Mask(np.array([[0], [1], [0]], np.uint8), (240, 40), cell=4, window=(3, 0, 6, 4))
    picture = Annotator((LANES,))(frame, result_of((240, 40), lanes=mask))
    tinted = np.flatnonzero((picture[:, 20] != 100).any(axis=1) & (np.arange(240) > 20) & (np.arange(240) < 205))
    assert (tinted[0], tinted[-1]) == (40, 199)


def rest_of(picture: np.ndarray) -> np.ndarray:
    """Everything below the status strip."""
    return picture[20:]


@pytest.mark.parametrize("heads", [(LIGHT,), (BOXES, LIGHT)])
def test_a_category_is_written_into_the_strip(heads: tuple[DetectHead | ClassifyHead, ...]) -> None:
    frame = Frame(np.zeros((360, 640, 3), np.uint8), 0, "cam", 0)
    annotate = Annotator(heads)
    outputs: dict[str, Output] = {"detect": boxes_of([])}
    strips = []
    for label in (-1, 0, 1):
        outputs["classify"] = Scores(np.array([0.5, 0.5], np.float32), label)
        picture = annotate(frame, result_of((360, 640), **outputs)).copy()
        assert not rest_of(picture).any()
        strips.append(picture[:20].tobytes())
    assert len(set(strips)) == 3


def test_many_classes_have_many_colours_and_the_legend_wraps() -> None:
    labels = ("background", *(f"class number {i}" for i in range(20)))
    head = SegmentHead(name="all", labels=labels, stride=4)
    assert drawn_classes(labels) == tuple(range(1, 21)) and drawn_classes(("road", "kerb")) == (1,)
    assert drawn_classes(("Other", "road", "void")) == (1,)
    assert len({colour_of(i) for i in range(24)}) == 24 and len({mask_colour(i) for i in range(21)}) == 21
    frame = Frame(np.full((360, 640, 3), 100, np.uint8), 0, "cam", 0)
    mask = Mask(np.arange(21, dtype=np.uint8).repeat(4).reshape(1, 84), (360, 640))
    picture = Annotator((head,))(frame, result_of((360, 640), all=mask))
    row = picture[100]
    assert (row[:28] == 100).all() and len(np.unique(row, axis=0)) == 21
    below = picture[200:].reshape(-1, 3).tolist()
    assert all(list(mask_colour(i)) in below for i in range(20)), "every label has its swatch"


def test_frames_of_another_size_get_new_buffers() -> None:
    annotate = Annotator((ROAD,))
    for h, w in ((90, 160), (45, 80), (1, 1)):
        frame = Frame(np.full((h, w, 3), 100, np.uint8), 0, "cam", 0)
        mask = Mask(np.ones((9, 16), np.uint8), (h, w))
        assert annotate(frame, result_of((h, w), drivable=mask)).shape == (h, w, 3)


def test_without_the_strip_the_top_of_the_frame_stays_as_it_is() -> None:
    frame = Frame(np.full((360, 640, 3), 90, np.uint8), 0, "cam", 0)
    result = result_of((360, 640), detect=boxes_of([]))
    assert (Annotator((BOXES,), strip=False)(frame, result) == 90).all()
    assert (Annotator((BOXES,))(frame, result)[0] != 90).any()


def with_ids(found: Detections, ids: list[int]) -> Detections:
    n = len(ids)
    return dataclasses.replace(
        found,
        track_ids=np.array(ids, np.int64),
        track_ages_s=np.zeros(n, np.float32),
        velocities_px_s=np.zeros((n, 2), np.float32),
    )


def test_a_number_stands_beside_the_label_and_gives_the_colour() -> None:
    found = with_ids(boxes_of([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]), [11, -1, 0])
    assert [text for _, text, _ in drawn_boxes(found, BOXES.labels)] == ["a #11 0.90", "b 0.70", "c #0 0.50"]
    assert [colour for _, _, colour in drawn_boxes(found, BOXES.labels)] == [colour_of(11), PALETTE[1], PALETTE[0]]
    assert [text for _, text, _ in drawn_boxes(boxes_of([[0, 0, 9, 9]]), BOXES.labels)] == ["a 0.90"]


def test_the_same_object_has_the_same_colour_wherever_it_is() -> None:
    frame = Frame(np.full((360, 640, 3), 90, np.uint8), 0, "cam", 0)
    annotate = Annotator((BOXES,), strip=False)
    for x in (100, 300):
        picture = annotate(frame, result_of((360, 640), detect=with_ids(boxes_of([[x, 200, x + 80, 280]]), [5])))
        edge = picture[260, x].astype(int)  # lines are drawn softly
        assert np.abs(edge - colour_of(5)).sum() < 60 < np.abs(edge - PALETTE[0]).sum()
