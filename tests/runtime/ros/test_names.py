"""Key expressions, tokens and attachments as rmw_zenoh_cpp's design document shows them; names that ROS refuses."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetl_runtime.errors import InputError
from edgetl_runtime.ros.names import (
    DIAGNOSTICS,
    RESULTS,
    SENSOR,
    Endpoint,
    NodeName,
    Quality,
    attachment,
    frame_of,
    gid_of,
    read_attachment,
    token,
)

# The examples of https://github.com/ros2/rmw_zenoh/blob/rolling/docs/design.md
HASH = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
STRING = "std_msgs::msg::dds_::String_"
TALKER_ZID, LISTENER_ZID = "8b20917502ee955ac4476e0266340d5c", "aac3178e146ba6f1fc6e6a4085e77f21"


def test_keys_are_those_of_the_design() -> None:
    assert Endpoint("/chatter", STRING, HASH).key(0) == f"0/chatter/{STRING}/{HASH}"
    topic = NodeName(namespace="/robot1").topic("chatter")
    assert Endpoint(topic, STRING, HASH).key(0) == f"0/robot1/chatter/{STRING}/{HASH}"


def test_tokens_are_those_of_the_design() -> None:
    listener, talker = NodeName(2, "/", "listener"), NodeName(2, "/", "talker")
    chatter = Endpoint("/chatter", STRING, HASH)
    assert token(listener, LISTENER_ZID, "NN", 0, None, None) == f"@ros2_lv/2/{LISTENER_ZID}/0/0/NN/%/%/listener"
    assert token(listener, LISTENER_ZID, "MS", 10, chatter, Quality(True, 10)) == (
        f"@ros2_lv/2/{LISTENER_ZID}/0/10/MS/%/%/listener/%chatter/{STRING}/{HASH}/::,10:,:,:,,"
    )
    assert token(talker, TALKER_ZID, "MP", 10, chatter, Quality(True, 7)) == (
        f"@ros2_lv/2/{TALKER_ZID}/0/10/MP/%/%/talker/%chatter/{STRING}/{HASH}/::,7:,:,:,,"
    )


def test_a_namespace_is_part_of_node_and_topic() -> None:
    node = NodeName(0, "/front/left", "edgetl")
    made = token(node, "ab", "MP", 1, Endpoint(node.topic("boxes"), STRING, HASH), RESULTS)
    assert made.split("/")[6:10] == ["%", "%front%left", "edgetl", "%front%left%boxes"]


@pytest.mark.parametrize(
    ("quality", "encoded"),
    [
        (RESULTS, "::,1:,:,:,,"),
        (SENSOR, "2::,5:,:,:,,"),
        (DIAGNOSTICS, "::,10:,:,:,,"),
        (Quality(True, 42), "::,:,:,:,,"),
    ],
)
def test_defaults_of_rmw_zenoh_are_left_out_of_a_quality(quality: Quality, encoded: str) -> None:
    assert quality.encoded() == encoded


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.binary(min_size=16, max_size=16))
def test_an_attachment_is_33_little_endian_bytes(number: int, source_ns: int, gid: bytes) -> None:
    made = attachment(number, source_ns, gid)
    assert made == struct.pack("<qq", number, source_ns) + b"\x10" + gid
    assert read_attachment(made) == (number, source_ns, gid)


@given(st.binary(max_size=80))
def test_other_attachments_are_refused(data: bytes) -> None:
    if len(data) == 33 and data[16] == 16:
        return
    with pytest.raises(ValueError, match="attachment"):
        read_attachment(data)


def test_gids_differ_between_publishers_and_not_between_looks() -> None:
    assert gid_of("a") == gid_of("a") != gid_of("b") and len(gid_of("a")) == 16


@pytest.mark.parametrize("name", ["", "/", "a b", "1st", "a//b", "boxes/", "a-b", "~x"])
def test_names_that_ros_refuses_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="a ROS topic is like"):
        NodeName().topic(name)


@pytest.mark.parametrize(
    "node",
    [{"domain": -1}, {"domain": 233}, {"name": "1a"}, {"name": ""}, {"namespace": "front"}, {"namespace": "/a/"}],
)
def test_nodes_that_ros_refuses_are_refused(node: dict[str, object]) -> None:
    with pytest.raises(InputError, match="a ROS"):
        NodeName(**node)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("camera", "frame"),
    [("front", "front_optical_frame"), ("/dev/video0", "dev_video0_optical_frame"), ("://", "camera_optical_frame")],
)
def test_the_frame_is_of_the_camera(camera: str, frame: str) -> None:
    assert frame_of(camera) == frame
