"""The ROS 2 messages that are published and read here, as CDR structures.

Fields and their order are those of the .msg files of the same name: common_interfaces (std_msgs, geometry_msgs,
sensor_msgs, diagnostic_msgs), rcl_interfaces (builtin_interfaces) and vision_msgs 4.x, whose sources are at
https://github.com/ros2/common_interfaces and https://github.com/ros-perception/vision_msgs. The same definitions give
the bytes (`serialize`: little-endian CDR behind the four bytes of its encapsulation) and the type hash. Units are the
messages' own: seconds, metres, radians, pixels. This module needs pycdr2, of the vehicle extra.
"""

# Annotations stay objects here: pycdr2 does not resolve the names of builtins.
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pycdr2 import IdlStruct
from pycdr2.types import array, float64, int32, sequence, typedef, uint8, uint32

byte = Annotated[int, typedef("byte", uint8)]
"""An octet that isn't a number: the same bytes as uint8, and a type of its own in the hash."""
octets = Annotated[bytes, sequence(uint8)]
doubles = Annotated[Sequence[float], sequence(float64)]
doubles_9 = Annotated[Sequence[float], array(float64, 9)]
doubles_12 = Annotated[Sequence[float], array(float64, 12)]
doubles_36 = Annotated[Sequence[float], array(float64, 36)]


@dataclass
class Time(IdlStruct, typename="builtin_interfaces/msg/Time"):
    """Since the epoch of the system clock."""

    sec: int32 = 0
    nanosec: uint32 = 0


@dataclass
class Header(IdlStruct, typename="std_msgs/msg/Header"):
    """When a frame was captured, and in which coordinate frame the message speaks."""

    stamp: Time = field(default_factory=Time)
    frame_id: str = ""


@dataclass
class Point(IdlStruct, typename="geometry_msgs/msg/Point"):
    """Metres."""

    x: float64 = 0.0
    y: float64 = 0.0
    z: float64 = 0.0


@dataclass
class Vector3(IdlStruct, typename="geometry_msgs/msg/Vector3"):
    """Metres."""

    x: float64 = 0.0
    y: float64 = 0.0
    z: float64 = 0.0


@dataclass
class Quaternion(IdlStruct, typename="geometry_msgs/msg/Quaternion"):
    """A rotation; no rotation by default."""

    x: float64 = 0.0
    y: float64 = 0.0
    z: float64 = 0.0
    w: float64 = 1.0


@dataclass
class Pose(IdlStruct, typename="geometry_msgs/msg/Pose"):
    """Position and rotation."""

    position: Point = field(default_factory=Point)
    orientation: Quaternion = field(default_factory=Quaternion)


@dataclass
class PoseWithCovariance(IdlStruct, typename="geometry_msgs/msg/PoseWithCovariance"):
    """covariance: 6x6, row by row, of x, y, z and the rotations about X, Y and Z."""

    pose: Pose = field(default_factory=Pose)
    covariance: doubles_36 = field(default_factory=lambda: [0.0] * 36)


@dataclass
class ObjectHypothesis(IdlStruct, typename="vision_msgs/msg/ObjectHypothesis"):
    """class_id: the label's name."""

    class_id: str = ""
    score: float64 = 0.0


@dataclass
class ObjectHypothesisWithPose(IdlStruct, typename="vision_msgs/msg/ObjectHypothesisWithPose"):
    """What an object may be, and where."""

    hypothesis: ObjectHypothesis = field(default_factory=ObjectHypothesis)
    pose: PoseWithCovariance = field(default_factory=PoseWithCovariance)


hypotheses = Annotated[Sequence[ObjectHypothesisWithPose], sequence(ObjectHypothesisWithPose)]


@dataclass
class Point2D(IdlStruct, typename="vision_msgs/msg/Point2D"):
    """Pixels."""

    x: float64 = 0.0
    y: float64 = 0.0


@dataclass
class Pose2D(IdlStruct, typename="vision_msgs/msg/Pose2D"):
    """theta: radians, counter-clockwise."""

    position: Point2D = field(default_factory=Point2D)
    theta: float64 = 0.0


@dataclass
class BoundingBox2D(IdlStruct, typename="vision_msgs/msg/BoundingBox2D"):
    """Pixels of the source image."""

    center: Pose2D = field(default_factory=Pose2D)
    size_x: float64 = 0.0
    size_y: float64 = 0.0


