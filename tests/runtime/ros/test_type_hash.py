"""Hashes of definitions, against rosbags' and against those that ROS's own generator wrote."""

from __future__ import annotations

import pytest
from pycdr2 import IdlStruct
from ros_listener import typestore

from edgetl_runtime.ros import messages
from edgetl_runtime.ros.type_hash import dds_name, type_hash, type_name

ALL = [c for c in vars(messages).values() if isinstance(c, type) and issubclass(c, IdlStruct) and c is not IdlStruct]
# As rosidl_generator_c wrote them into a build of vision_msgs 4, detection2_d_array__description.c and its like.
GENERATED = {
    messages.Point2D: "eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    messages.Pose2D: "b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    messages.BoundingBox2D: "008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    messages.ObjectHypothesis: "51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    messages.ObjectHypothesisWithPose: "41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    messages.Detection2D: "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    messages.Detection2DArray: "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    messages.Detection3DArray: "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    messages.PoseWithCovariance: "9a7c0fd234b7f45c6098745ecccd773ca1085670e64107135397aee31c02e1bb",
}


@pytest.mark.parametrize("message", ALL, ids=type_name)
def test_the_hash_is_the_one_of_an_independent_implementation(message: type) -> None:
    assert type_hash(message) == typestore().hash_rihs01(type_name(message))


@pytest.mark.parametrize("message", GENERATED, ids=type_name)
def test_the_hash_is_the_one_that_ros_generates(message: type) -> None:
    assert type_hash(message) == "RIHS01_" + GENERATED[message]


def test_the_name_in_key_expressions() -> None:
    assert dds_name(messages.Detection2DArray) == "vision_msgs::msg::dds_::Detection2DArray_"
