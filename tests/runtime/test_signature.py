"""Signed bundles: the trusted key's open, everything else is refused before the manifest is parsed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_support import make_manifest, write_test_bundle

import edgetl_runtime
from edgetl_runtime.bundle import MANIFEST_NAME, open_bundle, sign_bundle, write_manifest
from edgetl_runtime.errors import BundleError, InputError, MissingPackage
from edgetl_runtime.keys import key_id, read_private_key, write_key_pair
from edgetl_runtime.signature import PREFIX, SIGNATURE_NAME, check_signature, read_signature


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pairs `mine` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        write_key_pair(folder / name)
    return folder


@pytest.fixture
def signed(bundle_dir: Path, keys: Path) -> Path:
    """A bundle signed by `mine` that a test may spoil."""
    sign_bundle(bundle_dir, read_private_key(keys / "mine.key"))
    return bundle_dir


def edit(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / SIGNATURE_NAME).read_text())
    (folder / SIGNATURE_NAME).write_text(json.dumps(document | changes))


def refused(folder: Path, required: bool | Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, require_signature=required)
    assert caught.value.remedy and "\n" not in str(caught.value)
    return str(caught.value)


def test_the_trusted_key_opens(signed: Path, keys: Path) -> None:
    mine = read_private_key(keys / "mine.key")
    for required in (keys / "mine.pub", str(keys / "mine.pub"), True):
        assert open_bundle(signed, require_signature=required).signed_by == key_id(mine.public)
    for required in (None, False):
        assert open_bundle(signed, require_signature=required).signed_by is None
    found = json.loads((signed / SIGNATURE_NAME).read_text())
    assert list(found) == ["algorithm", "public_key", "key_id", "manifest_sha256", "signature"]
    data = (signed / MANIFEST_NAME).read_bytes()
    assert found["manifest_sha256"] == hashlib.sha256(data).hexdigest()
    assert base64.b64decode(found["signature"]) == mine.sign(PREFIX + data), "Ed25519 is deterministic"


def test_several_keys_in_one_file(signed: Path, keys: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.pub"
    both.write_bytes((keys / "other.pub").read_bytes() + (keys / "mine.pub").read_bytes())
    assert open_bundle(signed, require_signature=both).signed_by
    sign_bundle(signed, read_private_key(keys / "other.key"), force=True)
    assert open_bundle(signed, require_signature=both).signed_by


def test_another_key_is_refused(signed: Path, keys: Path) -> None:
    text = refused(signed, keys / "other.pub")
    assert "none of the trusted key " in text and "other.pub" in text
    sign_bundle(signed, read_private_key(keys / "other.key"), force=True)
    assert "none of the trusted key " in refused(signed, keys / "mine.pub")


@pytest.mark.parametrize("required", ["key", "any"])
def test_an_unsigned_bundle_is_refused(bundle_dir: Path, keys: Path, required: str) -> None:
    assert "is not signed" in refused(bundle_dir, keys / "mine.pub" if required == "key" else True)


def test_a_signature_of_another_bundle_is_refused(signed: Path, keys: Path, tmp_path: Path) -> None:
    other = write_test_bundle(tmp_path / "other", name="another")
    (other / SIGNATURE_NAME).write_bytes((signed / SIGNATURE_NAME).read_bytes())
    assert "signs another manifest: it is of another bundle" in refused(other, keys / "mine.pub")
    edit(other, manifest_sha256=hashlib.sha256((other / MANIFEST_NAME).read_bytes()).hexdigest())
    assert "is not valid" in refused(other, keys / "mine.pub"), "the stated hash is no proof"
    open_bundle(other)


def test_an_altered_manifest_is_refused_before_it_is_parsed(signed: Path, keys: Path) -> None:
    for data in (b"{", b"[" * 100_000, (signed / MANIFEST_NAME).read_bytes() + b" "):
        (signed / MANIFEST_NAME).write_bytes(data)
        assert "signs another manifest" in refused(signed, keys / "mine.pub")


def test_a_file_replaced_together_with_its_hash_is_refused(signed: Path, keys: Path) -> None:
    (signed / "labels.txt").write_text("other\n")
    assert "labels.txt" in refused(signed, keys / "mine.pub")
    (signed / SIGNATURE_NAME).rename(signed.parent / "kept")
    write_manifest(signed, make_manifest(signed))
    (signed.parent / "kept").rename(signed / SIGNATURE_NAME)
    assert "signs another manifest" in refused(signed, keys / "mine.pub")
    open_bundle(signed)


def test_the_same_bytes_signed_for_something_else_are_refused(signed: Path, keys: Path) -> None:
    """Without the prefix a signature of some other protocol could pass for a bundle's."""
    plain = read_private_key(keys / "mine.key").sign((signed / MANIFEST_NAME).read_bytes())
    edit(signed, signature=base64.b64encode(plain).decode())
    assert "is not valid" in refused(signed, keys / "mine.pub")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"algorithm": "rsa"}, "not a valid signature file"),
        ({"algorithm": None}, "not a valid signature file"),
        ({"novelty": 1}, "not a valid signature file"),
        ({"manifest_sha256": "ab"}, "not a valid signature file"),
        ({"manifest_sha256": "0" * 64}, "signs another manifest"),
        ({"signature": ""}, "the signature 0, expected 32 and 64"),
        ({"signature": "?"}, "no base64"),
        ({"signature": "\u00e9"}, "no base64"),
        ({"signature": base64.b64encode(bytes(64)).decode()}, "is not valid"),
        ({"public_key": base64.b64encode(bytes(31)).decode()}, "the public key has 31 bytes"),
        ({"public_key": base64.b64encode(bytes(32)).decode()}, "the key's own id"),
        ({"key_id": "0" * 16}, "the key's own id"),
    ],
)
@pytest.mark.parametrize("trust", ["key", "any"])
def test_a_signature_that_is_none(signed: Path, keys: Path, changes: dict[str, Any], says: str, trust: str) -> None:
    edit(signed, **changes)
    assert says in refused(signed, keys / "mine.pub" if trust == "key" else True)


