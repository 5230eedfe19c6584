"""Results as bytes: every field as another decoder reads it, every byte as two other encoders write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ros_listener import typestore
from ros_support import boxes
from runtime_support import LABELS

from edgetl_runtime.result import Detections
from edgetl_runtime.ros.detections import UNKNOWN_VARIANCE, boxes_bytes, places_bytes
from edgetl_runtime.ros.messages import Detection2DArray, Detection3DArray

STORE = typestore()
EPOCH_NS = 1_795_816_590_879_079_786
BOXES, PLACES = "vision_msgs/msg/Detection2DArray", "vision_msgs/msg/Detection3DArray"


def decoded(data: bytes, name: str) -> Any:
    """As rosbags reads it, after both other encoders gave the same bytes."""
    message = STORE.deserialize_cdr(data, name)
    assert bytes(STORE.serialize_cdr(message, name, little_endian=True)) == data
    ours = Detection2DArray if name == BOXES else Detection3DArray
    assert ours.deserialize(data).serialize() == data
    return message


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_boxes_are_read_as_they_were(count: int) -> None:
    found = boxes(count, tracked=True)
    message = decoded(boxes_bytes(found, LABELS, EPOCH_NS, "cam_optical_frame"), BOXES)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_795_816_590, 879_079_786)
    assert message.header.frame_id == "cam_optical_frame" and len(message.detections) == count
    for i, one in enumerate(message.detections):
        box = found.boxes_xyxy[i].astype(np.float64)
        assert one.header == message.header
        assert (one.bbox.center.position.x, one.bbox.center.position.y) == (
            (box[0] + box[2]) / 2,
            (box[1] + box[3]) / 2,
        )
        assert (one.bbox.size_x, one.bbox.size_y, one.bbox.center.theta) == (box[2] - box[0], box[3] - box[1], 0)
        assert [h.hypothesis.class_id for h in one.results] == [LABELS[found.classes[i]]]
        assert one.results[0].hypothesis.score == float(found.scores[i])
        assert one.results[0].pose.pose.orientation.w == 1 and not one.results[0].pose.covariance.any()
        assert one.id == ("" if i % 3 == 2 else str(i + 7))


def test_without_tracks_no_box_has_an_id() -> None:
    message = decoded(boxes_bytes(boxes(2), LABELS, EPOCH_NS, "cam"), BOXES)
    assert [one.id for one in message.detections] == ["", ""]


def test_places_are_those_that_are_known_with_their_covariance() -> None:
    found = boxes(5, tracked=True, placed=True)
    assert found.places is not None
    message = decoded(places_bytes(found, found.places, LABELS, EPOCH_NS), PLACES)
    assert message.header.frame_id == "base_link"
    assert [one.id for one in message.detections] == ["7", "8", "10", "11"]
    for row, one in zip((0, 1, 3, 4), message.detections, strict=True):
        pose = one.results[0].pose
        assert (pose.pose.position.x, pose.pose.position.y) == tuple(found.places.positions_m[row].tolist())
        assert one.bbox.center == pose.pose and one.bbox.size.x == one.bbox.size.y == one.bbox.size.z == 0
        matrix = pose.covariance.reshape(6, 6)
        assert matrix[:2, :2].tolist() == found.places.covariances_m2[row].astype(np.float64).tolist()
        assert matrix.diagonal()[2:].tolist() == [UNKNOWN_VARIANCE] * 4
        assert np.count_nonzero(matrix) == 8


@settings(max_examples=60)
@given(
    labels=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12), min_size=1
    ),
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    picks=st.lists(st.tuples(st.integers(0, 10**6), st.integers(-1, 10**12)), max_size=6),
    epoch_ns=st.integers(0, 2**31 * 10**9 - 1),
)
def test_any_names_and_numbers_keep_the_layout(
    labels: list[str], frame_id: str, picks: list[tuple[int, int]], epoch_ns: int
) -> None:
    n = len(picks)
    found = Detections(
        np.tile(np.array([1, 2, 3, 5], np.float32), (n, 1)),
        np.full(n, 0.5, np.float32),
        np.array([pick % len(labels) for pick, _ in picks], np.int64),
        np.array([number for _, number in picks], np.int64),
        np.zeros(n, np.float32),
        np.zeros((n, 2), np.float32),
    )
    message = decoded(boxes_bytes(found, labels, epoch_ns, frame_id), BOXES)
    assert message.header.frame_id == frame_id
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == epoch_ns
    assert [one.results[0].hypothesis.class_id for one in message.detections] == [labels[c] for c in found.classes]
    assert [one.id for one in message.detections] == ["" if number < 0 else str(number) for _, number in picks]
