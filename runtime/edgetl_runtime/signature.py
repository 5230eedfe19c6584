"""Who made a bundle: an Ed25519 signature over manifest.json, which in turn holds the hash of every other file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edgetl_runtime.errors import BundleError
from edgetl_runtime.files import staged_file
from edgetl_runtime.keys import key_id, read_public_keys, verifies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.keys import PrivateKey

SIGNATURE_NAME = "signature.json"
PREFIX = b"edgetl bundle manifest, version 1\n"
"""Signed before the manifest's bytes, so that no signature made for anything else is ever one of a bundle."""
_MAX_BYTES = 4096
Required = bool | str | os.PathLike[str] | tuple[bytes, ...]
"""True: any key. Otherwise the keys that are trusted, or the PEM file that holds them."""
_AGAIN = "sign it again with `edgetl sign BUNDLE --key KEY --force`"
_Hex64 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `signature.json` holds. public_key (32 bytes) and signature (64 bytes) are base64."""

    algorithm: Literal["ed25519"]
    public_key: str
    key_id: str
    manifest_sha256: _Hex64
    signature: str


def sign_manifest(folder: Path, data: bytes, key: PrivateKey) -> str:
    """Write signature.json into `folder` for the manifest's bytes `data`, in place of any other. Returns the key id."""
    document = Signature(
        algorithm="ed25519",
        public_key=base64.b64encode(key.public).decode(),
        key_id=key_id(key.public),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        signature=base64.b64encode(key.sign(PREFIX + data)).decode(),
    )
    text = json.dumps(msgspec.to_builtins(document), indent=2)
    with staged_file(folder / SIGNATURE_NAME, force=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return document.key_id


def check_signature(folder: Path, data: bytes, required: Required) -> str:
    """Refuse the bundle in `folder` unless the bytes `data` of its manifest are signed. Returns the key's id.

    required: a file of public keys or the keys themselves, one of which must have signed; True takes any key, which
    says only that nothing was altered since. Raises BundleError without a signature or with one that does not hold,
    InputError for a file that holds no public keys, MissingPackage without `cryptography`.
    """
    trusted, place = _trusted(required)
    found = read_signature(folder)
    if found is None:
        raise BundleError(
            f"the bundle {folder} is not signed, and a signature is required",
            remedy="sign it with `edgetl sign BUNDLE --key KEY`",
        )
    public, signature = _decoded(folder, found)
    if trusted is not None and public not in trusted:
        raise BundleError(
            f"the bundle {folder} is signed by the key {found.key_id}, which is none of the trusted "
            f"{_ids(trusted)}{place}",
            remedy="get the bundle from whom you trust, or add that key's .pub to the file",
        )
    if found.manifest_sha256 != hashlib.sha256(data).hexdigest():
        raise BundleError(
            f"{SIGNATURE_NAME} in the bundle {folder} signs another manifest: it is of another bundle, or this one was "
            "altered after it was signed",
            remedy=f"copy the whole bundle folder again, or {_AGAIN}",
        )
    if not verifies(public, signature, PREFIX + data):
        raise BundleError(
            f"the signature of the bundle {folder} is not valid: the key {found.key_id} did not make it",
            remedy="do not use the bundle; copy it again from where it was made",
        )
    return found.key_id


def read_signature(folder: Path) -> Signature | None:
    """What `signature.json` says, unchecked, or None without one. Raises BundleError for one that is malformed."""
    target = folder / SIGNATURE_NAME
    if target.is_symlink():
        raise BundleError(f"{SIGNATURE_NAME} in the bundle {folder} is a symbolic link", remedy=_AGAIN)
    if not target.exists():
        return None
    try:
        with target.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"can't read {target}: {error.strerror}", remedy="check its permissions") from error
    if len(data) > _MAX_BYTES:
        raise BundleError(f"{target} has more than {_MAX_BYTES} bytes, so it is no signature", remedy=_AGAIN)
    try:
        return msgspec.json.decode(data, type=Signature)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{target} is not a valid signature file: {error}", remedy=_AGAIN) from error


def public_key_of(folder: Path, found: Signature) -> bytes:
    """The raw public key that a signature names, which proves nothing yet. Raises BundleError."""
    return _decoded(folder, found)[0]


def _decoded(folder: Path, found: Signature) -> tuple[bytes, bytes]:
    """The raw public key and signature."""
    try:
        public = base64.b64decode(found.public_key, validate=True)
        signature = base64.b64decode(found.signature, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BundleError(f"{folder / SIGNATURE_NAME} holds text that is no base64", remedy=_AGAIN) from error
    if (len(public), len(signature)) != (32, 64) or found.key_id != key_id(public):
        raise BundleError(
            f"{folder / SIGNATURE_NAME} is not a valid signature file: the public key has {len(public)} bytes, the "
            f"signature {len(signature)}, expected 32 and 64 and the key's own id",
            remedy=_AGAIN,
        )
    return public, signature


def _trusted(required: Required) -> tuple[tuple[bytes, ...] | None, str]:
    """The keys, None for any, and for a message where they stand."""
    if isinstance(required, bool):
        return None, ""
    if isinstance(required, tuple):
        return required, ""
    return read_public_keys(required), f" of {required}"


def _ids(keys: Sequence[bytes]) -> str:
    return ("key " if len(keys) == 1 else "keys ") + ", ".join(key_id(k) for k in keys)
