"""The sink, heard by another process that knows rosbags and Zenoh only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from ros_support import Listener, boxes, options, result_of, router
from runtime_support import CLASSIFY, DETECT, LABELS, SEGMENT, snapshot_of, until

from edgetl_runtime.errors import InputError
from edgetl_runtime.health import Health
from edgetl_runtime.result import Frame, Result
from edgetl_runtime.ros import Intrinsics, Ros2Options, Ros2Sink
from edgetl_runtime.spec import DetectHead

PERCEPTION, LATENCY = 0, 1


def matched(sink: Ros2Sink) -> None:
    """Wait until somebody subscribes to the boxes."""
    until(lambda: sink.matched)


def repeat_until(done: Callable[[], object], act: Callable[[], object]) -> None:
    """Do something again and again until it had its effect."""
    end_s = time.monotonic() + 15
    while not done():
        assert time.monotonic() < end_s
        act()
        time.sleep(0.05)


def test_every_result_arrives_with_its_stamp_number_and_publisher() -> None:
    with router() as address, Listener(address) as listener:
        sink = Ros2Sink((DETECT, SEGMENT, CLASSIFY), camera_id="front", options=options(address))
        matched(sink)
        sent = [result_of(boxes(n, tracked=True, placed=True, seed=n), n) for n in (3, 0, 8)]
        before_ns = time.time_ns()
        for result, frame in sent:
            sink.write(result, frame, None)
        after_ns = time.time_ns()
        flat = listener.messages("edgetl/detections", 3)
        placed = listener.messages("edgetl/places", 3)
        offset_ns = time.time_ns() - time.monotonic_ns()
        sink.close()
    assert all(line["same"] for line in [*flat, *placed])
    assert all(line["key"].endswith(f"/{line['hash']}") for line in [*flat, *placed])
    for i, (result, _) in enumerate(sent):
        for line in (flat[i], placed[i]):
            stamp = line["message"]["header"]["stamp"]
            assert abs(stamp["sec"] * 10**9 + stamp["nanosec"] - result.t_capture_ns - offset_ns) < 5_000_000
            assert line["number"] == i + 1 and line["gid_bytes"] == 16
            assert before_ns <= line["source_ns"] <= after_ns
    assert [line["message"]["header"]["frame_id"] for line in flat] == ["front_optical_frame"] * 3
    assert [len(line["message"]["detections"]) for line in flat] == [3, 0, 8]
    assert [len(line["message"]["detections"]) for line in placed] == [2, 0, 6]
    assert len({line["gid"] for line in flat}) == 1 and flat[0]["gid"] != placed[0]["gid"]
    first = flat[0]["message"]["detections"][0]["results"][0]["hypothesis"]
    found = sent[0][0].detections
    assert first == {"class_id": LABELS[found.classes[0]], "score": float(found.scores[0]).hex()}


def test_the_graph_shows_node_and_topics_while_they_are_there() -> None:
    with router() as address, Listener(address, domain=7) as listener:
        sink = Ros2Sink(
            (DETECT,), camera_id="c", prefix="road", options=options(address, domain=7, namespace="/car", name="eyes")
        )
        tokens = [line["token"].split("/") for line in listener.wait(lambda line: line.get("alive") is True, 3)]
        sink.close()
        gone = listener.wait(lambda line: line.get("alive") is False, 3)
    assert [parts[:2] + parts[3:] for parts in tokens if parts[5] == "NN"] == [
        ["@ros2_lv", "7", "0", "0", "NN", "%", "%car", "eyes"]
    ]
    topics = {parts[9]: parts for parts in tokens if parts[5] == "MP"}
    assert set(topics) == {"%car%road%detections", "%car%road%places"}
    assert topics["%car%road%detections"][10] == "vision_msgs::msg::dds_::Detection2DArray_"
    assert all(parts[12] == "::,1:,:,:,," for parts in topics.values())
    assert len({parts[2] for parts in tokens}) == 1
    assert {line["token"] for line in gone} == {"/".join(parts) for parts in tokens}


def test_pictures_go_to_those_who_subscribe_with_the_stamp_of_their_boxes() -> None:
    known = Intrinsics((96, 128), (100.0, 0.0, 63.5, 0.0, 100.0, 47.5, 0.0, 0.0, 1.0), (0.1, 0.0, 0.0, 0.0, 0.0))
    with router() as address, Listener(address) as listener:
        sink = Ros2Sink(
            (DETECT,), camera_id="c", frame_id="lens", options=options(address), pictures_per_s=30, intrinsics=known
        )
        repeat_until(
            lambda: listener.found(lambda line: "/image/compressed/" in line.get("key", "")),
            lambda: sink.write(*result_of(boxes(1), 9), None),
        )
        image = listener.messages("edgetl/image/compressed")[0]
        info = listener.messages("edgetl/camera_info")[-1]
        sink.close()
        flat = listener.messages("edgetl/detections")
    assert image["same"] and info["same"] and image["message"]["format"] == "jpeg"
    assert image["message"]["header"] in [line["message"]["header"] for line in flat]
    assert image["message"]["header"]["frame_id"] == "lens"
    picture = cv2.imdecode(np.frombuffer(bytes.fromhex(image["message"]["data"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3) and abs(int(picture[20, 20, 0]) - 90) < 3
    assert (info["message"]["height"], info["message"]["width"]) == (48, 64)
    k = [float.fromhex(v) for v in info["message"]["k"]]
    assert k == [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]


def test_diagnostics_come_before_the_first_result_and_tell_why() -> None:
    health = Health("cam")
    with router() as address, Listener(address) as listener:
        sink = Ros2Sink((DETECT,), camera_id="cam", options=options(address))
        sink.watch(lambda: snapshot_of(health=health))
        first = listener.messages("diagnostics")[0]
        health.set("disconnected", "the cable is out")
        fault = listener.wait(lambda line: "cable" in str(line.get("message")))[0]
        sink.close()
    assert first["same"] and first["key"].startswith("0/diagnostics/diagnostic_msgs::msg::dds_::DiagnosticArray_/")
    waiting, broken = first["message"]["status"][PERCEPTION], fault["message"]["status"][PERCEPTION]
    assert (waiting["level"], waiting["message"], waiting["name"]) == (3, "no result yet", "edgetl: perception")
    assert (broken["level"], broken["message"]) == (2, "no result yet; disconnected: the cable is out")
    assert {"key": "processed", "value": "0"} in waiting["values"]
    assert first["message"]["status"][LATENCY]["level"] == 3


def test_a_subscriber_that_hangs_holds_nobody_up() -> None:
    with router() as address, Listener(address) as listener:
        sink = Ros2Sink((DETECT,), camera_id="c", options=options(address), pictures_per_s=30)
        matched(sink)
        found, image = boxes(140), np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
        os.kill(listener.process.pid, signal.SIGSTOP)
        slowest_s = 0.0
        try:
            for number in range(700):  # 40 MB of boxes, more than the sockets on the way take
                result, frame = result_of(found, number)
                begun_s = time.monotonic()
                sink.write(result, Frame(image, number, "c", frame.t_capture_ns), None)
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
        finally:
            listener.process.kill()  # what it was in the middle of is nobody's
        sink.close()
    assert slowest_s < 4  # one that waits for the other side does so for 5 s, then Zenoh closes the link


def test_a_session_that_broke_is_told_and_does_not_end_the_run() -> None:
    with router() as address:
        sink = Ros2Sink((DETECT,), camera_id="c", options=options(address))
        sink._node.close()
        sink.write(*result_of(boxes(1)), None)
        sink.close()
        sink.close()
        sink.write(*result_of(boxes(1)), None)
    assert sink.notes == ["ros2: 1 results could not be published"]


def test_several_heads_with_boxes_have_topics_of_their_own() -> None:
    signs = DetectHead(name="signs", labels=("stop",), max_detections=4, thresholds=(0.5,), stride=16)
    result, frame = result_of(boxes(2))
    none = boxes(0)
    both = Result(
        **{n: getattr(result, n) for n in Result.__slots__} | {"outputs": {"detect": boxes(2), "signs": none}}
    )
    with router() as address, Listener(address) as listener:
        sink = Ros2Sink((DETECT, signs), camera_id="c", options=options(address))
        assert sink.topics == ["/edgetl/detect/detections", "/edgetl/signs/detections"]
        matched(sink)
        sink.write(both, frame, None)
        assert len(listener.messages("edgetl/detect/detections")[0]["message"]["detections"]) == 2
        assert listener.messages("edgetl/signs/detections")[0]["message"]["detections"] == []
        sink.close()


def test_humble_has_no_hash_in_its_topics() -> None:
    with router() as address, Listener(address) as listener:
        plain = options(address)
        sink = Ros2Sink(
            (DETECT,),
            camera_id="c",
            options=Ros2Options(node=plain.node, connect=plain.connect, listen=plain.listen, check_types=False),
        )
        matched(sink)
        sink.write(*result_of(boxes(1)), None)
        assert listener.messages("edgetl/detections")[0]["key"].endswith("/TypeHashNotSupported")
        sink.close()


def test_wrong_settings_are_refused_before_anything_is_opened() -> None:
    with pytest.raises(InputError, match="pictures for ROS are from 0 to 30/s, found 31"):
        Ros2Sink((DETECT,), camera_id="c", pictures_per_s=31)
    with pytest.raises(InputError, match="a ROS topic is like"):
        Ros2Sink((DETECT,), camera_id="c", prefix="a b")


def test_numbers_that_no_stamp_can_hold_are_counted_and_not_raised() -> None:
    with router() as address:
        sink = Ros2Sink((DETECT,), camera_id="c", options=options(address))
        sink.write(*result_of(boxes(1), t_capture_ns=2**62), None)
        sink.close()
    assert sink.notes == ["ros2: 1 results could not be published"]
