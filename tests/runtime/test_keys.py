"""Keys: the right kind is read, every wrong kind is named in one line, nothing is replaced."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519

from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.keys import key_id, read_private_key, read_public_keys, verifies, write_key_pair

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def private_pem(key: Any, *, form: Any = PKCS8, protection: Any = PLAIN) -> bytes:
    pem: bytes = key.private_bytes(PEM, form, protection)
    return pem


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(PEM, SPKI)
    return pem


ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
LOCKED = serialization.BestAvailableEncryption(b"secret")
SSH = serialization.PrivateFormat.OpenSSH
OLD = serialization.PrivateFormat.TraditionalOpenSSL
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
ALL_ZERO = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VvBCIEI" + b"A" * 43 + b"\n-----END PRIVATE KEY-----\n"
"""An X25519 key of zeros, for which OpenSSL has no public key: an InternalError of `cryptography`, found by fuzzing."""


def test_a_pair_signs_and_is_recognised(tmp_path: Path) -> None:
    private_path, public_path, identity = write_key_pair(tmp_path / "fleet.2025")
    assert (private_path.name, public_path.name) == ("fleet.2025.key", "fleet.2025.pub")
    assert private_path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fleet.2025.key", "fleet.2025.pub"]
    key, (public,) = read_private_key(private_path), read_public_keys(public_path)
    assert key.public == public and key_id(public) == identity and len(identity) == 16
    signature = key.sign(b"data")
    assert verifies(public, signature, b"data")
    assert not verifies(public, signature, b"date")
    assert not verifies(public, bytes(64), b"data")
    assert not verifies(public, b"short", b"data")
    assert not verifies(b"short", signature, b"data")
    other = read_public_keys(write_key_pair(tmp_path / "other")[1])[0]
    assert other != public and not verifies(other, signature, b"data")


def said(value: object) -> str:
    """The name of a case: keys are new in every process, and test processes must agree on names."""
    return value if isinstance(value, str) else "key"


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_a_private_key_is_its_owners_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert write_key_pair(tmp_path / "k")[0].stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("ending", [".key", ".pub"])
def test_a_key_is_never_replaced(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"k{ending}").write_text("precious")
    with pytest.raises(InputError, match=rf"k\{ending} exists, and a key is never replaced"):
        write_key_pair(tmp_path / "k")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("name", "says"), [("none/k", "does not exist"), ("", "is no name"), ("..", "is no name"), ("/", "is no name")]
)
def test_a_name_that_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        write_key_pair(Path(name))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(InputError, match=r"k\.key: can't be written \(No space left on device\)"):
        write_key_pair(tmp_path / "k")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no key in PEM"),
        (b"ssh-ed25519 AAAAC3Nza", "holds no key in PEM"),
        (os.urandom(500), "holds no key in PEM"),
        (public_pem(ED), "is a public key, signing needs the private key"),
        (CERTIFICATE, "is a PEM of CERTIFICATE, signing needs the private key"),
        (private_pem(RSA), "is an RSA private key, expected Ed25519"),
        (private_pem(RSA, form=OLD), "is an RSA private key, expected Ed25519"),
        (private_pem(EC), "is an EC private key, expected Ed25519"),
        (private_pem(ed448.Ed448PrivateKey.generate()), "is an Ed448 private key, expected Ed25519"),
        (private_pem(x25519.X25519PrivateKey.generate()), "is an X25519 private key, expected Ed25519"),
        (private_pem(ED, protection=LOCKED), "protected by a passphrase"),
        (private_pem(RSA, form=OLD, protection=LOCKED), "protected by a passphrase"),
        (private_pem(ED, form=SSH), "is a key of SSH"),
        (private_pem(ED) * 2, "holds 2 keys, expected one"),
        (private_pem(ED)[:60], "holds no readable private key"),
        (private_pem(ED).replace(b"MC4C", b"MC4D"), "holds no readable private key"),
        (ALL_ZERO, "holds no readable private key"),
        (b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n", "holds no readable private key"),
    ],
    ids=said,
)
def test_a_private_key_of_the_wrong_kind(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "k").write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read_private_key(tmp_path / "k")
    assert caught.value.remedy and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "holds no key in PEM"),
        (b"ssh-ed25519 AAAAC3Nza", "holds no key in PEM"),
        (private_pem(ED), "holds a private key, expected public keys only"),
        (public_pem(ED) + private_pem(ED), "holds a private key, expected public keys only"),
        (public_pem(ED) + CERTIFICATE, "holds a PEM of CERTIFICATE"),
        (public_pem(RSA), "is an RSA public key, expected Ed25519"),
        (public_pem(ED) + public_pem(EC), "is an EC public key, expected Ed25519"),
        (public_pem(ED) + public_pem(ED)[:70], "that is cut off"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no readable public key"),
        (b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n", "expected public keys only"),
    ],
    ids=said,
)
def test_public_keys_of_the_wrong_kind(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "k").write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read_public_keys(tmp_path / "k")
    assert caught.value.remedy and "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_private_key, read_public_keys])
def test_a_file_that_is_none(tmp_path: Path, read: Any) -> None:
    with pytest.raises(InputError, match=r"can't read the key .*No such file"):
        read(tmp_path / "gone")
    with pytest.raises(InputError, match="is a folder, expected a key file"):
        read(tmp_path)
    (tmp_path / "big").write_bytes(b"x" * 100_000)
    with pytest.raises(InputError, match="more than 65536 bytes"):
        read(tmp_path / "big")


def test_several_public_keys_with_comments_between_them(tmp_path: Path) -> None:
    paths = [write_key_pair(tmp_path / name)[1] for name in "abc"]
    (tmp_path / "all").write_bytes(b"# 2024\n" + b"\n# 2025, rotated\r\n".join(p.read_bytes() for p in paths))
    assert read_public_keys(tmp_path / "all") == tuple(read_public_keys(p)[0] for p in paths)


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public, _ = write_key_pair(tmp_path / "k")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for call in (
        lambda: read_private_key(private),
        lambda: read_public_keys(public),
        lambda: write_key_pair(tmp_path / "new"),
    ):
        with pytest.raises(MissingPackage, match=r"'cryptography'.*edgetl\[vehicle\].*python3-cryptography"):
            call()
    assert not (tmp_path / "new.pub").exists()
