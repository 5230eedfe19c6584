"""The bill of materials: CycloneDX by its rules, the same bytes every time, licences for people."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from runtime_support import make_manifest, manifest_of, write_test_bundle

from edgetl_export.sbom import (
    EMPTY_SHA256,
    INSIDE,
    LEARNT_FROM,
    MADE_WITH,
    NOT_STATED,
    SBOM_NAME,
    licence_list,
    read_sbom,
    write_sbom,
)
from edgetl_runtime.bundle import open_bundle, write_manifest
from edgetl_runtime.errors import BundleError, InputError
from edgetl_runtime.spec import Provenance

PROVENANCE = msgspec.structs.replace(
    manifest_of().provenance, weights="lite0 1.0", weights_licence="apache-2.0", packages={"numpy": "0", "msgspec": "0"}
)

STRICT = JsonStrictValidator(SchemaVersion.V1_6)


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    """A valid bundle that a test may spoil."""
    return write_test_bundle(tmp_path / "tiny.bundle")


def files_of(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"]


def write(folder: Path, provenance: Provenance = PROVENANCE) -> dict[str, Any]:
    document = json.loads(write_sbom(folder, name="tiny", provenance=provenance, files=files_of(folder)).read_text())
    assert isinstance(document, dict)
    return document


def part(document: dict[str, Any], reference: str) -> dict[str, Any]:
    (found,) = (c for c in document["components"] if c["bom-ref"] == reference)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("licence", ["apache-2.0", "MIT OR Apache-2.0", "as the maker says", NOT_STATED])
def test_the_formats_own_validator_finds_nothing(bundle_dir: Path, licence: str) -> None:
    document = write(bundle_dir, msgspec.structs.replace(PROVENANCE, weights_licence=licence))
    assert STRICT.validate_str(json.dumps(document)) is None
    assert (document["specVersion"], document["version"]) == ("1.6", 1)
    stated = part(document, "weights").get("licenses", [])
    assert any("expression" in x for x in stated) == (" OR " in licence)


def test_the_formats_own_validator_finds_what_is_wrong(bundle_dir: Path) -> None:
    document = write(bundle_dir)
    document["components"][0]["type"] = "network"
    assert STRICT.validate_str(json.dumps(document)) is not None


def test_what_it_lists(bundle_dir: Path) -> None:
    document = write(bundle_dir)
    for name in ("model.fp32.onnx", "golden.npz", "labels.txt"):
        expected = hashlib.sha256((bundle_dir / name).read_bytes()).hexdigest()
        assert part(document, f"file:{name}")["hashes"] == [{"alg": "SHA-256", "content": expected}]
    assert not [c for c in document["components"] if c["name"] == "report.html"], "it is about measurements"
    weights = part(document, "weights")
    assert weights["name"] == "lite0 1.0" and weights["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert weights["hashes"][0]["content"] == PROVENANCE.weights_sha256
    dataset = part(document, "dataset")
    assert dataset["properties"] == [{"name": "edgetl:fingerprint-sha256", "value": PROVENANCE.dataset_sha256}]
    numpy = part(document, "package:numpy")
    assert numpy["purl"] == f"pkg:pypi/numpy@{numpy['version']}" and numpy["version"] != "0" and numpy["licenses"]
    assert document["metadata"]["component"]["name"] == "tiny"


def test_the_same_inputs_give_the_same_bytes_and_no_time_is_in_them(bundle_dir: Path) -> None:
    write(bundle_dir)
    first = (bundle_dir / SBOM_NAME).read_bytes()
    (bundle_dir / SBOM_NAME).unlink()
    (bundle_dir / "report.html").write_text("other figures")
    write(bundle_dir, msgspec.structs.replace(PROVENANCE, created="2030-01-01T00:00:00Z", machine="another"))
    assert (bundle_dir / SBOM_NAME).read_bytes() == first
    assert str(bundle_dir).encode() not in first


@pytest.mark.parametrize(
    ("sha256", "licence", "shown"),
    [
        ("ab" * 32, "apache-2.0", "Apache-2.0"),
        ("ab" * 32, "not stated", NOT_STATED),
        ("ab" * 32, "none", NOT_STATED),
        ("ab" * 32, "nvidia-source-code-license-nc", "nvidia-source-code-license-nc"),
        (EMPTY_SHA256, "none", "none needed"),
        ("", "not stated", NOT_STATED),
    ],
)
def test_licences_for_people(bundle_dir: Path, sha256: str, licence: str, shown: str) -> None:
    write(bundle_dir, msgspec.structs.replace(PROVENANCE, weights_sha256=sha256, weights_licence=licence))
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    bill = read_sbom(open_bundle(bundle_dir))
    assert bill is not None
    groups = licence_list(bill)
    assert list(groups) == [INSIDE, LEARNT_FROM, MADE_WITH]
    assert groups[INSIDE] == {shown: ["lite0 1.0"]}
    assert groups[LEARNT_FROM] == {NOT_STATED: ["squares"]}
    assert any(p.startswith("numpy ") for parts in groups[MADE_WITH].values() for p in parts)


def test_a_bundle_without_one(bundle_dir: Path) -> None:
    assert read_sbom(open_bundle(bundle_dir)) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_one_that_is_none(bundle_dir: Path, data: bytes) -> None:
    (bundle_dir / SBOM_NAME).write_bytes(data)
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    with pytest.raises(BundleError, match=r"sbom\.json is no bill of materials"):
        read_sbom(open_bundle(bundle_dir))


def test_one_of_another_tool_is_read(bundle_dir: Path) -> None:
    """Fields that we don't write are no reason to refuse."""
    other = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": "urn:uuid:0", "components": [
        {"type": "library", "name": "x", "version": "1", "licenses": [{"license": {"id": "MIT", "url": "z"}}]}
    ]}  # fmt: skip
    (bundle_dir / SBOM_NAME).write_text(json.dumps(other))
    write_manifest(bundle_dir, make_manifest(bundle_dir))
    bill = read_sbom(open_bundle(bundle_dir))
    assert bill is not None and licence_list(bill) == {MADE_WITH: {"MIT": ["x 1"]}}


def test_a_full_disk_leaves_nothing(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"sbom\.json: can't be written \(No space left on device\)"):
        write(bundle_dir)
    monkeypatch.undo()
    assert SBOM_NAME not in {p.name for p in bundle_dir.iterdir()}
