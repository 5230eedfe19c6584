"""A process that reads everything of one ROS domain with rosbags' decoder and plain Zenoh, and nothing of edgetl.

    python ros_listener.py ADDRESS DOMAIN

One line of JSON for each liveliness token and each message: its key, the moment of receipt on CLOCK_MONOTONIC, the
attachment as struct reads it, the decoded fields, and whether encoding those again gives the same bytes. Floats are in
hexadecimal, rows of octets too. It ends with its standard input.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import zenoh
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

VISION = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox2D bbox\nstring id",
    "Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox3D bbox\nstring id",
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections",
}
"""vision_msgs 4.x, which rosbags' store does not have."""


def typestore() -> Any:
    """Jazzy's types and those of vision_msgs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION.items():
        store.register(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    return store


def plain(value: Any) -> Any:
    """JSON that keeps every bit."""
    if isinstance(value, np.ndarray):
        return value.tobytes().hex() if value.dtype == np.uint8 else [plain(v) for v in value.tolist()]
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, list):
        return [plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__ if name != "__msgtype__"}
    return value


def main(address: str, domain: str) -> None:
    """Listen until standard input ends."""
    store = typestore()
    lock = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with lock:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def take(sample: zenoh.Sample) -> None:
        now_ns = time.monotonic_ns()
        key = str(sample.key_expr)
        name = key.split("/")[-2].replace("::dds_::", "/").replace("::", "/").rstrip("_")
        data = sample.payload.to_bytes()
        message = store.deserialize_cdr(data, name)
        again = bytes(store.serialize_cdr(message, name, little_endian=True))
        attached = sample.attachment.to_bytes() if sample.attachment else b""
        number, source_ns, length, gid = struct.unpack("<qqB16s", attached)
        told = {"key": key, "type": name, "hash": store.hash_rihs01(name), "t_ns": now_ns, "same": again == data}
        attachment = {"number": number, "source_ns": source_ns, "gid_bytes": length, "gid": gid.hex()}
        say(told | attachment | {"message": plain(message)})

    config = zenoh.Config()
    for name, value in {
        "mode": "peer",
        "connect/endpoints": [address],
        "listen/endpoints": ["tcp/127.0.0.1:0"],
        "scouting/multicast/enabled": False,
    }.items():
        config.insert_json5(name, json.dumps(value))
    with zenoh.open(config) as session:
        direct = zenoh.handlers.Callback
        session.declare_subscriber(f"{domain}/**", direct(take, None, indirect=False))
        session.liveliness().declare_subscriber(
            f"@ros2_lv/{domain}/**",
            direct(
                lambda s: say({"token": str(s.key_expr), "alive": s.kind == zenoh.SampleKind.PUT}), None, indirect=False
            ),
            history=True,
        )
        say({"ready": str(session.zid())})
        sys.stdin.read()
        # Closing the session waits for all that is still to be told, and gives up after some seconds. No line ends in
        # its middle, which threads that are told of messages meanwhile would bring about.
        with lock:
            os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], sys.argv[2])