@pytest.mark.parametrize("data", [b"", b"null", b"\xff\xfe", b"[" * 4000, b"x" * 5000, b"{}"])
def test_a_signature_file_that_is_none(signed: Path, data: bytes) -> None:
    (signed / SIGNATURE_NAME).write_bytes(data)
    assert SIGNATURE_NAME in refused(signed, True)


def test_a_linked_signature_is_refused(signed: Path, tmp_path: Path) -> None:
    (signed / SIGNATURE_NAME).rename(tmp_path / "outside")
    (signed / SIGNATURE_NAME).symlink_to(tmp_path / "outside")
    for required in (True, None):
        with pytest.raises(BundleError, match=r"signature\.json in the bundle .* is a symbolic link"):
            open_bundle(signed, require_signature=required)


def test_a_manifest_may_not_list_the_signature(bundle_dir: Path, keys: Path) -> None:
    (bundle_dir / SIGNATURE_NAME).write_text("{}")
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    with pytest.raises(BundleError, match=r"lists 'signature\.json', which is not a plain relative path"):
        sign_bundle(bundle_dir, read_private_key(keys / "mine.key"), force=True)


def test_signing_changes_nothing_else_and_never_replaces_unasked(bundle_dir: Path, keys: Path) -> None:
    mine, other = (read_private_key(keys / f"{n}.key") for n in ("mine", "other"))
    before = {p.name: p.read_bytes() for p in bundle_dir.iterdir()}
    assert sign_bundle(bundle_dir, mine) == key_id(mine.public)
    first = (bundle_dir / SIGNATURE_NAME).read_bytes()
    with pytest.raises(InputError, match=r"is signed already, by the key .*; give --force"):
        sign_bundle(bundle_dir, other)
    assert {p.name: p.read_bytes() for p in bundle_dir.iterdir()} == before | {SIGNATURE_NAME: first}
    sign_bundle(bundle_dir, other, force=True)
    found = read_signature(bundle_dir)
    assert found is not None and found.key_id == key_id(other.public)
    sign_bundle(bundle_dir, mine, force=True)
    assert (bundle_dir / SIGNATURE_NAME).read_bytes() == first, "the same key and bundle give the same bytes"


def spoil_file(folder: Path) -> None:
    (folder / "labels.txt").write_text("other\n")


def spoil_extra(folder: Path) -> None:
    (folder / "extra.so").write_text("x")


def spoil_all(folder: Path) -> None:
    for item in folder.iterdir():
        item.unlink()


@pytest.mark.parametrize("spoil", [spoil_file, spoil_extra, spoil_all])
def test_a_bundle_that_is_not_whole_is_not_signed(bundle_dir: Path, keys: Path, spoil: Callable[[Path], None]) -> None:
    spoil(bundle_dir)
    with pytest.raises(BundleError):
        sign_bundle(bundle_dir, read_private_key(keys / "mine.key"))
    assert not (bundle_dir / SIGNATURE_NAME).exists()


def test_a_signing_that_was_killed_half_way_is_cleaned_up_by_the_next(bundle_dir: Path, keys: Path) -> None:
    dead = 2**22 + 1  # above the highest pid that Linux gives
    (bundle_dir / f".signature.{dead}.tmp.json").write_text("{")
    with pytest.raises(BundleError, match=rf"\.signature\.{dead}\.tmp\.json is in the bundle"):
        open_bundle(bundle_dir)
    sign_bundle(bundle_dir, read_private_key(keys / "mine.key"))
    assert open_bundle(bundle_dir, require_signature=keys / "mine.pub").signed_by


def test_a_full_disk_leaves_the_old_signature(signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (signed / SIGNATURE_NAME).read_bytes()

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"signature\.json: can't be written \(No space left on device\)"):
        sign_bundle(signed, read_private_key(keys / "other.key"), force=True)
    assert (signed / SIGNATURE_NAME).read_bytes() == before
    assert open_bundle(signed, require_signature=keys / "mine.pub").signed_by


def test_a_key_file_that_is_none_is_named_before_the_bundle(bundle_dir: Path, keys: Path) -> None:
    for required in (keys / "mine.key", keys, ""):
        with pytest.raises(InputError, match=r"expected public keys only|is a folder"):
            open_bundle(bundle_dir, require_signature=required)


def test_a_signature_without_the_files_is_no_proof(signed: Path) -> None:
    with pytest.raises(ValueError, match="verified too"):
        open_bundle(signed, verify=False, require_signature=True)


def test_without_cryptography_nothing_passes(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingPackage, match="cryptography"):
        open_bundle(signed, require_signature=True)
    open_bundle(signed)


def test_open_takes_the_requirement(signed: Path, keys: Path, clip: Path) -> None:
    with edgetl_runtime.open(signed, str(clip), require_signature=keys / "mine.pub") as results:
        assert next(iter(results)).frame_id == 0
    with pytest.raises(BundleError, match="none of the trusted"):
        edgetl_runtime.open(signed, str(clip), require_signature=os.fspath(keys / "other.pub")).__enter__()


def test_the_raw_bytes_count_not_what_they_mean(signed: Path) -> None:
    data = (signed / MANIFEST_NAME).read_bytes()
    check_signature(signed, data, True)
    again = json.dumps(json.loads(data), sort_keys=True).encode()
    with pytest.raises(BundleError, match="signs another manifest"):
        check_signature(signed, again, True)
