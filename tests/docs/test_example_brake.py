"""What the example's subscriber brakes for: silence, age, states, lost messages, and what is in the lane."""

from __future__ import annotations

import dataclasses
import math
import threading
from types import SimpleNamespace
from typing import Any

import example_brake as brake
import numpy as np
import pytest
from example_brake import NONE, Brake, CanBus, Message, Thing, Topic

from edgetl_runtime.can.receiver import CanObject, CanView
from edgetl_runtime.result import Detections, Places
from edgetl_runtime.ros.detections import boxes_bytes, places_bytes
from edgetl_runtime.ros.messages import Detection2DArray, Detection3DArray
from edgetl_runtime.ros.names import attachment
from edgetl_runtime.ros.type_hash import type_hash

MS = 1_000_000
NOW_NS, EPOCH_NS = 10**12, 17 * 10**17
LABELS = ("car", "person")
FRESH = Message(EPOCH_NS - 50 * MS, NOW_NS - 20 * MS, ())
OK = CanView("ok", t_ns=NOW_NS - 20 * MS)


def found(boxes: list[list[float]], positions: list[tuple[float, float]]) -> Detections:
    count = len(boxes)
    nothing = np.full(count, np.nan, np.float32)
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(count, 4),
        scores=np.full(count, 0.9, np.float32),
        classes=np.arange(count) % len(LABELS),
        places=Places(
            np.array(positions, np.float32).reshape(count, 2),
            np.tile(np.eye(2, dtype=np.float32) * 4, (count, 1, 1)),
            nothing,
            nothing,
        ),
    )


def sample(data: bytes, number: int, publisher: bytes = b"p" * 16) -> Any:
    def octets(value: bytes) -> Any:
        return SimpleNamespace(to_bytes=lambda: value)

    return SimpleNamespace(payload=octets(data), attachment=octets(attachment(number, 0, publisher)))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (FRESH, ""),
        (None, "start"),
        (dataclasses.replace(FRESH, stamp_ns=EPOCH_NS - 501 * MS), "silence"),
        (dataclasses.replace(FRESH, arrived_ns=NOW_NS - 501 * MS), "silence"),
        (dataclasses.replace(FRESH, stamp_ns=EPOCH_NS + 1), "clock"),
    ],
)
def test_each_topic_has_to_come_in_time(message: Message | None, kind: str) -> None:
    for topics in ((message, FRESH), (FRESH, message)):
        assert brake.reason_by_ros(topics, now_ns=NOW_NS, epoch_ns=EPOCH_NS)[0] == kind


@pytest.mark.parametrize(
    ("status", "whole", "words"),
    [
        (OK, OK, ""),
        (dataclasses.replace(OK, state="degraded"), OK, ""),
        (CanView("lost"), CanView("lost"), "nothing by CAN yet"),
        (dataclasses.replace(OK, t_ns=NOW_NS - 251 * MS), OK, "nothing by CAN"),
        (dataclasses.replace(OK, missing=("EdgeKind3",)), OK, ""),
        (
            dataclasses.replace(OK, missing=("EdgeKind3",)),
            dataclasses.replace(OK, t_ns=NOW_NS - 251 * MS),
            "frames are missing on CAN: EdgeKind3",
        ),
        (dataclasses.replace(OK, state="stale"), OK, "CAN says stale"),
        (dataclasses.replace(OK, state="fault"), OK, "CAN says fault"),
        (dataclasses.replace(OK, state="ended"), OK, "CAN says ended"),
    ],
)
def test_what_comes_by_can_has_to_be_current_and_whole(status: CanView, whole: CanView, words: str) -> None:
    assert brake.reason_by_can(status, whole, now_ns=NOW_NS)[1] == words


