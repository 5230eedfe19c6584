"""The folder of a bundle's engines on one device: a plan and a record for each variant, and which is the fastest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.files import staged_file
from edgetl_runtime.spec import Precision
from edgetl_runtime.tensorrt.device import Fingerprint, differences
from edgetl_runtime.tensorrt.protocol import Proof

RECORD_VERSION = 1
_CHUNK_BYTES = 1 << 20
Kind = TypeVar("Kind", bound=msgspec.Struct)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Measured latency of one engine, in milliseconds, copies to and from the GPU included."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one built engine; the JSON file beside its plan.

    workspace_mb_used: what memory allowed. layers: precision by layer, as the engine says. golden_error: how far
    its outputs are from the bundle's golden samples.
    """

    record_version: int = RECORD_VERSION
    variant: str
    precision: Precision
    fingerprint: Fingerprint
    plan_sha256: str
    plan_bytes: int
    build_seconds: float
    workspace_mb_used: int
    weights_bytes: int | None
    activation_bytes: int | None
    proof: Proof
    layers: dict[str, str]
    golden_error: float
    latency: Percentiles


class Fastest(msgspec.Struct, frozen=True, kw_only=True):
    """The variant to run on this device, with what all were measured at, in turns."""

    variant: str
    reason: str
    latencies: dict[str, Percentiles]


@dataclass(frozen=True, slots=True)
class EngineStore:
    """The engines of one bundle in `folder`, which need not exist yet."""

    folder: Path

    @property
    def timing_cache(self) -> Path:
        """TensorRT's timings of earlier builds on this device."""
        return self.folder / "timing.cache"

    def plan(self, variant: str) -> Path:
        """The engine's file."""
        return self.folder / f"{variant}.plan"

    def record_path(self, variant: str) -> Path:
        """The engine's record."""
        return self.folder / f"{variant}.json"

    def record(self, variant: str) -> Record | None:
        """The record of an engine, None where there is none that this edgetl can read."""
        return _decode(self.record_path(variant), Record)

    def fastest(self) -> Fastest | None:
        """Which variant is the fastest, None where that was not measured."""
        return _decode(self.folder / "chosen.json", Fastest)

    def why_stale(self, variant: str, wanted: Fingerprint) -> list[str] | None:
        """Why a variant's engine can't be used: empty where it can, None where there is none."""
        plan, record = self.plan(variant), self.record(variant)
        if not plan.is_file():
            return None
        if record is None or record.record_version != RECORD_VERSION:
            return ["its record is missing or of another version"]
        changed = differences(record.fingerprint, wanted)
        if not changed and file_sha256(plan) != record.plan_sha256:
            return ["the plan is not the one that its record describes"]
        return changed

    def publish(self, staged_plan: Path, record: Record) -> None:
        """Put a built engine in its place: the plan first, then the record that holds its hash."""
        with staged_file(self.plan(record.variant), force=True) as temporary:
            staged_plan.replace(temporary)
        self.write_record(record)

    def write_record(self, record: Record) -> None:
        """Write the record, in one step."""
        _write(self.record_path(record.variant), record)

    def write_fastest(self, fastest: Fastest) -> None:
        """Write which variant is the fastest, in one step."""
        _write(self.folder / "chosen.json", fastest)

    @contextmanager
    def building(self) -> Iterator[Path]:
        """A folder to build in, for one process at a time; what a killed build left in it is removed.

        Raises InputError where the folder can't be written, or another process is building there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise InputError(
                f"can't write the engines to {self.folder}: {error.strerror}", remedy="give another --engine-dir"
            ) from error
        staging = self.folder / ".building"
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"another edgetl build is at work in {self.folder}", remedy="wait for its end"
                ) from None
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            yield staging
            shutil.rmtree(staging, ignore_errors=True)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def usable_engine(store: EngineStore, variant: str, now: Fingerprint, fields: tuple[str, ...]) -> Record:
    """The record of an engine that may run here. Raises EngineError, naming what changed, where there is none."""
    remedy = "run: edgetl build BUNDLE"
    plan, record = store.plan(variant), store.record(variant)
    if record is None or not plan.is_file():
        raise EngineError(f"no TensorRT engine of variant {variant!r} in {store.folder}", remedy=remedy)
    changed = differences(record.fingerprint, now, fields)
    if not changed and file_sha256(plan) != record.plan_sha256:
        changed = ["the plan is not the one that its record describes"]
    if changed:
        raise EngineError(f"the TensorRT engine {plan} is stale: {', '.join(changed)}", remedy=remedy)
    return record


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _decode(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _write(path: Path, value: msgspec.Struct) -> None:
    with staged_file(path, force=True) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
