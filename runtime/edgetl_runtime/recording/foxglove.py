"""Pictures and boxes as messages that Foxglove draws: foxglove.RawImage, foxglove.CompressedImage and
foxglove.ImageAnnotations in protobuf. What the messages of `scene` and `log` share with these is here too.

Field numbers after https://github.com/foxglove/foxglove-sdk/tree/main/schemas/proto.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

from edgetl_runtime.annotate import drawn_boxes, ink_on
from edgetl_runtime.recording.protobuf import (
    EnumType,
    FieldType,
    FileType,
    descriptor_set,
    double,
    fixed32,
    head,
    packed,
    whole,
)
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.annotate import Colour
    from edgetl_runtime.result import Result
    from edgetl_runtime.spec import Head

RAW_IMAGE = "foxglove.RawImage"
COMPRESSED_IMAGE = "foxglove.CompressedImage"
ANNOTATIONS = "foxglove.ImageAnnotations"
ENCODING = "bgr8"

_STAMP = "google.protobuf.Timestamp"
_LINE_LOOP = 2
_THICKNESS, _FONT_SIZE = 2.0, 12.0
_NS = 1_000_000_000


def message_type(message: str, *fields: FieldType, needs: Sequence[str] = (), enum: EnumType | None = None) -> FileType:
    """The file of one message of Foxglove's. needs: the others that it holds."""
    imports = [f.file for f in (TIMESTAMP, DURATION) if any(field.of == f"{f.package}.{f.message}" for field in fields)]
    imports += [f"foxglove/{name}.proto" for name in needs]
    return FileType(f"foxglove/{message}.proto", "foxglove", message, fields, tuple(imports), enum)


def stamp_type(number: int) -> FieldType:
    """The time that a message is of."""
    return FieldType("timestamp", number, "message", _STAMP)


def part_type(name: str, number: int, of: str, *, many: bool = False) -> FieldType:
    """A field that holds another of Foxglove's messages."""
    return FieldType(name, number, "message", f"foxglove.{of}", many)


TIMESTAMP = FileType(
    "google/protobuf/timestamp.proto",
    "google.protobuf",
    "Timestamp",
    (FieldType("seconds", 1, "int64"), FieldType("nanos", 2, "int32")),
)
DURATION = FileType(
    "google/protobuf/duration.proto",
    "google.protobuf",
    "Duration",
    (FieldType("seconds", 1, "int64"), FieldType("nanos", 2, "int32")),
)
_COMPRESSED = message_type(
    "CompressedImage",
    stamp_type(1),
    FieldType("frame_id", 4, "string"),
    FieldType("data", 2, "bytes"),
    FieldType("format", 3, "string"),
)
_IMAGE = message_type(
    "RawImage",
    stamp_type(1),
    FieldType("frame_id", 7, "string"),
    FieldType("width", 2, "fixed32"),
    FieldType("height", 3, "fixed32"),
    FieldType("encoding", 4, "string"),
    FieldType("step", 5, "fixed32"),
    FieldType("data", 6, "bytes"),
)
COLOUR = message_type("Color", *(FieldType(name, i, "double") for i, name in enumerate("rgba", 1)))
_POINT = message_type("Point2", FieldType("x", 1, "double"), FieldType("y", 2, "double"))
# Circles and metadata are in Foxglove's schema and never in ours: left out, they read as empty.
_POINTS = message_type(
    "PointsAnnotation",
    stamp_type(1),
    FieldType("type", 2, "enum", "foxglove.PointsAnnotation.Type"),
    part_type("points", 3, "Point2", many=True),
    part_type("outline_color", 4, "Color"),
    part_type("outline_colors", 5, "Color", many=True),
    part_type("fill_color", 6, "Color"),
    FieldType("thickness", 7, "double"),
    needs=("Color", "Point2"),
    enum=EnumType("Type", ("UNKNOWN", "POINTS", "LINE_LOOP", "LINE_STRIP", "LINE_LIST")),
)
_TEXT = message_type(
    "TextAnnotation",
    stamp_type(1),
    part_type("position", 2, "Point2"),
    FieldType("text", 3, "string"),
    FieldType("font_size", 4, "double"),
    part_type("text_color", 5, "Color"),
    part_type("background_color", 6, "Color"),
    needs=("Color", "Point2"),
)
_ANNOTATIONS = message_type(
    "ImageAnnotations",
    part_type("points", 2, "PointsAnnotation", many=True),
    part_type("texts", 3, "TextAnnotation", many=True),
    stamp_type(5),
    needs=("PointsAnnotation", "TextAnnotation"),
)


