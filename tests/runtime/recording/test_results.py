"""Results as JSON come back bit for bit; what was tampered with is an error."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recording_support import boxes, result, tracked
from runtime_support import HEADS

from edgetl_runtime.recording.compare import compare
from edgetl_runtime.recording.results import MAX_ARRAY_BYTES, ExactArray, decode_result, encode_result
from edgetl_runtime.recording.schemas import result_schema
from edgetl_runtime.result import Detections, Places, Result


def again(of: Result) -> Result:
    return decode_result(encode_result(of, HEADS, sequence=7, frame_recorded=True)).result


@pytest.mark.parametrize("count", [0, 1, 8])
def test_every_kind_of_head_comes_back(count: int) -> None:
    of = result(4, count=count, valid_until_ns=99, state="late", health="degraded", name="é.png")
    read = decode_result(encode_result(of, HEADS, sequence=7, frame_recorded=False))
    assert (read.sequence, read.frame_recorded) == (7, False)
    assert compare(of, read.result, HEADS) is None
    for name in ("t_publish_ns", "valid_until_ns", "state", "health", "stages_ms", "name"):
        assert getattr(read.result, name) == getattr(of, name)


@given(hnp.arrays(np.float32, st.integers(0, 9), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_any_float_comes_back_bit_for_bit(values: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    embedding = again(result(embedding=values)).embedding
    assert embedding is not None and embedding.tobytes() == values.tobytes()
    n = len(values)
    found = Detections(np.repeat(values[:, None], 4, 1), values, np.zeros(n, np.int64))
    outputs = result().outputs | {"detect": found}
    came = again(result(outputs=outputs)).detections
    assert came.scores.tobytes() == values.tobytes()
    assert came.boxes_xyxy.tobytes() == np.repeat(values[:, None], 4, 1).tobytes()


def placed(count: int, *, stds: int) -> Detections:
    """Boxes with places, the last of which is not known; with so many of the deviations."""
    rng = np.random.default_rng(count)
    shapes: tuple[tuple[int, ...], ...] = ((count, 2), (count, 2, 2), *[(count,)] * 4)
    arrays = [rng.uniform(0, 99, shape).astype(np.float32) for shape in shapes]
    for array in arrays:
        array[-1:] = np.nan
    return dataclasses.replace(boxes(count), places=Places(*arrays[: 4 + stds]))


@pytest.mark.parametrize("stds", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_places_come_back_bit_for_bit(count: int, stds: int) -> None:
    found = placed(count, stds=stds)
    of = result(outputs=result().outputs | {"detect": found})
    came = again(of)
    assert compare(of, came, HEADS) is None and came.detections.places is not None
    assert (came.detections.places.closing_speed_stds_mps is not None) == (stds > 0)
    assert (came.detections.places.time_to_collision_stds_s is not None) == (stds > 1)
    row = json.loads(encode_result(of, HEADS, sequence=0, frame_recorded=True))
    assert [box["position_m"] is None for box in row["detections"]] == [False] * (count - 1) + [True] * (count > 0)
    schema = json.loads(result_schema())["properties"]["detections"]["items"]["properties"]
    assert all(set(box) <= set(schema) for box in row["detections"])


def test_a_deviation_is_compared_where_the_recording_has_it() -> None:
    base = result()

    def of(stds: int) -> Result:
        return dataclasses.replace(base, outputs=base.outputs | {"detect": placed(3, stds=stds)})

    assert compare(of(1), of(2), HEADS) is None, "recorded before times had one"
    assert compare(of(2), of(1), HEADS) is not None
    other = of(2)
    places = other.detections.places
    assert places is not None and places.time_to_collision_stds_s is not None
    changed = dataclasses.replace(places, time_to_collision_stds_s=places.time_to_collision_stds_s + 1)
    found = dataclasses.replace(other.detections, places=changed)
    difference = compare(other, dataclasses.replace(other, outputs=other.outputs | {"detect": found}), HEADS)
    assert difference is not None and "covariances or speeds of places differ" in difference.lines()[0]


def test_a_part_of_the_places_is_an_error() -> None:
    of = result(outputs=result().outputs | {"detect": placed(3, stds=2)})
    document = json.loads(encode_result(of, HEADS, sequence=0, frame_recorded=True))
    del document["exact"]["detect"]["covariances_m2"]
    with pytest.raises(ValueError, match="some of their places"):
        decode_result(json.dumps(document).encode())


def test_people_read_it_too() -> None:
    row = json.loads(encode_result(result(), HEADS, sequence=0, frame_recorded=True))
    assert len(row["detections"]) == 3 and set(row["detections"][0]) == {"label", "class", "score", "box_xyxy"}
    assert abs(sum(row["masks"]["ground"].values()) - 1) < 1e-3
    assert row["categories"]["light"]["label"]
    assert set(row) <= set(json.loads(result_schema())["properties"])


def test_arrays_are_what_their_description_says() -> None:
    import base64
    import zlib

    exact = json.loads(encode_result(result(), HEADS, sequence=0, frame_recorded=True))["exact"]["detect"]["scores"]
    read = np.frombuffer(zlib.decompress(base64.b64decode(exact["data"])), exact["dtype"]).reshape(exact["shape"])
    assert read.tobytes() == boxes(3).scores.tobytes()


TAMPERED = {
    "a shape that is too large": {"shape": [1 << 26, 9, 9, 9]},
    "a shape that is not held": {"shape": [4]},
    "a negative shape": {"shape": [-1]},
    "another type": {"dtype": "<i8"},
    "an unknown type": {"dtype": "|O"},
    "no packed data": {"data": "AAAA"},
    "no base64": {"data": "?"},
}


@pytest.mark.parametrize("case", TAMPERED, ids=str)
def test_tampered_arrays_are_refused(case: str) -> None:
    row = json.loads(encode_result(result(), HEADS, sequence=0, frame_recorded=True))
    row["exact"]["detect"]["scores"] |= TAMPERED[case]
    with pytest.raises(ValueError):
        decode_result(json.dumps(row).encode())


def test_a_bomb_is_not_unpacked() -> None:
    import zlib

    bomb = zlib.compress(bytes(1 << 26))
    with pytest.raises(ValueError, match="does not hold 8 bytes"):
        ExactArray("<f4", (2,), bomb).unpack()
    with pytest.raises(ValueError, match="at most"):
        ExactArray("<f4", (MAX_ARRAY_BYTES,), bomb).unpack()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe"], ids=repr)
def test_what_is_no_result_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_result(data)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_tracks_come_back_bit_for_bit(count: int) -> None:
    of = result(outputs=result().outputs | {"detect": tracked(count)})
    came = again(of)
    assert compare(of, came, HEADS) is None
    for name in ("track_ids", "track_ages_s", "velocities_px_s"):
        was, now = getattr(of.detections, name), getattr(came.detections, name)
        assert (was.dtype, was.tobytes()) == (now.dtype, now.tobytes())


def test_without_tracks_nothing_is_written_of_them() -> None:
    """So a recording without tracks is what it was before there were any, and those made then are read."""
    row = json.loads(encode_result(result(), HEADS, sequence=0, frame_recorded=True))
    assert set(row["exact"]["detect"]) == {"kind", "boxes_xyxy", "scores", "classes"}
    assert again(result()).detections.track_ids is None


@pytest.mark.parametrize("key", ["track_ids", "velocities_px_s"])
def test_half_of_a_track_is_refused(key: str) -> None:
    of = result(outputs=result().outputs | {"detect": tracked(2)})
    row = json.loads(encode_result(of, HEADS, sequence=0, frame_recorded=True))
    del row["exact"]["detect"][key]
    with pytest.raises(ValueError, match="or none of them"):
        decode_result(json.dumps(row).encode())


def test_many_arrays_that_unpack_to_much_are_refused() -> None:
    """Each alone is as large as is allowed: 64 kB on the disk, 64 MB in memory, and there could be thousands."""
    import base64
    import zlib

    packed = base64.b64encode(zlib.compress(bytes(MAX_ARRAY_BYTES), 9)).decode()
    document = json.loads(encode_result(result(), HEADS, sequence=0, frame_recorded=False))
    probabilities = {"dtype": "<f4", "shape": [MAX_ARRAY_BYTES // 4], "data": packed}
    scores = {"kind": "scores", "probabilities": probabilities, "label": 0}
    document["exact"] = {str(i): scores for i in range(5)}
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="its arrays claim"):
            decode_result(json.dumps(document).encode())
        assert tracemalloc.get_traced_memory()[1] < MAX_ARRAY_BYTES
    finally:
        tracemalloc.stop()
