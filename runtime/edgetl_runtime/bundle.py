"""A bundle on disk: one directory, checked byte by byte against its manifest before any of it is used."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from edgetl_runtime.errors import BundleError
from edgetl_runtime.files import staged_file
from edgetl_runtime.spec import SCHEMA_VERSION, FileEntry, Manifest, Variant

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_FETCH = "copy the whole bundle folder again, or export it again"


class _Version(msgspec.Struct):
    """Only the schema version, read first so that a foreign manifest is named as such."""

    schema_version: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle. path: its folder. manifest: the validated contract."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists. Raises BundleError for any other name."""
        if name not in self.manifest.files:
            raise BundleError(f"the bundle {self.path} lists no file {name!r}", remedy=_FETCH)
        return self.path / name

    def model_path(self, variant: Variant) -> Path:
        """The ONNX file of one variant."""
        return self.file(variant.file)


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """The manifest of the bundle folder at `path`, validated; no other file of it is read.

    Raises BundleError where the folder or the manifest is missing, of another schema version, or invalid.
    """
    folder = Path(path)
    target = folder / MANIFEST_NAME
    if not folder.exists():
        raise BundleError(f"no bundle at {folder}", remedy="give the folder that `edgetl export` wrote")
    if not folder.is_dir():
        raise BundleError(
            f"{folder} is a file, a bundle is a folder", remedy=f"give the folder that holds {MANIFEST_NAME}"
        )
    if target.is_symlink() or not target.is_file():
        raise BundleError(
            f"{folder} holds no {MANIFEST_NAME}, so it is no bundle",
            remedy="give the folder that `edgetl export` wrote",
        )
    try:
        size = target.stat().st_size
        if size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{target} has {size} bytes, more than any manifest", remedy=_FETCH)
        data = target.read_bytes()
    except OSError as error:
        raise BundleError(f"can't read {target}: {error.strerror}", remedy="check its permissions") from error
    return _parse_manifest(data, target)


def _parse_manifest(data: bytes, target: Path) -> Manifest:
    try:
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{target} has schema version {version}, this edgetl reads version {SCHEMA_VERSION}",
                remedy="export the bundle again, or install the edgetl that wrote it",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{target} is not a valid manifest: {error}", remedy=_FETCH) from error
    _check_heads(manifest, target)
    for name in manifest.files:
        if PurePosixPath(name).as_posix() != name or not name.isprintable() or name == MANIFEST_NAME:
            raise BundleError(f"{target} lists {name!r}, which is not a plain relative path", remedy=_FETCH)
    return manifest


def _check_heads(manifest: Manifest, target: Path) -> None:
    """Every head, and the domain statistics, must have outputs of the graph, and no two heads the same."""
    there = [t.name for t in manifest.outputs]
    needed = [(head.name, output) for head in manifest.heads for output in head.outputs]
    owners: dict[str, str] = {}
    for head, output in needed:
        if owners.setdefault(output, head) != head:
            raise BundleError(
                f"{target}: the heads {owners[output]!r} and {head!r} both want the output {output!r}", remedy=_FETCH
            )
    if manifest.domain is not None:
        needed.append(("domain statistics", manifest.domain.output))
    for name, output in needed:
        if output not in there:
            raise BundleError(
                f"{target}: {name} needs the output {output!r}, the graph has {', '.join(there)}", remedy=_FETCH
            )


def open_bundle(path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Open the bundle folder at `path`; with `verify`, size and SHA-256 of every file are checked first.

    Raises BundleError that names the file which is missing, truncated, altered, unlisted, or a symlink.
    """
    bundle = Bundle(Path(path), read_manifest(path))
    if verify:
        _refuse_unlisted(bundle)
        for name, entry in sorted(bundle.manifest.files.items()):
            _check_file(bundle, name, entry)
    return bundle


def _refuse_unlisted(bundle: Bundle) -> None:
    for folder, dirs, files in os.walk(bundle.path, followlinks=False):
        for name in sorted(dirs + files):
            item = Path(folder) / name
            relative = item.relative_to(bundle.path).as_posix()
            mode = item.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise BundleError(
                    f"{relative} in the bundle {bundle.path} is a symbolic link",
                    remedy="replace it by the file itself",
                )
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise BundleError(f"{relative} in the bundle {bundle.path} is no regular file", remedy="remove it")
            if relative != MANIFEST_NAME and relative not in bundle.manifest.files:
                raise BundleError(
                    f"{relative} is in the bundle {bundle.path} but its manifest does not list it",
                    remedy="remove it, or export the bundle again",
                )


def _check_file(bundle: Bundle, name: str, entry: FileEntry) -> None:
    item = bundle.path / name
    if not item.is_file():
        raise BundleError(f"{name} is missing from the bundle {bundle.path}", remedy=_FETCH)
    size = item.stat().st_size
    if size != entry.bytes:
        what = "truncated" if size < entry.bytes else "longer than it was"
        raise BundleError(
            f"{name} in the bundle {bundle.path} is {what}: {size} bytes, expected {entry.bytes}",
            remedy=_FETCH,
        )
    found = _sha256(item)
    if found != entry.sha256:
        raise BundleError(
            f"{name} in the bundle {bundle.path} was altered: SHA-256 {found[:12]}..., expected {entry.sha256[:12]}...",
            remedy=_FETCH,
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise BundleError(f"can't read {path}: {error.strerror}", remedy="check its permissions") from error
    return digest.hexdigest()


def file_entry(path: str | os.PathLike[str]) -> FileEntry:
    """Size and SHA-256 of the file at `path`, as the manifest lists it."""
    return FileEntry(sha256=_sha256(Path(path)), bytes=Path(path).stat().st_size)


def write_manifest(folder: str | os.PathLike[str], manifest: Manifest) -> Path:
    """Write manifest.json into `folder` in one step: the same manifest gives the same bytes.

    Keys are sorted, figures must be finite. Returns the path. Raises BundleError for NaN or infinity, InputError where
    the disk refuses.
    """
    target = Path(folder) / MANIFEST_NAME
    try:
        text = json.dumps(msgspec.to_builtins(manifest), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise BundleError(f"the manifest holds a figure that JSON can't: {error}") from error
    with staged_file(target, force=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return target