def image_schema() -> bytes:
    """The FileDescriptorSet of foxglove.RawImage."""
    return descriptor_set((TIMESTAMP, _IMAGE))


def compressed_schema() -> bytes:
    """The FileDescriptorSet of foxglove.CompressedImage."""
    return descriptor_set((TIMESTAMP, _COMPRESSED))


def annotations_schema() -> bytes:
    """The FileDescriptorSet of foxglove.ImageAnnotations."""
    return descriptor_set((TIMESTAMP, COLOUR, _POINT, _POINTS, _TEXT, _ANNOTATIONS))


def image_message(image: NDArray[np.uint8], t_wall_ns: int, frame_id: str) -> tuple[bytes, memoryview]:
    """A foxglove.RawImage in two parts. image: (H, W, 3) uint8 BGR, of which the second part is a view.

    The pixels stand last, so that `image_bytes` finds them.
    """
    height, width = image.shape[:2]
    data = image.reshape(-1).data  # no copy of what is contiguous
    fields = (
        time_field(1, t_wall_ns),
        fixed32(2, width),
        fixed32(3, height),
        packed(4, ENCODING),
        fixed32(5, width * 3),
        packed(7, frame_id),
        head(6, len(data)),
    )
    return b"".join(fields), data


def jpeg_message(jpeg: bytes, t_wall_ns: int, frame_id: str) -> bytes:
    """A foxglove.CompressedImage."""
    return time_field(1, t_wall_ns) + packed(2, jpeg) + packed(3, "jpeg") + packed(4, frame_id)


def image_bytes(message: memoryview, size_hw: tuple[int, int]) -> memoryview:
    """The pixels of a message that `image_message` made, a view of it. Raises ValueError for another size."""
    size = size_hw[0] * size_hw[1] * 3
    before = head(6, size)
    start = len(message) - size
    if size <= 0 or start < len(before) or message[start - len(before) : start] != before:
        raise ValueError(f"the picture is not of {size_hw[1]}x{size_hw[0]} pixels")
    return message[start:]


def annotations_message(result: Result, heads: Sequence[Head], t_wall_ns: int) -> bytes:
    """A foxglove.ImageAnnotations with every box, its label, number, score and distance; t_wall_ns: the picture's."""
    stamp = time_field(1, t_wall_ns)
    parts = [time_field(5, t_wall_ns)]
    for each in heads:
        output = result.outputs[each.name]
        if isinstance(each, DetectHead) and isinstance(output, Detections):
            for box, label, bgr in drawn_boxes(output, each.labels):
                line, style = _styles(bgr)
                parts.append(packed(2, stamp + _corners(box) + line))
                parts.append(packed(3, stamp + packed(2, numbers(*box[:2])) + packed(3, label) + style))
    return b"".join(parts)


def time_field(number: int, t_ns: int) -> bytes:
    """A google.protobuf.Timestamp, or a Duration."""
    return packed(number, whole(1, t_ns // _NS) + whole(2, t_ns % _NS))


def numbers(*values: float) -> bytes:
    """Fields 1, 2, ... of doubles: a Point2, a Vector3 or a Color."""
    return b"".join(double(i, v) for i, v in enumerate(values, 1))


_CORNERS = struct.Struct("<" + 4 * "2sBdBd")
_POINT_HEAD = head(3, len(numbers(0.0, 0.0)))
_X, _Y = double(1, 0.0)[0], double(2, 0.0)[0]


def _corners(box: Sequence[float]) -> bytes:
    """Field 3 of a PointsAnnotation four times, in one step: boxes are what there are many of."""
    x1, y1, x2, y2 = box
    h, x, y = _POINT_HEAD, _X, _Y
    return _CORNERS.pack(h, x, x1, y, y1, h, x, x2, y, y1, h, x, x2, y, y2, h, x, x1, y, y2)


@lru_cache(maxsize=256)
def _styles(bgr: Colour) -> tuple[bytes, bytes]:
    """How a box of this colour is drawn: the rest of its PointsAnnotation and of its TextAnnotation."""
    blue, green, red = (v / 255 for v in bgr)
    colour = numbers(red, green, blue, 1.0)
    line = whole(2, _LINE_LOOP) + packed(4, colour) + double(7, _THICKNESS)
    ink = numbers(*(v / 255 for v in ink_on(bgr)), 1.0)
    return line, double(4, _FONT_SIZE) + packed(5, ink) + packed(6, colour)
