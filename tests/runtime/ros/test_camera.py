"""A topic as a camera, published by a plain Zenoh session with rosbags' bytes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import zenoh
from ros_listener import typestore
from ros_support import PATIENCE_S, options, router

from edgetl_runtime.cameras import keep_open, open_camera
from edgetl_runtime.errors import CameraError
from edgetl_runtime.health import Health
from edgetl_runtime.ros import Ros2Camera
from edgetl_runtime.ros.names import Endpoint, NodeName, Quality, attachment, token
from edgetl_runtime.ros.node import ROUTER

STORE = typestore()
NAMES = {"sensor_msgs/msg/Image": "Image_", "sensor_msgs/msg/CompressedImage": "CompressedImage_"}


class Talker:
    """A node with one image topic; it repeats `data` at 100/s until it ends. value: of every pixel it makes."""

    def __init__(self, address: str, topic: str, *, type_name: str = "sensor_msgs/msg/Image") -> None:
        config = zenoh.Config()
        for key, value in {
            "mode": "peer",
            "connect/endpoints": [address],
            "listen/endpoints": ["tcp/127.0.0.1:0"],
            "scouting/multicast/enabled": False,
        }.items():
            config.insert_json5(key, json.dumps(value))
        self._session = zenoh.open(config)
        self._type = type_name
        endpoint = Endpoint(topic, f"sensor_msgs::msg::dds_::{NAMES[type_name]}", STORE.hash_rihs01(type_name))
        text = token(NodeName(name="driver"), str(self._session.zid()), "MP", 1, endpoint, Quality(True, 5))
        self._token = self._session.liveliness().declare_token(text)
        self._publisher = self._session.declare_publisher(endpoint.key(0))
        self._ended = threading.Event()
        self.value, self.data, self.lag_s = 10, b"", 0.02
        self.stamped, self.sent, self.fixed_ns = True, 0, 0
        self.stamps: set[int] = set()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def linked(self) -> None:
        """Return once a router knows this node."""
        until_s = time.monotonic() + PATIENCE_S
        while not self._session.info.routers_zid():
            assert time.monotonic() < until_s, "no router"
            time.sleep(0.01)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)
        self._session.close()

    def _work(self) -> None:
        while not self._ended.wait(0.01):
            self.sent += 1
            data = self.data or self._made()
            self._publisher.put(data, attachment=attachment(self.sent, time.time_ns(), bytes(16)))

    def _made(self) -> bytes:
        types = STORE.types
        now_ns = self.fixed_ns or time.time_ns() - int(self.lag_s * 1e9)
        seconds, nanoseconds = divmod(now_ns, 10**9) if self.stamped else (0, 0)
        self.stamps.add(seconds * 10**9 + nanoseconds)
        stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="lens")
        pixels = np.full((24, 32, 3), self.value, np.uint8)
        if self._type.endswith("/Image"):
            image = types[self._type](
                header=header, height=24, width=32, encoding="rgb8", is_bigendian=0, step=96, data=pixels.ravel()
            )
        else:
            image = types[self._type](header=header, format="jpeg", data=cv2.imencode(".jpg", pixels)[1])
        return bytes(STORE.serialize_cdr(image, self._type))


@contextmanager
def talking(topic: str = "/camera/image_raw", **more: str) -> Iterator[tuple[str, Talker]]:
    with router() as address:
        talker = Talker(address, topic, **more)
        try:
            yield address, talker
        finally:
            talker.close()


@pytest.mark.parametrize(
    ("topic", "kind"),
    [("/camera/image_raw", "sensor_msgs/msg/Image"), ("/camera/image/compressed", "sensor_msgs/msg/CompressedImage")],
)
def test_images_come_newest_first_with_the_time_of_exposure(topic: str, kind: str) -> None:
    with talking(topic, type_name=kind) as (address, talker):
        camera = Ros2Camera(topic, options(address))
        assert camera.size_hw == (24, 32) and camera.camera_id == f"ros2:{topic}"
        frames = [camera.read() for _ in range(3)]
        time.sleep(0.3)
        talker.value = 200
        late = camera.read()
        while late is not None and late.image[0, 0, 0] < 190:
            late = camera.read()
        now_ns = time.monotonic_ns()
        camera.close()
    assert camera.read() is None
    assert all(frame is not None and frame.image.shape == (24, 32, 3) for frame in frames)
    known = [frame for frame in [*frames, late] if frame is not None]
    stamps, ids = [frame.t_capture_ns for frame in known], [frame.frame_id for frame in known]
    assert stamps == sorted(set(stamps)) and ids == sorted(set(ids)) and ids[3] - ids[2] >= 2
    assert 20_000_000 <= now_ns - stamps[3] < 5 * 10**9
    assert camera.failed == 0 and len(camera.notes) == 1


def test_the_subscription_shows_in_the_graph() -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address, name="eyes_camera"))
        until_s, tokens = time.monotonic() + 20, list[list[str]]()
        while not tokens and time.monotonic() < until_s:
            found = talker._session.liveliness().get("@ros2_lv/0/*/*/*/MS/**", timeout=2.0)
            tokens = [str(reply.ok.key_expr).split("/") for reply in found if reply.ok is not None]
        camera.close()
    assert [parts[8:11] + parts[12:] for parts in tokens] == [
        ["eyes_camera", "%camera%image_raw", "sensor_msgs::msg::dds_::Image_", "2::,5:,:,:,,"]
    ]


@pytest.mark.parametrize(
    ("lag_s", "stamped", "told"),
    [(0.0, False, "a header had no stamp"), (3600.0, True, "a stamp 3600"), (-5.0, True, "a stamp -")],
)
def test_a_header_that_can_not_be_is_replaced_by_the_arrival_for_good(lag_s: float, stamped: bool, told: str) -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address))
        talker.lag_s, talker.stamped = lag_s, stamped
        frame = camera.read()
        while not any("stamped on arrival" in note for note in camera.notes):
            frame = camera.read()
        again = camera.read()
        talker.lag_s, talker.stamped = 1.8, True
        time.sleep(0.1)
        last = camera.read()
        now_ns = time.monotonic_ns()
        camera.close()
    assert frame is not None and again is not None and last is not None
    assert frame.t_capture_ns < again.t_capture_ns < last.t_capture_ns
    assert now_ns - last.t_capture_ns < 1_700_000_000
    assert sum(told in note and "stamped on arrival" in note for note in camera.notes) == 1


def test_a_picture_that_comes_again_is_no_newer_for_it() -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address))
        first = camera.read()
        talker.data = talker._made()
        time.sleep(0.1)
        again = [camera.read() for _ in range(5)]
        assert len({frame.t_capture_ns for frame in again if frame is not None}) == 1
        older, talker.data = talker.data, b""
        newer = camera.read()
        talker.data = older
        time.sleep(0.1)
        late = camera.read()
        camera.close()
    assert first is not None and newer is not None and late is not None and again[0] is not None
    assert first.t_capture_ns < again[0].t_capture_ns == late.t_capture_ns < newer.t_capture_ns
    assert not any("arrival" in note for note in camera.notes), "the loop says duplicate and disordered"


def test_two_pictures_of_one_stamp_are_stamped_on_arrival() -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address))
        talker.fixed_ns, before = time.time_ns(), talker.sent
        while talker.sent < before + 3:
            camera.read()
        talker.value = 200
        while not any("do not rise, frames are stamped on arrival" in note for note in camera.notes):
            camera.read()
        frames = [camera.read() for _ in range(3)]
        camera.close()
    stamps = [frame.t_capture_ns for frame in frames if frame is not None]
    assert len(set(stamps)) == 3 and stamps == sorted(stamps)


def test_messages_that_are_no_image_are_counted_and_the_next_one_is_read() -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address))
        talker.data = b"\x00\x01\x00\x00\xff\xff\xff\xff" * 4
        time.sleep(0.1)
        threading.Timer(0.3, lambda: setattr(talker, "data", b"")).start()
        frame = camera.read()
        while frame is not None and camera.failed == 0:
            frame = camera.read()
        assert frame is not None and frame.image.shape == (24, 32, 3)
        camera.close()
    assert camera.failed >= 1
    assert 1 <= sum("refused a message" in note for note in camera.notes) <= 3


def test_a_message_of_a_giant_size_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with talking() as (address, _):
        camera = Ros2Camera("/camera/image_raw", options(address), stall_s=0.5)
        camera.read()
        monkeypatch.setattr("edgetl_runtime.cameras.ros2.MAX_BYTES", 100)
        with pytest.raises(CameraError, match="bytes, more than 100"):
            while True:
                camera.read()
        camera.close()


def test_what_is_missing_is_named() -> None:
    with talking("/camera/depth") as (address, talker):
        missing = r"ros2:/camera/image_raw gave nothing .* no node publishes that topic; pictures are on /camera/depth;"
        with pytest.raises(CameraError, match=missing):
            Ros2Camera("/camera/image_raw", options(address), open_s=3.0)
        talker.data = b"nonsense"
        time.sleep(0.1)
        with pytest.raises(CameraError, match=r"gave no image that can be used: .* refused a message"):
            Ros2Camera("/camera/depth", options(address), open_s=3.0)
    with talking("/camera/depth", type_name="sensor_msgs/msg/CompressedImage") as (address, _):  # noqa: SIM117
        with pytest.raises(CameraError, match=r"is published as sensor_msgs/msg/CompressedImage, and .*/Image was"):
            Ros2Camera("/camera/depth", options(address), open_s=3.0)
    with router() as address, pytest.raises(CameraError, match=r"that topic; there is none with pictures;"):
        Ros2Camera("/camera/image_raw", options(address), open_s=0.2)
    with pytest.raises(CameraError, match="ros2:a b: a ROS topic is like"), router() as address:
        Ros2Camera("a b", options(address))


def test_a_node_that_ends_and_returns_is_lost_and_found() -> None:
    health = Health("c")
    with router() as address:
        talker = Talker(address, "/camera/image_raw")
        camera = keep_open(
            lambda stop: Ros2Camera("/camera/image_raw", options(address), open_s=2.0, stall_s=0.3, stop=stop),
            give_up_s=20.0,
            health=health,
        )
        before = camera.read()
        talker.close()
        timer = threading.Timer(0.8, lambda: setattr(timer, "talker", Talker(address, "/camera/image_raw")))
        timer.start()
        deadline_s = time.monotonic() + 15
        after = camera.read()
        while after is not None and not health.status().counts.get("disconnected") and time.monotonic() < deadline_s:
            after = camera.read()
        assert before is not None and after is not None and after.frame_id > before.frame_id
        assert health.status().counts == {"disconnected": 1}
        camera.close()
        timer.talker.close()  # type: ignore[attr-defined]


def test_a_read_that_waits_is_ended_by_another_thread() -> None:
    with talking() as (address, talker):
        camera = Ros2Camera("/camera/image_raw", options(address), stall_s=30.0)
        talker.close()
        threading.Timer(0.2, camera.interrupt).start()
        begun_s = time.monotonic()
        while camera.read() is not None:
            pass
        assert time.monotonic() - begun_s < 10
        camera.close()
        camera.close()


def test_the_library_opens_it_by_its_name() -> None:
    with pytest.raises(CameraError, match="a size, rate or format can be asked of a V4L2 camera only"):
        open_camera("ros2:/camera/image_raw", fps=30)
    assert ROUTER == "tcp/localhost:7447"
