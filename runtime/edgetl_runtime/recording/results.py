"""Results as JSON and back: readable values beside every array bit for bit."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from edgetl_runtime.health import State
from edgetl_runtime.result import Detections, Mask, Output, Places, Result, ResultState, Scores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgetl_runtime.spec import Head

MAX_ARRAY_BYTES = 64 * 1024 * 1024
"""Of all arrays of one result together: a few packed kB can claim any number of them."""
_ZLIB_LEVEL = 1
_Length = Annotated[int, msgspec.Meta(ge=0, le=1 << 26)]
_Size = Annotated[int, msgspec.Meta(gt=0, le=1 << 16)]
_Stamp = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]
_SequenceNumber = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class ExactArray(msgspec.Struct, frozen=True):
    """An array's bytes, packed. data: zlib of them, little-endian, row by row; base64 in JSON."""

    dtype: Literal["<f4", "<i8", "|u1"]
    shape: Annotated[tuple[_Length, ...], msgspec.Meta(max_length=4)]
    data: bytes

    @property
    def nbytes(self) -> int:
        """How many bytes it claims to have unpacked."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def unpack(self) -> NDArray[Any]:
        """The array, read-only. Raises ValueError where it is not as large as it claims, or claims too much."""
        dtype, size = np.dtype(self.dtype), self.nbytes
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"an array claims {size} bytes, at most {MAX_ARRAY_BYTES} make sense")
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(self.data, size + 1)
        except zlib.error as error:
            raise ValueError(f"an array can't be unpacked: {error}") from error
        if len(data) != size or not unpacker.eof:
            raise ValueError(f"an array {self.dtype}{list(self.shape)} does not hold {size} bytes")
        return np.frombuffer(data, dtype).reshape(self.shape)


class ExactDetections(msgspec.Struct, frozen=True, tag_field="kind", tag="detections", omit_defaults=True):
    """A Detections; without tracks where nothing is tracked, without places where the camera is not calibrated, and
    without both in recordings made before they were there."""

    boxes_xyxy: ExactArray
    scores: ExactArray
    classes: ExactArray
    track_ids: ExactArray | None = None
    track_ages_s: ExactArray | None = None
    velocities_px_s: ExactArray | None = None
    positions_m: ExactArray | None = None
    covariances_m2: ExactArray | None = None
    closing_speeds_mps: ExactArray | None = None
    times_to_collision_s: ExactArray | None = None
    closing_speed_stds_mps: ExactArray | None = None
    time_to_collision_stds_s: ExactArray | None = None


class ExactMask(msgspec.Struct, frozen=True, tag_field="kind", tag="mask"):
    """A Mask."""

    classes: ExactArray
    size_hw: tuple[_Size, _Size]
    cell: _Size
    window: tuple[_Length, _Length, _Length, _Length] | None


class ExactScores(msgspec.Struct, frozen=True, tag_field="kind", tag="scores"):
    """A Scores."""

    probabilities: ExactArray
    label: Annotated[int, msgspec.Meta(ge=-1, le=1 << 26)]


Exact = ExactDetections | ExactMask | ExactScores


class _Document(msgspec.Struct, frozen=True):
    """What is read back; values for people only are passed over."""

    sequence: _SequenceNumber
    frame_recorded: bool
    frame_id: _Stamp
    camera_id: str
    name: str
    media_time_s: float | None
    t_capture_ns: _Stamp
    t_publish_ns: _Stamp
    state: ResultState
    valid_until_ns: _Stamp | None
    health: State
    shift: float | None
    size_hw: tuple[_Size, _Size]
    dropped_before: _Length
    stages_ms: dict[str, float]
    exact: dict[str, Exact]
    embedding: ExactArray | None


@dataclass(frozen=True, slots=True)
class ReadResult:
    """A result from a file. sequence: its running number there; frame_recorded: whether its picture was kept."""

    result: Result
    sequence: int
    frame_recorded: bool


def encode_result(result: Result, heads: tuple[Head, ...], *, sequence: int, frame_recorded: bool) -> bytes:
    """The result as one JSON document; see `format.result_schema`."""
    document = result.as_json(heads)
    document["sequence"], document["frame_recorded"] = sequence, frame_recorded
    document["exact"] = {name: _exact(output) for name, output in result.outputs.items()}
    document["embedding"] = None if result.embedding is None else _pack(result.embedding)
    return msgspec.json.encode(document)


def decode_result(data: bytes | memoryview) -> ReadResult:
    """The result that `encode_result` wrote, its arrays read-only. Raises ValueError for anything else."""
    try:
        document = msgspec.json.decode(data, type=_Document)
        claimed = sum(array.nbytes for array in _arrays_of(document))
        if claimed > MAX_ARRAY_BYTES:
            raise ValueError(f"its arrays claim {claimed} bytes, at most {MAX_ARRAY_BYTES} make sense")
        embedding = None if document.embedding is None else document.embedding.unpack()
        result = Result(
            frame_id=document.frame_id,
            camera_id=document.camera_id,
            t_capture_ns=document.t_capture_ns,
            t_publish_ns=document.t_publish_ns,
            outputs={name: _output(exact) for name, exact in document.exact.items()},
            size_hw=document.size_hw,
            stages_ms=document.stages_ms,
            dropped_before=document.dropped_before,
            media_time_s=document.media_time_s,
            name=document.name,
            state=document.state,
            valid_until_ns=document.valid_until_ns,
            health=document.health,
            shift=document.shift,
            embedding=embedding,
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return ReadResult(result, document.sequence, document.frame_recorded)


def _arrays_of(document: _Document) -> Iterator[ExactArray]:
    for part in (document, *document.exact.values()):
        for name in part.__struct_fields__:
            if isinstance(value := getattr(part, name), ExactArray):
                yield value


def _exact(output: Output) -> Exact:
    if isinstance(output, Detections):
        tracks = (output.track_ids, output.track_ages_s, output.velocities_px_s)
        packed = (None if part is None else _pack(part) for part in (*tracks, *place_arrays(output)))
        return ExactDetections(_pack(output.boxes_xyxy), _pack(output.scores), _pack(output.classes), *packed)
    if isinstance(output, Mask):
        return ExactMask(_pack(output.classes), output.size_hw, output.cell, output.window)
    return ExactScores(_pack(output.probabilities), output.label)


def _output(exact: Exact) -> Output:
    if isinstance(exact, ExactDetections):
        boxes, scores, classes = _is(exact.boxes_xyxy, "<f4"), _is(exact.scores, "<f4"), _is(exact.classes, "<i8")
        wanted = ((exact.track_ids, "<i8"), (exact.track_ages_s, "<f4"), (exact.velocities_px_s, "<f4"))
        ids, ages, velocities = (None if part is None else _is(part, dtype) for part, dtype in wanted)
        return Detections(boxes, scores, classes, ids, ages, velocities, _places(exact))
    if isinstance(exact, ExactMask):
        return Mask(_is(exact.classes, "|u1"), exact.size_hw, exact.cell, exact.window)
    return Scores(_is(exact.probabilities, "<f4"), exact.label)


def place_arrays(found: Detections) -> tuple[NDArray[np.float32] | None, ...]:
    """The arrays of its places in their order, None for each that is not there."""
    p = found.places
    if p is None:
        return (None,) * 6
    return (
        p.positions_m,
        p.covariances_m2,
        p.closing_speeds_mps,
        p.times_to_collision_s,
        p.closing_speed_stds_mps,
        p.time_to_collision_stds_s,
    )


def _places(exact: ExactDetections) -> Places | None:
    parts = (exact.positions_m, exact.covariances_m2, exact.closing_speeds_mps, exact.times_to_collision_s)
    if all(part is None for part in parts):
        return None
    deviations = (exact.closing_speed_stds_mps, exact.time_to_collision_stds_s)
    known = [_is(part, "<f4") for part in parts if part is not None]
    if len(known) != len(parts):
        raise ValueError("boxes have some of their places' arrays and not all")
    positions, covariances, speeds, times = known
    stds = (None if part is None else _is(part, "<f4") for part in deviations)
    return Places(positions, covariances, speeds, times, *stds)


def _pack(array: NDArray[Any]) -> ExactArray:
    little = array.dtype.newbyteorder("<")
    data = zlib.compress(array.astype(little, copy=False).tobytes(), _ZLIB_LEVEL)
    return ExactArray(little.str, array.shape, data)


def _is(array: ExactArray, dtype: str) -> NDArray[Any]:
    if array.dtype != dtype:
        raise ValueError(f"an array has the type {array.dtype}, expected {dtype}")
    return array.unpack()