@pytest.mark.parametrize(
    ("thing", "stops"),
    [
        (Thing("car", brake.STOPPING_M + 0.1), False),
        (Thing("car", brake.STOPPING_M - 0.1), True),
        (Thing("car", 40.0, brake.MIN_TTC_S - 0.1), True),
        (Thing("car", 40.0, brake.MIN_TTC_S + 0.1), False),
    ],
)
def test_what_is_near_in_metres_or_seconds_is_braked_for(thing: Thing, stops: bool) -> None:
    assert (brake.reason_ahead([Thing("car", 90.0), thing])[0] == "object") is stops


def test_places_in_the_lane_are_read_with_care() -> None:
    boxes = found([[0, 0, 9, 9]] * 5, [(20.0, 1.4), (20.0, -1.6), (-3.0, 0.0), (math.nan, math.nan), (1.0, 0.0)])
    data = places_bytes(boxes, boxes.places, LABELS, EPOCH_NS)  # type: ignore[arg-type]
    assert brake.placed_in_lane(Detection3DArray.deserialize(data)) == (Thing("car", 18.0), Thing("car", 0.0))


def test_what_the_picture_cuts_off_below_is_too_near() -> None:
    boxes = [[200.0, 100, 400, 360], [200, 100, 400, 350], [0, 100, 150, 360], [500, 100, 640, 360]]
    data = boxes_bytes(found(boxes, [(math.nan, math.nan)] * 4), LABELS, EPOCH_NS, "cam")
    assert brake.cut_off_in_lane(Detection2DArray.deserialize(data)) == (Thing("car", 0.0),)


def test_a_topic_keeps_the_newest_and_counts_what_is_lost_or_unreadable() -> None:
    topic = Topic(brake.cut_off_in_lane, Detection2DArray, threading.Event())
    none = found([], [])
    for number, late_ms in ((5, 0), (6, 100), (9, 200), (8, 50)):
        topic.take(sample(boxes_bytes(none, LABELS, EPOCH_NS + late_ms * MS, "cam"), number))
    topic.take(sample(boxes_bytes(none, LABELS, EPOCH_NS + 300 * MS, "cam"), 1, b"q" * 16))  # it was started again
    topic.take(sample(b"\0\1\0\0nonsense", 2, b"q" * 16))
    assert topic.newest is not None and topic.newest.stamp_ns == EPOCH_NS + 300 * MS
    assert (topic.received, topic.lost, topic.unreadable) == (5, 2, 1)


def test_one_lost_frame_leaves_the_cycle_before_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CanBus, "_work", lambda self: None)
    bus = CanBus("virtual:none")
    ahead = CanObject(0, 0, None, 0.9, None, 20.0, 0.0, 4.0, 1.5, 50)
    aside = dataclasses.replace(ahead, y_m=2.0)
    whole = dataclasses.replace(OK, objects=(ahead, aside, dataclasses.replace(ahead, x_m=None)))
    for view in (
        whole,
        dataclasses.replace(OK, missing=("EdgeKind3",), t_ns=NOW_NS),
        CanView("lost", missing=("all",)),
    ):
        bus._keep(view)
    assert (bus.status.t_ns, bus.whole) == (NOW_NS, whole)
    assert bus.things() == (Thing("object", 18.5, 5.0),)


def test_a_brake_stays_pulled_for_a_while() -> None:
    pulled = Brake()
    assert pulled.update(("object", "car"), 0) and not pulled.update(NONE, round(0.9e9)) and pulled.kind == "object"
    assert not pulled.update(("silence", "nothing"), 10**9) and pulled.words == "nothing"
    assert pulled.update(NONE, 2 * 10**9) and pulled.kind == ""
    assert pulled.pulled == {"object": 1, "silence": 1}


def test_the_message_is_that_of_ros() -> None:
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    assert type_hash(brake.Bool) == store.hash_rihs01("std_msgs/msg/Bool")
    assert bytes(store.deserialize_cdr(brake.Bool(True).serialize(), "std_msgs/msg/Bool").data for _ in "a") == b"\1"