@dataclass
class Detection2D(IdlStruct, typename="vision_msgs/msg/Detection2D"):
    """id: of the track, empty where there is none."""

    header: Header = field(default_factory=Header)
    results: hypotheses = field(default_factory=list)
    bbox: BoundingBox2D = field(default_factory=BoundingBox2D)
    id: str = ""


@dataclass
class Detection2DArray(IdlStruct, typename="vision_msgs/msg/Detection2DArray"):
    """All boxes of one frame, none included."""

    header: Header = field(default_factory=Header)
    detections: Annotated[Sequence[Detection2D], sequence(Detection2D)] = field(default_factory=list)


@dataclass
class BoundingBox3D(IdlStruct, typename="vision_msgs/msg/BoundingBox3D"):
    """Metres."""

    center: Pose = field(default_factory=Pose)
    size: Vector3 = field(default_factory=Vector3)


@dataclass
class Detection3D(IdlStruct, typename="vision_msgs/msg/Detection3D"):
    """id: of the track, empty where there is none."""

    header: Header = field(default_factory=Header)
    results: hypotheses = field(default_factory=list)
    bbox: BoundingBox3D = field(default_factory=BoundingBox3D)
    id: str = ""


@dataclass
class Detection3DArray(IdlStruct, typename="vision_msgs/msg/Detection3DArray"):
    """All objects of one frame whose place is known."""

    header: Header = field(default_factory=Header)
    detections: Annotated[Sequence[Detection3D], sequence(Detection3D)] = field(default_factory=list)


@dataclass
class RegionOfInterest(IdlStruct, typename="sensor_msgs/msg/RegionOfInterest"):
    """All zero: the whole image."""

    x_offset: uint32 = 0
    y_offset: uint32 = 0
    height: uint32 = 0
    width: uint32 = 0
    do_rectify: bool = False


@dataclass
class CameraInfo(IdlStruct, typename="sensor_msgs/msg/CameraInfo"):
    """d: distortion; k: 3x3 intrinsics, all zero where the camera is not calibrated; r: 3x3; p: 3x4; all row by row."""

    header: Header = field(default_factory=Header)
    height: uint32 = 0
    width: uint32 = 0
    distortion_model: str = ""
    d: doubles = field(default_factory=list)
    k: doubles_9 = field(default_factory=lambda: [0.0] * 9)
    r: doubles_9 = field(default_factory=lambda: [0.0] * 9)
    p: doubles_12 = field(default_factory=lambda: [0.0] * 12)
    binning_x: uint32 = 0
    binning_y: uint32 = 0
    roi: RegionOfInterest = field(default_factory=RegionOfInterest)


@dataclass
class Image(IdlStruct, typename="sensor_msgs/msg/Image"):
    """step: bytes of a row. data is last, see `edgetl_runtime.ros.pixels`."""

    header: Header = field(default_factory=Header)
    height: uint32 = 0
    width: uint32 = 0
    encoding: str = ""
    is_bigendian: uint8 = 0
    step: uint32 = 0
    data: octets = b""


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs/msg/CompressedImage"):
    """format: jpeg. data is last, see `edgetl_runtime.ros.pixels`."""

    header: Header = field(default_factory=Header)
    format: str = ""
    data: octets = b""


@dataclass
class KeyValue(IdlStruct, typename="diagnostic_msgs/msg/KeyValue"):
    """One line of a status."""

    key: str = ""
    value: str = ""


@dataclass
class DiagnosticStatus(IdlStruct, typename="diagnostic_msgs/msg/DiagnosticStatus"):
    """level: 0 OK, 1 WARN, 2 ERROR, 3 STALE."""

    level: byte = 0
    name: str = ""
    message: str = ""
    hardware_id: str = ""
    values: Annotated[Sequence[KeyValue], sequence(KeyValue)] = field(default_factory=list)


@dataclass
class DiagnosticArray(IdlStruct, typename="diagnostic_msgs/msg/DiagnosticArray"):
    """All statuses of one moment."""

    header: Header = field(default_factory=Header)
    status: Annotated[Sequence[DiagnosticStatus], sequence(DiagnosticStatus)] = field(default_factory=list)
