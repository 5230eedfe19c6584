"""Ed25519 keys in PEM files: a private one signs bundles, public ones say whose bundles a vehicle takes."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.files import refuse_file, staged_file
from edgetl_runtime.imports import need

MAX_BYTES = 64 * 1024
_LABELS = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_MAKE = "make a pair with `edgetl keygen NAME`"
_GIVE_PUBLIC = "give the .pub file that `edgetl keygen` wrote"
_GIVE_PRIVATE = "give the .key file that `edgetl keygen` wrote"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Signs bytes. public: the 32 raw bytes of the public key that belongs to it."""

    public: bytes
    _key: Any

    def sign(self, data: bytes) -> bytes:
        """The signature (64 bytes) of RFC 8032."""
        signature: bytes = self._key.sign(data)
        return signature


def key_id(public: bytes) -> str:
    """A short name of a public key: 16 hex digits of the SHA-256 of its raw bytes."""
    return hashlib.sha256(public).hexdigest()[:16]


def verifies(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is of `data` by the holder of `public` (raw, 32 bytes)."""
    modules = _modules()
    try:
        modules.ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (modules.exceptions.InvalidSignature, ValueError):
        return False
    return True


def write_key_pair(name: Path) -> tuple[Path, Path, str]:
    """Write NAME.key (private, PKCS8, for its owner only) and NAME.pub; nothing is replaced.

    Returns both paths and the key id. Raises InputError where one of them exists or the disk refuses.
    """
    if name.name in {"", ".."}:
        raise InputError(f"{str(name)!r} is no name for a pair of keys", remedy="give a name such as fleet-2025")
    private_path, public_path = (name.with_name(name.name + ending) for ending in (".key", ".pub"))
    for path in (private_path, public_path):
        refuse_new(path)
    modules = _modules()
    serialization = modules.serialization
    key = modules.ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with staged_file(public_path) as temporary:
        temporary.write_bytes(public)
    try:
        with staged_file(private_path) as temporary:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(private)
    except BaseException:
        public_path.unlink(missing_ok=True)
        raise
    return private_path, public_path, key_id(_raw(key.public_key(), modules))


def refuse_new(path: Path) -> None:
    """Raise InputError where a key can't be written as `path`, because of a file there or a missing folder."""
    if os.path.lexists(path):
        raise InputError(f"{path} exists, and a key is never replaced", remedy="give another name")
    refuse_file(path, force=False)


def read_private_key(path: str | os.PathLike[str]) -> PrivateKey:
    """The Ed25519 private key in a PEM file. Raises InputError that says what is there instead."""
    data, labels = _read_pem(path, remedy=_GIVE_PRIVATE)
    modules = _modules()
    if b"ENCRYPTED PRIVATE KEY" in labels or b"Proc-Type: 4,ENCRYPTED" in data:
        raise InputError(
            f"{path} is protected by a passphrase, which edgetl doesn't ask for",
            remedy=f"decrypt it with `openssl pkey -in KEY -out NEW.key`, or {_MAKE}",
        )
    if b"OPENSSH PRIVATE KEY" in labels:
        raise InputError(f"{path} is a key of SSH, expected a PEM of PKCS8", remedy=_MAKE)
    if not any(label.endswith(b"PRIVATE KEY") for label in labels):
        raise InputError(f"{path} is {_kind(labels)}, signing needs the private key", remedy=_GIVE_PRIVATE)
    if len(labels) != 1:
        raise InputError(f"{path} holds {len(labels)} keys, expected one private key", remedy=_GIVE_PRIVATE)
    try:
        key = modules.serialization.load_pem_private_key(data, password=None)
    except modules.unreadable as error:
        raise InputError(f"{path} holds no readable private key", remedy=_GIVE_PRIVATE) from error
    if not isinstance(key, modules.ed25519.Ed25519PrivateKey):
        raise InputError(f"{path} is {_algorithm(key)} private key, expected Ed25519", remedy=_MAKE)
    return PrivateKey(_raw(key.public_key(), modules), key)


def read_public_keys(path: str | os.PathLike[str]) -> tuple[bytes, ...]:
    """The Ed25519 public keys (raw, 32 bytes each) of a PEM file with one or more of them.

    Raises InputError that says what is there instead; a private key is refused, it has no business on a vehicle.
    """
    data, labels = _read_pem(path, remedy=_GIVE_PUBLIC)
    modules = _modules()
    for label in labels:
        if label != b"PUBLIC KEY":
            raise InputError(f"{path} holds {_kind([label])}, expected public keys only", remedy=_GIVE_PUBLIC)
    blocks = _PUBLIC.findall(data)
    if len(blocks) != len(labels):
        raise InputError(f"{path} holds a public key that is cut off", remedy=_GIVE_PUBLIC)
    keys = []
    for block in blocks:
        try:
            key = modules.serialization.load_pem_public_key(block)
        except modules.unreadable as error:
            raise InputError(f"{path} holds no readable public key", remedy=_GIVE_PUBLIC) from error
        if not isinstance(key, modules.ed25519.Ed25519PublicKey):
            raise InputError(f"{path} is {_algorithm(key)} public key, expected Ed25519", remedy=_GIVE_PUBLIC)
        keys.append(_raw(key, modules))
    return tuple(keys)


def _read_pem(path: str | os.PathLike[str], *, remedy: str) -> tuple[bytes, list[bytes]]:
    """A small file's bytes and the labels of its PEM blocks, at least one."""
    target = Path(path)
    try:
        if target.is_dir():
            raise InputError(f"{target} is a folder, expected a key file", remedy=remedy)
        with target.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"can't read the key {target}: {error.strerror}", remedy=remedy) from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{target} has more than {MAX_BYTES} bytes, so it is no key file", remedy=remedy)
    labels = _LABELS.findall(data)
    if not labels:
        raise InputError(f"{target} holds no key in PEM", remedy=remedy)
    return data, labels


def _kind(labels: list[bytes]) -> str:
    """What a PEM file holds, for a message."""
    if any(label.endswith(b"PRIVATE KEY") for label in labels):
        return "a private key"
    if any(label.endswith(b"PUBLIC KEY") for label in labels):
        return "a public key"
    return f"a PEM of {labels[0].decode('ascii')}"


def _algorithm(key: object) -> str:
    """`an RSA`, `an EC`, ... from the name of cryptography's class."""
    name = re.sub(r"(Private|Public)Key$", "", type(key).__name__.lstrip("_"))
    name = {"EllipticCurve": "EC"}.get(name, name)
    return f"{'an' if name[:1] in 'AEFHILMNORSX' else 'a'} {name}"


def _raw(public: Any, modules: _Modules) -> bytes:
    raw: bytes = public.public_bytes(modules.serialization.Encoding.Raw, modules.serialization.PublicFormat.Raw)
    return raw


@dataclass(frozen=True, slots=True)
class _Modules:
    """The parts of `cryptography` that are used."""

    ed25519: Any
    serialization: Any
    exceptions: Any

    @property
    def unreadable(self) -> tuple[type[Exception], ...]:
        """What loading a key raises; InternalError for one that OpenSSL itself finds no way with."""
        return ValueError, TypeError, self.exceptions.UnsupportedAlgorithm, self.exceptions.InternalError


def _modules() -> _Modules:
    """`cryptography`, imported here only. Raises MissingPackage."""
    need("cryptography", extra="vehicle")
    from cryptography import exceptions
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _Modules(ed25519, serialization, exceptions)
