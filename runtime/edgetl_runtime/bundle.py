"""A bundle on disk: one directory, checked byte by byte against its manifest before any of it is used."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.errors import BundleError, InputError
from edgetl_runtime.files import remove_stale, staged_file
from edgetl_runtime.signature import SIGNATURE_NAME, check_signature, read_signature, sign_manifest
from edgetl_runtime.spec import SCHEMA_VERSION, FileEntry, Manifest, Variant

if TYPE_CHECKING:
    from edgetl_runtime.keys import PrivateKey
    from edgetl_runtime.signature import Required

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_TENSOR_BYTES = 1024**3
"""Of all inputs, outputs and the frame: more is a mistake or an attack, and would be allocated before the first one."""
MAX_NAME_BYTES, MAX_PART_BYTES = 1024, 255
"""Of a file's path in the bundle, and of each of its parts: file systems take no more."""
_ITEM_BYTES = {"uint8": 1, "int32": 4, "float32": 4, "int64": 8}
_CHUNK_BYTES = 1024 * 1024
_FETCH = "copy the whole bundle folder again, or export it again"


class _Version(msgspec.Struct):
    """Only the schema version, read first so that a foreign manifest is named as such."""

    schema_version: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle. path: its folder. manifest: the validated contract. signed_by: the id of the key whose
    signature was checked, None where none was required.
    """

    path: Path
    manifest: Manifest
    signed_by: str | None = None

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
    return _parse_manifest(_manifest_bytes(Path(path)), Path(path) / MANIFEST_NAME)


def _manifest_bytes(folder: Path) -> bytes:
    target = folder / MANIFEST_NAME
    try:
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
        size = target.stat().st_size
        if size > MAX_MANIFEST_BYTES:
            raise BundleError(f"{target} has {size} bytes, more than any manifest", remedy=_FETCH)
        return target.read_bytes()
    except OSError as error:
        raise BundleError(f"can't read {target}: {error.strerror}", remedy="check its permissions") from error


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
    _check_sizes(manifest, target)
    for name in manifest.files:
        plain = PurePosixPath(name).as_posix() == name and name.isprintable() and len(name) <= MAX_NAME_BYTES
        parts = name.split("/")
        if not plain or parts[0] in {".", MANIFEST_NAME, SIGNATURE_NAME} or max(map(len, parts)) > MAX_PART_BYTES:
            raise BundleError(f"{target} lists {name[:200]!r}, which is not a plain relative path", remedy=_FETCH)
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


def _check_sizes(manifest: Manifest, target: Path) -> None:
    """Tensors may not be larger than makes sense: the vehicle takes memory for all of them before the first frame."""
    height, width = manifest.preprocess.size_hw
    tensors = [(f"{t.name} {t.dtype}", t.shape, _ITEM_BYTES[t.dtype]) for t in (*manifest.inputs, *manifest.outputs)]
    tensors.append(("the frame ", (height, width, 3), 1))
    together = 0
    for what, shape, item_bytes in tensors:
        together += prod(shape) * item_bytes
        if together > MAX_TENSOR_BYTES:
            gigabytes = min(together, 10**18) / 1e9  # no float holds what a manifest can claim
            raise BundleError(
                f"{target}: {what}{list(shape)} and what is before it would take {gigabytes:.1f} GB, at most "
                f"{MAX_TENSOR_BYTES / 1e9:.1f} GB make sense",
                remedy=_FETCH,
            )


def open_bundle(
    path: str | os.PathLike[str], *, verify: bool = True, require_signature: Required | None = None
) -> Bundle:
    """Open the bundle folder at `path`; with `verify`, size and SHA-256 of every file are checked first.

    require_signature: a file of public keys (PEM), or those keys themselves (32 bytes each), one of which must have
    signed the bundle, or True for any key. It is checked before the manifest is parsed. Raises BundleError that names
    the file which is missing, truncated, altered, unlisted, or a symlink, or says what is wrong with the signature;
    InputError and MissingPackage as `edgetl_runtime.signature.check_signature` does.
    """
    folder, signed_by = Path(path), None
    data = _manifest_bytes(folder)
    if require_signature is not None and require_signature is not False:
        if not verify:
            raise ValueError("a signature covers the files by their hashes, so they must be verified too")
        signed_by = check_signature(folder, data, require_signature)
    return _opened(folder, data, verify=verify, signed_by=signed_by)


def _opened(folder: Path, data: bytes, *, verify: bool = True, signed_by: str | None = None) -> Bundle:
    bundle = Bundle(folder, _parse_manifest(data, folder / MANIFEST_NAME), signed_by)
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
            if relative not in {MANIFEST_NAME, SIGNATURE_NAME} and relative not in bundle.manifest.files:
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


def sign_bundle(
    path: str | os.PathLike[str], key: PrivateKey, *, force: bool = False, release: int | None = None
) -> str:
    """Sign the bundle at `path`, after every file of it was checked; nothing in it but signature.json changes.

    release: the number that the manifest is given first, None to leave it. Returns the key's id. Raises BundleError for
    a bundle that is not whole, InputError where it is signed already and not `force`, or where the disk refuses.
    """
    folder = Path(path)
    remove_stale(folder / SIGNATURE_NAME)
    remove_stale(folder / MANIFEST_NAME)
    data = _manifest_bytes(folder)
    bundle = _opened(folder, data)
    if not force and (there := read_signature(folder)) is not None:
        raise InputError(
            f"the bundle {folder} is signed already, by the key {there.key_id}", remedy="give --force to replace that"
        )
    if release is not None and release != bundle.manifest.release:
        data = write_manifest(folder, msgspec.structs.replace(bundle.manifest, release=release)).read_bytes()
    return sign_manifest(folder, data, key)
