"""Pictures and boxes are read by another implementation, with the descriptors that travel in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from recording_support import noise, placed, result, tracked
from runtime_support import HEADS, LABELS

from edgetl_runtime.annotate import drawn_boxes, ink_on
from edgetl_runtime.recording.foxglove import (
    annotations_message,
    annotations_schema,
    compressed_schema,
    image_bytes,
    image_message,
    image_schema,
    jpeg_message,
)

T_NS = 1_700_000_001_234_567_890


def decode(schema: bytes, name: str, data: bytes) -> Any:
    files = descriptor_pb2.FileDescriptorSet.FromString(schema)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name)).FromString(data)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (90, 160)])
def test_a_picture_is_read_by_protobuf(size_hw: tuple[int, int]) -> None:
    image = noise(size_hw)
    data = b"".join(image_message(image, T_NS, "cam_optical_frame"))
    found = decode(image_schema(), "foxglove.RawImage", data)
    assert (found.timestamp.seconds, found.timestamp.nanos) == (1_700_000_001, 234_567_890)
    assert (found.height, found.width, found.step) == (*size_hw, size_hw[1] * 3)
    assert (found.encoding, found.frame_id) == ("bgr8", "cam_optical_frame")
    assert found.data == image.tobytes()
    assert bytes(image_bytes(memoryview(data), size_hw)) == image.tobytes()


@pytest.mark.parametrize("size_hw", [(4, 5), (1, 1), (0, 0), (3000, 3000)])
def test_another_size_than_the_results_is_refused(size_hw: tuple[int, int]) -> None:
    data = b"".join(image_message(noise((3, 5)), T_NS, "cam"))
    with pytest.raises(ValueError, match="pixels"):
        image_bytes(memoryview(data), size_hw)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_boxes_are_read_by_protobuf(count: int) -> None:
    of = result(count=count)
    found = decode(annotations_schema(), "foxglove.ImageAnnotations", annotations_message(of, HEADS, T_NS))
    assert len(found.points) == len(found.texts) == count
    for i in range(count):
        x1, y1, x2, y2 = of.detections.boxes_xyxy[i].tolist()
        loop = found.points[i]
        assert loop.type == 2 and loop.timestamp.nanos == 234_567_890
        assert [(p.x, p.y) for p in loop.points] == [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        label = HEADS[0].labels[of.detections.classes[i]]
        assert found.texts[i].text == f"{label} {of.detections.scores[i]:.2f}"
        assert loop.outline_color.a == 1.0 and loop.outline_color.r != loop.outline_color.b


def test_numbers_and_types_are_foxgloves() -> None:
    schemas = pytest.importorskip("foxglove_schemas_protobuf.ImageAnnotations_pb2", reason="Foxglove's own schemas")
    from foxglove_schemas_protobuf import CompressedImage_pb2, RawImage_pb2

    theirs = schemas.ImageAnnotations.FromString(annotations_message(result(), HEADS, T_NS))
    ours = decode(annotations_schema(), "foxglove.ImageAnnotations", annotations_message(result(), HEADS, T_NS))
    assert str(theirs) == str(ours) and len(theirs.points) == 3
    jpeg = CompressedImage_pb2.CompressedImage.FromString(jpeg_message(b"data", T_NS, "cam_optical_frame"))
    assert (jpeg.data, jpeg.format, jpeg.frame_id) == (b"data", "jpeg", "cam_optical_frame")
    assert jpeg.timestamp.ToNanoseconds() == T_NS
    assert str(jpeg) == str(
        decode(compressed_schema(), "foxglove.CompressedImage", jpeg_message(b"data", T_NS, "cam_optical_frame"))
    )
    image = RawImage_pb2.RawImage.FromString(b"".join(image_message(noise((3, 5)), T_NS, "cam")))
    assert np.frombuffer(image.data, np.uint8).reshape(3, 5, 3).tolist() == noise((3, 5)).tolist()


def test_numbers_are_in_the_texts() -> None:
    of = result(outputs=result().outputs | {"detect": tracked(3)})
    found = decode(annotations_schema(), "foxglove.ImageAnnotations", annotations_message(of, HEADS, T_NS))
    first, second, third = (text.text for text in found.texts)
    assert "#0 " in first and "#3 " in second and "#" not in third


def test_distances_are_in_the_texts_where_they_are_known() -> None:
    of = result(outputs=result().outputs | {"detect": placed(3)})
    found = decode(annotations_schema(), "foxglove.ImageAnnotations", annotations_message(of, HEADS, T_NS))
    first, second, third = (text.text for text in found.texts)
    assert first.endswith(" 10 m") and second.endswith(" 20 m") and not third.endswith(" m")
    assert first.count(" m") == second.count(" m") == 1
    assert [t.text_color.r for t in found.texts] == [
        int(ink_on(bgr)[0] > 0) for _, _, bgr in drawn_boxes(placed(3), LABELS)
    ]
