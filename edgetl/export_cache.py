"""Bundles that were made before: the same export a second time takes seconds, because nothing has changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edgetl.versions import code_sha256, package_versions
from edgetl_export.publish import publish_directory
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import BundleError
from edgetl_runtime.files import cache_directory
from edgetl_runtime.spec import Manifest

KEPT = 8
"""Bundles that the cache holds; the longest unused go first."""


class Record(msgspec.Struct, frozen=True):
    """What else a kept bundle depends on: folders of data by path, with their state then."""

    data: dict[str, str]


def export_key(sources: Sequence[Path], settings: Mapping[str, object], machine: str) -> str:
    """Of all that a bundle depends on besides its data.

    sources: the checkpoint, or network and spec, by content. settings: the command's own, in plain JSON values. The
    code of edgetl itself and the packages' versions are in it too, and the machine, because latencies are measured.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for source in sources:
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    digest.update(code_sha256().encode())
    digest.update(repr(package_versions()).encode())
    digest.update(machine.encode())
    return digest.hexdigest()[:32]


def state_of(folder: Path) -> str:
    """A hash of the names, sizes and times of all files under a folder: enough to see that something was changed.

    Links to folders are followed, each folder once.
    """
    digest, seen = hashlib.sha256(), set()
    for root, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        for name in sorted(files):
            path = Path(root) / name
            with contextlib.suppress(OSError):
                stat = path.stat()
                digest.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def recall(key: str, out: Path, *, force: bool) -> Manifest | None:
    """Put the kept bundle of this key at `out`, checked like any other; None where there is none or data changed.

    Also None, and `out` stays as it was, where another process removes the kept one meanwhile.
    """
    place = _place(key)
    try:
        record = msgspec.json.decode((place / "record.json").read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
    if any(state_of(Path(path)) != state for path, state in record.data.items()):
        return None
    try:
        open_bundle(place / "bundle")
    except BundleError:
        shutil.rmtree(place, ignore_errors=True)
        return None
    try:
        with publish_directory(out, force=force) as new:
            manifest = _copy(place / "bundle", new)
    except _Gone:
        return None
    with contextlib.suppress(OSError):
        os.utime(place)
    return manifest


class _Gone(Exception):
    """What was kept could not be copied whole."""


def _copy(kept: Path, new: Path) -> Manifest:
    """The checked copy's manifest. Raises _Gone for whatever goes wrong: a full disk the export that follows tells."""
    try:
        shutil.copytree(kept, new, dirs_exist_ok=True)
        return open_bundle(new).manifest
    except (OSError, BundleError) as error:
        raise _Gone from error


def keep(key: str, bundle: Path, data: Sequence[Path]) -> None:
    """Keep a copy of a finished bundle. A disk that takes no more costs the cache, not the bundle."""
    place = _place(key)
    temporary = place.with_name(f".{key}.{os.getpid()}")
    record = Record({str(path.absolute()): state_of(path) for path in data})
    try:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(bundle, temporary / "bundle")
        (temporary / "record.json").write_bytes(msgspec.json.encode(record))
        temporary.rename(place)
        _forget_oldest(place.parent)
    except OSError:
        pass
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _forget_oldest(folder: Path) -> None:
    kept = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime)
    for old in kept[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _place(key: str) -> Path:
    return cache_directory() / "exports" / key
