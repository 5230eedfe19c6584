"""Differences: none where there is none, else words and figures."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import numpy as np
import pytest
from recording_support import boxes, placed, result, tracked
from runtime_support import DETECT, HEADS

from edgetl_runtime.recording.compare import Difference, compare
from edgetl_runtime.result import Detections, Mask, Output, Result, Scores
from edgetl_runtime.spec import Head


def with_output(name: str, output: Output) -> Result:
    return dataclasses.replace(result(), outputs=result().outputs | {name: output}, t_capture_ns=1)


def compared(name: str, output: Output) -> Difference:
    difference = compare(dataclasses.replace(result(), t_capture_ns=1), with_output(name, output), HEADS)
    assert difference is not None and list(difference.heads) == [name] and not difference.fields
    json.dumps(difference.as_json(), allow_nan=False)
    return difference


def test_times_do_not_count() -> None:
    was = result()
    now = dataclasses.replace(was, t_publish_ns=1, stages_ms={}, state="late", health="stale", valid_until_ns=3)
    assert compare(was, now, HEADS) is None


@pytest.mark.parametrize(
    "change",
    [
        {"frame_id": 9},
        {"dropped_before": 5},
        {"name": "x"},
        {"size_hw": (1, 2)},
        {"t_capture_ns": 4},
        {"camera_id": "other"},
        {"media_time_s": 0.5},
    ],
    ids=str,
)
def test_fields_that_count(change: dict[str, object]) -> None:
    was = result()
    difference = compare(was, dataclasses.replace(was, **change), HEADS)  # type: ignore[arg-type]
    assert difference is not None and set(difference.fields) == set(change)
    (name,) = change
    assert difference.lines() == [f"frame 0: {name}: was {getattr(was, name)}, is {change[name]}"]


def test_one_bit_is_a_difference() -> None:
    base = boxes(3)
    scores = base.scores.copy()
    scores[1] = np.nextafter(scores[1], np.float32(1))
    difference = compared("detect", Detections(base.boxes_xyxy, scores, base.classes))
    figures = difference.heads["detect"].figures
    assert figures["boxes_moved"] == 0 and 0 < figures["largest_score_change"] < 1e-6  # type: ignore[operator]
    assert "largest score change" in difference.lines()[0]


def test_zero_and_minus_zero_are_told_apart() -> None:
    zero = Scores(np.array([0.0, 1.0], np.float32), 1)
    was = with_output("light", zero)
    now = with_output("light", Scores(np.array([-0.0, 1.0], np.float32), 1))
    assert compare(was, was, HEADS) is None
    assert compare(was, now, HEADS) is not None


def test_boxes_moved_added_and_removed() -> None:
    was = Detections(
        np.array([[0, 0, 20, 20], [50, 50, 60, 60]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([0, 1]),
    )
    now = Detections(
        np.array([[0, 2.5, 20, 20], [50, 50, 60, 60]], np.float32),
        np.array([0.7, 0.6], np.float32),
        np.array([0, 2]),
    )
    difference = compare(with_output("detect", was), with_output("detect", now), HEADS)
    assert difference is not None
    figures = difference.heads["detect"].figures
    assert figures["boxes_removed"] == [{"label": "pedestrian", "score": 0.8, "box_xyxy": [50, 50, 60, 60]}]
    assert figures["boxes_added"] == [{"label": "light", "score": 0.6, "box_xyxy": [50, 50, 60, 60]}]
    assert (figures["boxes_moved"], figures["largest_move_px"]) == (1, 2.5)
    assert figures["largest_score_change"] == pytest.approx(0.2)
    assert difference.lines() == [
        "frame 0: detect: 1 removed (pedestrian 0.8), 1 added (light 0.6), 1 moved by up to 2.5 px, "
        "largest score change 0.2"
    ]


@pytest.mark.parametrize(("was", "now"), [(0, 2), (2, 0), (1, 3)])
def test_no_boxes_on_one_side(was: int, now: int) -> None:
    difference = compare(with_output("detect", boxes(was)), with_output("detect", boxes(now, 5)), HEADS)
    assert difference is not None
    figures = difference.heads["detect"].figures
    added, removed = figures["boxes_added"], figures["boxes_removed"]
    assert isinstance(added, list) and isinstance(removed, list)
    assert len(added) - len(removed) == now - was


def test_masks_scores_and_embeddings() -> None:
    mask = result().outputs["ground"]
    assert isinstance(mask, Mask)
    classes = mask.classes.copy()
    classes[0, 0] = (classes[0, 0] + 1) % 3
    ground = compared("ground", dataclasses.replace(mask, classes=classes)).heads["ground"]
    assert ground.figures["cells_changed"] == 1 and "1 cells" in ground.text
    assert "cells of" in compared("ground", dataclasses.replace(mask, cell=8)).heads["ground"].text
    light = compared("light", Scores(np.array([0.5, 0.4, 0.1], np.float32), -1)).heads["light"]
    assert light.figures["found"] is None and light.figures["largest_score_change"] == pytest.approx(0.4)
    was = result()
    for other in (None, np.zeros(5, np.float32), np.zeros(3, np.float32)):
        difference = compare(was, dataclasses.replace(was, embedding=other), HEADS)
        assert difference is not None and list(difference.heads) == ["embedding"]


def test_a_mask_of_another_place_differs_and_most_cells_name_the_change() -> None:
    mask = result().outputs["ground"]
    assert isinstance(mask, Mask)
    for change in ({"size_hw": (91, 160)}, {"window": None}):
        compared("ground", dataclasses.replace(mask, **change))  # type: ignore[arg-type]
    was = dataclasses.replace(mask, classes=np.zeros((4, 5), np.uint8))
    now = dataclasses.replace(was, classes=was.classes.copy())
    now.classes[0, :3], now.classes[1, 0] = 2, 1
    difference = compare(with_output("ground", was), with_output("ground", now), HEADS)
    assert difference is not None
    assert difference.lines() == ["frame 0: ground: 4 cells (20.00%) changed, most of them background to lane"]
    assert difference.heads["ground"].figures["share"] == 4 / 20


def test_another_label_of_the_same_probabilities_is_a_difference() -> None:
    light = Scores(np.array([0.1, 0.7, 0.2], np.float32), 0)
    assert compared("light", light).heads["light"].figures["found"] == "night"


def test_boxes_that_overlap_most_are_the_same_one_and_each_counts_once() -> None:
    near = np.array([[0, 0, 20, 20], [0, 4, 20, 24]], np.float32)
    both, one = np.array([0.9, 0.8], np.float32), np.array([0.9], np.float32)
    classes = np.zeros(2, np.int64)
    turned = Detections(near[::-1].copy(), both, classes)
    difference = compare(with_output("detect", Detections(near, both, classes)), with_output("detect", turned), HEADS)
    assert difference is not None and difference.heads["detect"].figures["boxes_moved"] == 0
    difference = compare(
        with_output("detect", Detections(near, both, classes)),
        with_output("detect", Detections(near[1:], one, classes[1:])),
        HEADS,
    )
    assert difference is not None
    removed = difference.heads["detect"].figures["boxes_removed"]
    assert isinstance(removed, list) and [b["box_xyxy"] for b in removed] == [[0, 0, 20, 20]]


def test_a_place_that_is_known_on_one_side_only_is_infinitely_far() -> None:
    was = placed(3)
    assert was.places is not None
    positions = was.places.positions_m.copy()
    positions[0] = np.nan
    now = dataclasses.replace(was, places=dataclasses.replace(was.places, positions_m=positions))
    for first, second in ((was, now), (now, was)):
        difference = compare(with_output("detect", first), with_output("detect", second), HEADS)
        assert difference is not None and difference.heads["detect"].figures["largest_place_change_m"] == float("inf")


def test_heads_on_one_side_only() -> None:
    was = result()
    now = dataclasses.replace(was, outputs={k: v for k, v in was.outputs.items() if k != "ground"})
    for first, second, says in ((was, now, "in the recording only"), (now, was, "not in the recording")):
        difference = compare(first, second, HEADS)
        assert difference is not None and says in difference.heads["ground"].text
    swapped = compare(was, with_output("ground", was.outputs["light"]), HEADS)
    assert swapped is not None and "was Mask, is Scores" in swapped.heads["ground"].text


def test_another_number_is_a_difference() -> None:
    was = tracked(3)
    numbers = was.track_ids
    assert numbers is not None
    now = dataclasses.replace(was, track_ids=numbers + np.array([0, 5, 0]))
    assert compare(with_output("detect", was), with_output("detect", was), HEADS) is None
    difference = compare(with_output("detect", was), with_output("detect", now), HEADS)
    assert difference is not None
    assert difference.lines() == ["frame 0: detect: 1 have another track (#3 was, #8 is)"]
    assert difference.heads["detect"].figures["track_ids_changed"] == 1


def test_tracks_on_one_side_only_and_other_speeds() -> None:
    was, none = tracked(3), boxes(3)
    speeds = was.velocities_px_s
    assert speeds is not None
    cases = [
        (was, none, "tracks are in the recording only"),
        (none, was, "tracks are not in the recording"),
        (was, dataclasses.replace(was, velocities_px_s=speeds * 2), "ages or velocities of tracks differ"),
    ]
    for recorded, found, text in cases:
        difference = compare(with_output("detect", recorded), with_output("detect", found), HEADS)
        assert difference is not None and difference.lines() == [f"frame 0: detect: {text}"]


def relabelled(labels: tuple[str, ...]) -> tuple[Head, ...]:
    """The heads with other labels of boxes."""
    boxes_head = msgspec.structs.replace(DETECT, labels=labels, thresholds=(0.5,) * len(labels))
    return (boxes_head, *HEADS[1:])


@pytest.mark.parametrize("labels", [("pedestrian", "vehicle", "light"), ("car", "pedestrian", "light", "bike")])
def test_numbers_of_classes_that_stand_for_other_labels_are_no_equal_answers(labels: tuple[str, ...]) -> None:
    was = result()
    difference = compare(was, was, relabelled(labels), HEADS)
    assert difference is not None and list(difference.heads) == ["detect"]
    assert difference.lines() == [
        f"frame 0: detect: has other labels: the first that differs was vehicle, is {labels[0]}"
    ]


def test_labels_may_be_added_and_both_sides_are_named() -> None:
    longer = relabelled((*DETECT.labels, "bike"))
    was = with_output("detect", Detections(np.eye(1, 4, dtype=np.float32), np.ones(1, np.float32), np.array([3])))
    none = with_output("detect", boxes(0))
    for heads, recorded_heads in ((longer, HEADS), (HEADS, longer)):
        assert compare(was, was, heads, recorded_heads) is None
        difference = compare(was, none, heads, recorded_heads)
        assert difference is not None and difference.lines() == ["frame 0: detect: 1 removed (bike 1.0)"]
