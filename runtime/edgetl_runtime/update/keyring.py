"""Whose bundles a vehicle takes: public keys, those that were revoked, and the roots that may change both.

A keyring is one JSON file. `body` is text, JSON too, and signed as it stands: version, keys, roots and revoked ids.
A vehicle takes a keyring with a higher version that a root of the keyring before has signed; what was revoked stays so.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edgetl_runtime.errors import InputError
from edgetl_runtime.keys import key_id, read_public_keys, verifies

if TYPE_CHECKING:
    import os

    from edgetl_runtime.keys import PrivateKey

PREFIX = b"edgetl keyring, version 1\n"
"""Signed before the body's bytes, so that no signature made for anything else is ever one of a keyring."""
MAX_BYTES = 65536
_AGAIN = "make one with `edgetl keyring`"
KeyId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    keys: tuple[str, ...]
    roots: tuple[str, ...]
    revoked: tuple[KeyId, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Literal[1]
    body: str
    public_key: str
    signature: str


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """keys: may sign bundles; roots: may sign the next keyring; both raw, 32 bytes each. revoked: ids of keys whose
    bundles are refused. signer: the root that signed it, None for keys that an operator gave as PEM (version 0).
    """

    version: int
    keys: tuple[bytes, ...]
    roots: tuple[bytes, ...]
    revoked: frozenset[str] = frozenset()
    signer: bytes | None = None
    data: bytes = b""

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """The keys whose bundles are taken."""
        return tuple(key for key in self.keys if key_id(key) not in self.revoked)

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        names = {"keys": [key_id(k) for k in self.trusted], "roots": [key_id(k) for k in self.roots]}
        return {"version": self.version, **names, "revoked": sorted(self.revoked)}


def read_keyring(path: str | os.PathLike[str]) -> Keyring:
    """A signed keyring, or a PEM file of public keys as one of version 0, whose keys are its roots too.

    The signature of a keyring is checked before its body is parsed; whether its signer may sign is for `check_next`.
    Raises InputError.
    """
    target = Path(path)
    try:
        with target.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"can't read the keyring {target}: {error.strerror}", remedy=_AGAIN) from error
    if data.lstrip()[:1] == b"{":
        return _parse(data, target)
    keys = read_public_keys(target)
    return Keyring(version=0, keys=keys, roots=keys, data=data)


def make_keyring(
    key: PrivateKey, *, version: int, keys: tuple[bytes, ...], roots: tuple[bytes, ...], revoked: frozenset[str]
) -> bytes:
    """The file of a keyring, signed by a root. Raises InputError for one that no vehicle could use."""
    encode = [base64.b64encode(k).decode() for k in keys], [base64.b64encode(k).decode() for k in roots]
    body = _Body(version=version, keys=tuple(encode[0]), roots=tuple(encode[1]), revoked=tuple(sorted(revoked)))
    text = json.dumps(msgspec.to_builtins(body))
    document = _File(
        format=1,
        body=text,
        public_key=base64.b64encode(key.public).decode(),
        signature=base64.b64encode(key.sign(PREFIX + text.encode())).decode(),
    )
    data = (json.dumps(msgspec.to_builtins(document), indent=2) + "\n").encode()
    _parse(data, Path("the keyring"))
    return data


def check_next(old: Keyring, new: Keyring) -> None:
    """Refuse `new` after `old`: another signer than a root of `old`, no higher version, a key that is left out without
    being revoked, or a revocation taken back.

    Raises InputError that says which.
    """
    if new.signer is None:
        raise InputError(
            "keys in PEM are for a new store only: here a keyring signed by one of its roots is needed",
            remedy=f"{_AGAIN}, signed by one of {_ids(old.roots)}",
        )
    if new.signer not in old.roots or key_id(new.signer) in old.revoked:
        raise InputError(
            f"the keyring is signed by {key_id(new.signer)}, which is no root of the store's",
            remedy=f"sign it with one of {_ids(tuple(r for r in old.roots if key_id(r) not in old.revoked))}",
        )
    if new.version <= old.version:
        raise InputError(
            f"the keyring has version {new.version}, the store's has {old.version}",
            remedy="keyrings only go forward: make one with a higher version",
        )
    ids = {key_id(key) for key in new.keys}
    if dropped := {key_id(key) for key in old.keys} - ids - new.revoked:
        raise InputError(
            f"the keyring leaves out {', '.join(sorted(dropped))} without a word",
            remedy="a key leaves by being revoked",
        )
    if missing := old.revoked - new.revoked:
        raise InputError(
            f"the keyring takes back that {', '.join(sorted(missing))} was revoked",
            remedy="list all that were revoked before, and sign with a new key",
        )


def _parse(data: bytes, target: Path) -> Keyring:
    if len(data) > MAX_BYTES:
        raise InputError(f"{target} has more than {MAX_BYTES} bytes, so it is no keyring", remedy=_AGAIN)
    try:
        found = msgspec.json.decode(data, type=_File)
        public, signature = _raw(found.public_key, 32), _raw(found.signature, 64)
        if not verifies(public, signature, PREFIX + found.body.encode()):
            raise InputError(f"the signature of {target} is not valid: {key_id(public)} did not make it", remedy=_AGAIN)
        body = msgspec.json.decode(found.body, type=_Body)
        keys, roots = (tuple(_raw(text, 32) for text in texts) for texts in (body.keys, body.roots))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, binascii.Error, ValueError) as error:
        raise InputError(f"{target} is no valid keyring: {error}", remedy=_AGAIN) from error
    ring = Keyring(
        version=body.version, keys=keys, roots=roots, revoked=frozenset(body.revoked), signer=public, data=data
    )
    if not ring.trusted or not [root for root in roots if key_id(root) not in ring.revoked]:
        raise InputError(f"{target} has no key or no root that is not revoked: nothing could come after it")
    return ring


def _raw(text: str, length: int) -> bytes:
    value = base64.b64decode(text, validate=True)
    if len(value) != length:
        raise ValueError(f"expected {length} bytes, found {len(value)}")
    return value


def _ids(keys: tuple[bytes, ...]) -> str:
    return ", ".join(key_id(k) for k in keys)
