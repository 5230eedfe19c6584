"""Objects in the scene as Foxglove's own schemas read them."""

from __future__ import annotations

import pytest
from recording_support import placed, result
from runtime_support import HEADS
from test_foxglove import T_NS, decode

from edgetl_runtime.recording.scene import scene_message, scene_schema

SCENE = "foxglove.SceneUpdate"


@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_object_with_a_place_stands_there(count: int) -> None:
    of = result(outputs=result().outputs | {"detect": placed(count)})
    data = scene_message(of, HEADS, T_NS)
    found = decode(scene_schema(), SCENE, data)
    assert [(d.type, d.timestamp.nanos) for d in found.deletions] == [(1, 234_567_890)]
    assert len(found.entities) == max(count - 1, 0)  # the last one has no place
    for i, entity in enumerate(found.entities):
        assert (entity.frame_id, entity.id, entity.lifetime.nanos) == ("base_link", f"detect {i}", 500_000_000)
        post, disc = entity.cylinders
        at = post.pose.position
        assert (at.x, at.y, at.z) == (10.0 * (i + 1), i, post.size.z / 2) and post.pose.orientation.w == 1
        assert disc.size.x == pytest.approx(4 * 0.5) and disc.color.a < post.color.a == 1
        text = entity.texts[0].text
        assert f"{(100 * (i + 1) ** 2 + i * i) ** 0.5:.0f} m " in text and text.count(" m ") == 1
        assert text.endswith(f"{-i:+d} m/s" if i else "0 m/s")
    assert len({e.id for e in found.entities}) == len(found.entities)


def test_numbers_and_types_are_foxgloves() -> None:
    schemas = pytest.importorskip("foxglove_schemas_protobuf.SceneUpdate_pb2", reason="Foxglove's own schemas")
    data = scene_message(result(outputs=result().outputs | {"detect": placed(3)}), HEADS, T_NS)
    theirs = schemas.SceneUpdate.FromString(data)
    assert str(theirs) == str(decode(scene_schema(), SCENE, data)) and len(theirs.entities) == 2


def test_without_places_there_is_no_scene() -> None:
    assert scene_message(result(), HEADS, T_NS) == b""
