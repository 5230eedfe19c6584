"""What a recording holds: topics, the header, the counts, limits; its JSON schemas are in `schemas`.

There are two versions. 1: one camera and one bundle, with topics that name neither. 2: a rig, whose topics do. Both are
written and read; beyond the header and the topics there is no difference.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from edgetl_runtime.errors import InputError
from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.result import MOST_DEADLINE_MS
from edgetl_runtime.spec import DetectHead, Head

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALONE, RIG = 1, 2
"""The versions, for one camera and one bundle, and for several."""
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
ROUND_TOPIC = "/edgetl/round"

SUFFIX = ".mcap"
PART_SUFFIX = ".part.mcap"

MAX_NAMES = 256
"""Of cameras, and of bundles."""
MAX_RECORD_BYTES = 256 * 1024 * 1024
"""Of one record, packed or unpacked: more is a mistake or an attack. A chunk of ours is a few frames."""

Count = Annotated[int, msgspec.Meta(ge=0)]
_T = TypeVar("_T")
_S = TypeVar("_S", bound=msgspec.Struct)
_Names = Annotated[dict[str, _T], msgspec.Meta(min_length=1, max_length=MAX_NAMES)]


class RecordedCamera(msgspec.Struct, frozen=True, kw_only=True):
    """A camera as it was run. camera_id: its own, in a rig not its name. calibration: None where it had none, as in
    recordings made before that was possible."""

    camera_id: str
    fps: float
    calibration: Calibration | None = None


class RecordedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle as it was run. bundle: its manifest's name, in a rig not always its own.

    heads: with the thresholds that were in force; threshold: what the user gave in place of the bundle's. threads: of
    the engine, 0 was its own choice. track: whether objects were tracked; recordings made before that was possible lack
    it.
    """

    bundle: str
    manifest_sha256: str
    variant: str
    engine: str
    precision: str
    threads: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    threshold: float | None
    deadline_ms: Annotated[float, msgspec.Meta(ge=0, le=MOST_DEADLINE_MS)]
    heads: tuple[Head, ...]
    track: bool = False

    @property
    def has_boxes(self) -> bool:
        """Whether there are objects that could be tracked or placed."""
        return any(isinstance(head, DetectHead) for head in self.heads)


class RecordingHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What was run, on what, with which clock. cameras, bundles: by name; every camera's frames went through every
    bundle, see `lanes`. In version 1 there is one of each, under the names that results and the manifest have.

    Stamps in results are on `clock`; `offset_ns` is to be added to make them wall-clock time, as every log_time in
    the file is. It was taken once, so that a clock that is set during the run tears nothing apart.
    """

    version: int
    edgetl: str
    clock: str
    offset_ns: int
    machine: str
    cameras: _Names[RecordedCamera]
    bundles: _Names[RecordedBundle]

    @property
    def lanes(self) -> Iterator[tuple[str, str]]:
        """Camera and bundle of every sequence of results."""
        return ((camera, bundle) for camera in self.cameras for bundle in self.bundles)

    def as_texts(self) -> dict[str, str]:
        """Key and text for each, as MCAP's metadata wants it: text plain, all else as JSON."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.version == ALONE:
            parts = (*values.pop("cameras").values(), *values.pop("bundles").values())
            values |= {name: getattr(part, name) for part in parts for name in part.__struct_fields__}
        return {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in values.items()}


def header_of(texts: Mapping[str, str]) -> RecordingHeader:
    """The header that `as_texts` wrote. Raises InputError for another version, or where it is not readable."""
    try:
        version = msgspec.json.decode(texts.get("version", ""), type=int)
        if version not in (ALONE, RIG):
            raise InputError(
                f"the recording has version {version}, this edgetl reads versions {ALONE} and {RIG}",
                remedy="replay it with the edgetl that wrote it",
            )
        header = _read(texts, RecordingHeader, {} if version == RIG else _alone(texts))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the recording's header is not readable: {error}") from error
    return header


def _alone(texts: Mapping[str, str]) -> dict[str, object]:
    """Camera and bundle of a header of version 1, which holds their values beside all others."""
    camera, bundle = _read(texts, RecordedCamera, {}), _read(texts, RecordedBundle, {})
    return {"cameras": {camera.camera_id: camera}, "bundles": {bundle.bundle: bundle}}


def _read(texts: Mapping[str, str], kind: type[_S], more: dict[str, object]) -> _S:
    """What `kind` names of the texts. Raises msgspec's errors."""
    fields = [f for f in msgspec.structs.fields(kind) if f.encode_name in texts and f.name not in more]
    values = {f.name: texts[f.name] if f.type is str else msgspec.json.decode(texts[f.name]) for f in fields}
    return msgspec.convert(values | more, kind)


class LaneCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of one camera for one bundle: the run's own counts."""

    captured: Count = 0
    dropped: Count = 0
    failed: Count = 0


class RecordingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How things stood at t_ns, about once a second and at the end. Counts are from the start.

    results, frames: in the recording. frames_left_out, results_left_out, events_left_out: because the disk was too
    slow. lanes: the run's counts by camera and bundle; recordings made before there were several lack it. captured,
    dropped, failed: all of these together, so that a frame counts once for each bundle. stopped: why the recording
    ended before the run, "" where it did not. stages: the ledger where there is one lane.
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
    lanes: dict[str, dict[str, LaneCounts]] = msgspec.field(default_factory=dict)

    def failed_in(self, camera: str, bundle: str) -> int:
        """Frames of this lane that gave no result."""
        return self.lanes.get(camera, {}).get(bundle, LaneCounts()).failed if self.lanes else self.failed


def wall_offset_ns() -> int:
    """What to add to time.monotonic_ns() to get the wall-clock time; of a few tries the one that took least."""
    tries = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after - before, wall - (before + after) // 2))
    return min(tries)[1]
