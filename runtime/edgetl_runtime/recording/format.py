"""What a recording holds: topics, the header, the counts, limits. Version 1; its JSON schemas are in `schemas`."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec

from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.spec import Head

VERSION = 1
HEADER = "edgetl.recording"
"""The name of the MCAP metadata record that holds the header; it stands before all messages."""

IMAGE_TOPIC = "/camera/image"
BOXES_TOPIC = "/camera/boxes"
RESULT_TOPIC = "/edgetl/result"
EVENT_TOPIC = "/edgetl/event"
STATUS_TOPIC = "/edgetl/status"
LEDGER_TOPIC = "/edgetl/ledger"
LOG_TOPIC = "/edgetl/log"
OBJECTS_TOPIC = "/edgetl/objects"

SUFFIX = ".mcap"
PART_SUFFIX = ".part.mcap"

MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Of one record, packed or unpacked: more is a mistake or an attack. A chunk of ours is a few frames."""

Count = Annotated[int, msgspec.Meta(ge=0)]


class RecordingHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What was run, on what, with which clock.

    Stamps in results are on `clock`; `offset_ns` is to be added to make them wall-clock time, as every log_time in
    the file is. It was taken once, so that a clock that is set during the run tears nothing apart. heads: with the
    thresholds that were in force; threshold: what the user gave in place of the bundle's. threads: of the engine, 0
    was its own choice. track: whether objects were tracked; recordings made before that was possible lack it.
    calibration: of the camera, None where it had none, as in recordings made before that was possible.
    """

    version: int
    edgetl: str
    bundle: str
    manifest_sha256: str
    variant: str
    engine: str
    precision: str
    threads: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    threshold: float | None
    deadline_ms: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    clock: str
    offset_ns: int
    camera_id: str
    fps: float
    machine: str
    heads: tuple[Head, ...]
    track: bool = False
    calibration: Calibration | None = None

    def as_texts(self) -> dict[str, str]:
        """Key and text for each, as MCAP's metadata wants it: text plain, all else as JSON."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in values.items()}


class _Version(msgspec.Struct):
    version: int


def header_of(texts: dict[str, str]) -> RecordingHeader:
    """The header that `as_texts` wrote. Raises InputError for another version, or where it is not readable."""
    plain = {f.name for f in msgspec.structs.fields(RecordingHeader) if f.type is str}
    try:
        values = {k: v if k in plain else msgspec.json.decode(v) for k, v in texts.items()}
        version = msgspec.convert(values, _Version).version
        if version != VERSION:
            raise InputError(
                f"the recording has version {version}, this edgetl reads version {VERSION}",
                remedy="replay it with the edgetl that wrote it",
            )
        return msgspec.convert(values, RecordingHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the recording's header is not readable: {error}") from error


class RecordingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How things stood at t_ns, about once a second and at the end. Counts are from the start.

    results, frames: in the recording. frames_left_out, results_left_out, events_left_out: because the disk was too
    slow. captured, dropped, failed: the run's own. stopped: why the recording ended before the run, "" where it did
    not. stages: the ledger.
    """

    t_ns: int
    results: Count = 0
    frames: Count = 0
    frames_left_out: Count = 0
    results_left_out: Count = 0
    events_left_out: Count = 0
    captured: Count = 0
    dropped: Count = 0
    failed: Count = 0
    stopped: str = ""
    stages: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)


def wall_offset_ns() -> int:
    """What to add to time.monotonic_ns() to get the wall-clock time; of a few tries the one that took least."""
    tries = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1]
