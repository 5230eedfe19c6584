"""How ROS 2 topics, nodes and their qualities of service are named on Zenoh.

Key expressions, liveliness tokens and attachments are those of rmw_zenoh_cpp, from version 0.2.4 (Jazzy) on, as
https://github.com/ros2/rmw_zenoh/blob/rolling/docs/design.md and liveliness_utils.cpp beside it say; rules for names
are those of https://design.ros2.org/articles/topic_and_service_names.html.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Literal

from edgetl_runtime.errors import InputError

Kind = Literal["NN", "MP", "MS"]
"""A node, a publisher, a subscription."""

ADMIN_SPACE = "@ros2_lv"
GID_BYTES = 16
_ATTACHMENT = struct.Struct(f"<qqB{GID_BYTES}s")
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEFAULT_DEPTH = 42  # of rmw_zenoh_cpp, whose defaults are left out of a token
_BEST_EFFORT = 2
MAX_DOMAIN = 232
"""Zenoh has no limit; DDS, whose numbers these are, has."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of service; durability is volatile, nothing else is limited. depth: how many a queue keeps."""

    reliable: bool
    depth: int

    def encoded(self) -> str:
        """As a token has it: reliability, durability, history and depth, deadline, lifespan, liveliness."""
        reliability = "" if self.reliable else str(_BEST_EFFORT)
        depth = "" if self.depth == _DEFAULT_DEPTH else str(self.depth)
        return f"{reliability}::,{depth}:,:,:,,"


RESULTS = Quality(reliable=True, depth=1)
"""Of what is acted on: the newest counts, and a subscriber that asks for reliable gets it. As with rmw_zenoh_cpp a
publisher that keeps the last ones drops rather than waits where a link is full."""
SENSOR = Quality(reliable=False, depth=5)
"""Of pictures: ROS's profile for sensor data."""
DIAGNOSTICS = Quality(reliable=True, depth=10)
"""Of a status once a second: ROS's default profile."""


@dataclass(frozen=True, slots=True)
class NodeName:
    """domain: ROS_DOMAIN_ID. namespace: / or /like/this. Raises InputError for what ROS would refuse."""

    domain: int = 0
    namespace: str = "/"
    name: str = "edgetl"

    def __post_init__(self) -> None:
        if not 0 <= self.domain <= MAX_DOMAIN:
            raise InputError(f"a ROS domain is a number from 0 to {MAX_DOMAIN}, found {self.domain}")
        if not _TOKEN.fullmatch(self.name):
            raise InputError(f"a ROS node's name has letters, digits and _ and no digit first, found {self.name!r}")
        if self.namespace != "/":
            check_name(self.namespace, "namespace")

    def topic(self, name: str) -> str:
        """The full name of a topic: an absolute one as it is, another within the namespace. Raises InputError."""
        full = name if name.startswith("/") else f"{self.namespace.rstrip('/')}/{name}"
        return check_name(full, "topic")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A topic with its type, as a publisher or a subscription names it."""

    topic: str
    dds_name: str
    type_hash: str

    def key(self, domain: int) -> str:
        """The key expression that messages travel under."""
        return f"{domain}/{self.topic.strip('/')}/{self.dds_name}/{self.type_hash}"


def check_name(name: str, what: str) -> str:
    """The absolute name itself. Raises InputError where ROS would refuse it."""
    parts = name.split("/")
    if parts[0] or len(parts) < 2 or not all(_TOKEN.fullmatch(part) for part in parts[1:]):
        raise InputError(
            f"a ROS {what} is like /front/camera, of letters, digits and _ with no digit first, found {name!r}"
        )
    return name


def mangled(name: str) -> str:
    """A name with / as %, so that it is one part of a key expression."""
    return name.replace("/", "%")


def token(
    node: NodeName,
    zid: str,
    kind: Kind,
    entity: int,
    endpoint: Endpoint | None,
    quality: Quality | None,
    *,
    node_entity: int = 0,
) -> str:
    """The liveliness token that shows an entity in the ROS graph.

    zid: the Zenoh session's id. entity: unique within the session. node_entity: that of the node to which it belongs,
    which is the node's own. endpoint and quality: of a publisher or subscription.
    """
    parts = [
        ADMIN_SPACE,
        str(node.domain),
        zid,
        str(node_entity),
        str(entity),
        kind,
        "%",
        mangled(node.namespace),
        node.name,
    ]
    if endpoint is not None and quality is not None:
        parts += [mangled(endpoint.topic), endpoint.dds_name, endpoint.type_hash, quality.encoded()]
    return "/".join(parts)


def gid_of(text: str) -> bytes:
    """16 bytes that name the publisher with this token.

    rmw_zenoh_cpp takes another hash (XXH3): a subscriber tells publishers apart by ours as well, and finds another
    number than `ros2 topic info --verbose` shows.
    """
    return hashlib.sha256(text.encode()).digest()[:GID_BYTES]


def attachment(sequence: int, source_epoch_ns: int, gid: bytes) -> bytes:
    """What goes with a message: its number, when it was published, by whom. Raises struct.error for other sizes."""
    return _ATTACHMENT.pack(sequence, source_epoch_ns, len(gid), gid)


def read_attachment(data: bytes) -> tuple[int, int, bytes]:
    """sequence, source_epoch_ns, gid. Raises ValueError."""
    if len(data) != _ATTACHMENT.size or data[16] != GID_BYTES:
        raise ValueError(f"an attachment must have {_ATTACHMENT.size} bytes with {GID_BYTES} at 16, found {len(data)}")
    sequence, source_epoch_ns, _, gid = _ATTACHMENT.unpack(data)
    return sequence, source_epoch_ns, gid


def frame_of(camera_id: str) -> str:
    """`<camera>_optical_frame`, the coordinate frame of a camera's pictures by REP-103: x right, y down, z forward."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", camera_id).strip("_") or "camera"
    return f"{name}_optical_frame"
