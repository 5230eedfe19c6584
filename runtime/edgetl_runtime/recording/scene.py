"""Objects that have a place, as a scene that Foxglove draws in base_link: foxglove.SceneUpdate in protobuf.

Field numbers after https://github.com/foxglove/foxglove-sdk/tree/main/schemas/proto.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import drawn_boxes
from edgetl_runtime.recording.foxglove import (
    COLOUR,
    DURATION,
    TIMESTAMP,
    message_type,
    numbers,
    part_type,
    stamp_type,
    time_field,
)
from edgetl_runtime.recording.protobuf import EnumType, FieldType, descriptor_set, double, packed, whole
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgetl_runtime.annotate import Colour
    from edgetl_runtime.result import Result
    from edgetl_runtime.spec import Head

SCENE_UPDATE = "foxglove.SceneUpdate"
BASE_FRAME = "base_link"
SHOWN_NS = 500_000_000
"""An object vanishes after that where no newer scene replaces it."""

_ALL = 1
_TALL_M, _WIDE_M, _FONT_SIZE = 1.5, 0.6, 12.0
_VECTOR = message_type("Vector3", *(FieldType(name, i, "double") for i, name in enumerate("xyz", 1)))
_QUATERNION = message_type("Quaternion", *(FieldType(name, i, "double") for i, name in enumerate("xyzw", 1)))
_POSE = message_type(
    "Pose",
    part_type("position", 1, "Vector3"),
    part_type("orientation", 2, "Quaternion"),
    needs=("Vector3", "Quaternion"),
)
_CYLINDER = message_type(
    "CylinderPrimitive",
    part_type("pose", 1, "Pose"),
    part_type("size", 2, "Vector3"),
    FieldType("bottom_scale", 3, "double"),
    FieldType("top_scale", 4, "double"),
    part_type("color", 5, "Color"),
    needs=("Color", "Pose", "Vector3"),
)
_TEXT = message_type(
    "TextPrimitive",
    part_type("pose", 1, "Pose"),
    FieldType("billboard", 2, "bool"),
    FieldType("font_size", 3, "double"),
    FieldType("scale_invariant", 4, "bool"),
    part_type("color", 5, "Color"),
    FieldType("text", 6, "string"),
    needs=("Color", "Pose"),
)
_DELETION = message_type(
    "SceneEntityDeletion",
    stamp_type(1),
    FieldType("type", 2, "enum", "foxglove.SceneEntityDeletion.Type"),
    FieldType("id", 3, "string"),
    enum=EnumType("Type", ("MATCHING_ID", "ALL")),
)
# Other shapes and metadata are in Foxglove's schema and never in ours: left out, they read as empty.
_ENTITY = message_type(
    "SceneEntity",
    stamp_type(1),
    FieldType("frame_id", 2, "string"),
    FieldType("id", 3, "string"),
    FieldType("lifetime", 4, "message", "google.protobuf.Duration"),
    FieldType("frame_locked", 5, "bool"),
    part_type("cylinders", 10, "CylinderPrimitive", many=True),
    part_type("texts", 13, "TextPrimitive", many=True),
    needs=("CylinderPrimitive", "TextPrimitive"),
)
_UPDATE = message_type(
    "SceneUpdate",
    part_type("deletions", 1, "SceneEntityDeletion", many=True),
    part_type("entities", 2, "SceneEntity", many=True),
    needs=("SceneEntityDeletion", "SceneEntity"),
)
_FILES = (
    TIMESTAMP,
    DURATION,
    COLOUR,
    _VECTOR,
    _QUATERNION,
    _POSE,
    _CYLINDER,
    _TEXT,
    _DELETION,
    _ENTITY,
    _UPDATE,
)
_UPRIGHT = numbers(0.0, 0.0, 0.0, 1.0)
_INK = numbers(0.0, 0.0, 0.0, 1.0)


def scene_schema() -> bytes:
    """The FileDescriptorSet of foxglove.SceneUpdate."""
    return descriptor_set(_FILES)


def scene_message(result: Result, heads: Sequence[Head], t_wall_ns: int) -> bytes:
    """A foxglove.SceneUpdate that replaces the one before; empty bytes where nothing can have a place.

    A post stands where each object does, always of the same size, which is not measured; around it lies a disc of two
    standard deviations of the position on its less certain axis.
    """
    placed = False
    stamp = time_field(1, t_wall_ns)
    parts = [packed(1, stamp + whole(2, _ALL))]
    for head in heads:
        output = result.outputs[head.name]
        if isinstance(head, DetectHead) and isinstance(output, Detections) and output.places is not None:
            placed = True
            parts += [packed(2, stamp + entity) for entity in _entities(output, head)]
    return b"".join(parts) if placed else b""


def _entities(found: Detections, head: DetectHead) -> Iterator[bytes]:
    """Each object's SceneEntity but for its time."""
    assert found.places is not None
    positions = found.places.positions_m.tolist()
    variances = found.places.covariances_m2.diagonal(axis1=1, axis2=2).max(axis=1, initial=0.0).tolist()
    speeds = found.places.closing_speeds_mps.tolist()
    drawn = drawn_boxes(found, head.labels)
    for number, ((x, y), variance, speed, (_, label, bgr)) in enumerate(
        zip(positions, variances, speeds, drawn, strict=True)
    ):
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        text = label + (f" {-speed:+.0f} m/s" if math.isfinite(speed) else "")
        yield b"".join(
            (
                packed(2, BASE_FRAME),
                packed(3, f"{head.name} {number}"),
                packed(4, whole(1, SHOWN_NS // 1_000_000_000) + whole(2, SHOWN_NS % 1_000_000_000)),
                packed(10, _cylinder(x, y, _TALL_M, _WIDE_M, bgr, 1.0)),
                packed(10, _cylinder(x, y, 0.02, _disc_m(variance), bgr, 0.3)),
                packed(13, _text(x, y, text)),
            )
        )


def _disc_m(variance: float) -> float:
    """The diameter of the disc."""
    return 4 * math.sqrt(variance) if math.isfinite(variance) and variance > 0 else 0.0


def _pose(x: float, y: float, z: float) -> bytes:
    return packed(1, numbers(x, y, z)) + packed(2, _UPRIGHT)


def _colour(bgr: Colour, opacity: float) -> bytes:
    blue, green, red = (v / 255 for v in bgr)
    return numbers(red, green, blue, opacity)


def _cylinder(x: float, y: float, tall_m: float, wide_m: float, bgr: Colour, opacity: float) -> bytes:
    size = packed(2, numbers(wide_m, wide_m, tall_m))
    scales = double(3, 1.0) + double(4, 1.0)
    return packed(1, _pose(x, y, tall_m / 2)) + size + scales + packed(5, _colour(bgr, opacity))


def _text(x: float, y: float, text: str) -> bytes:
    style = whole(2, 1) + double(3, _FONT_SIZE) + whole(4, 1) + packed(5, _INK)
    return packed(1, _pose(x, y, _TALL_M + 0.3)) + style + packed(6, text)
