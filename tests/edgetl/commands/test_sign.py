"""edgetl sign, and --require-signature on the commands that open a bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runtime_support import write_test_bundle

from edgetl import cli
from edgetl.commands import sign, verify
from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.errors import BundleError, InputError
from edgetl_runtime.keys import write_key_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An unsigned bundle."""
    return write_test_bundle(tmp_path / "b")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, tuple[Path, Path, str]]:
    """Private and public key and key id of `mine` and `other`."""
    return {name: write_key_pair(tmp_path / name) for name in ("mine", "other")}


Keys = dict[str, tuple[Path, Path, str]]


def call(command: Any, *arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    document = command.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document)
    assert isinstance(document, dict)
    return document


def test_sign_and_verify(folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    private, public, identity = keys["mine"]
    assert call(sign, folder, "--key", private) == {"bundle": str(folder), "key_id": identity}
    document = call(verify, folder, "--require-signature", public)
    assert document["ok"] and document["signature"] == {"checked": True, "key_id": identity, "trusted": True}
    assert f"signature    valid, by the key {identity}; trusted by {public}" in capsys.readouterr().err
    document = call(verify, folder)
    assert document["ok"] and document["signature"]["checked"] is False
    assert "NOT checked" in capsys.readouterr().err


def test_a_release_is_written_before_the_signature(folder: Path, keys: Keys) -> None:
    before = open_bundle(folder).manifest
    assert before.release == 0
    call(sign, folder, "--key", keys["mine"][0], "--release", 12)
    found = open_bundle(folder, require_signature=keys["mine"][1]).manifest
    assert found.release == 12 and msgspec.structs.replace(found, release=0) == before
    with pytest.raises(InputError, match="is signed already"):
        call(sign, folder, "--key", keys["mine"][0], "--release", 13)
    assert open_bundle(folder, require_signature=keys["mine"][1]).manifest.release == 12
    call(sign, folder, "--key", keys["mine"][0], "--force")
    assert open_bundle(folder, require_signature=keys["mine"][1]).manifest.release == 12, (
        "it stays where nothing is said"
    )


def test_a_second_signature_needs_force(folder: Path, keys: Keys) -> None:
    call(sign, folder, "--key", keys["mine"][0])
    with pytest.raises(InputError, match="is signed already"):
        call(sign, folder, "--key", keys["other"][0])
    assert open_bundle(folder, require_signature=keys["mine"][1]).signed_by == keys["mine"][2]
    call(sign, folder, "--key", keys["other"][0], "--force")
    assert open_bundle(folder, require_signature=keys["other"][1]).signed_by == keys["other"][2]


def test_verify_refuses_before_it_replays(folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    call(sign, folder, "--key", keys["mine"][0])
    with pytest.raises(BundleError, match="none of the trusted key"):
        call(verify, folder, "--require-signature", keys["other"][1])
    assert "golden" not in capsys.readouterr().err


@pytest.mark.parametrize("settings", ['{"require-signature": "%s"}', '{"require_signature": true}'])
def test_the_requirement_can_stand_in_a_file(folder: Path, keys: Keys, tmp_path: Path, settings: str) -> None:
    config = tmp_path / "vehicle.json"
    config.write_text(settings % keys["other"][1] if "%s" in settings else settings)
    arguments = ["inspect", str(folder), "--config", str(config)]
    assert cli.main(arguments) == 2, "not signed"
    call(sign, folder, "--key", keys["mine"][0])
    assert cli.main(arguments) == (2 if "%s" in settings else 0)
    config.write_text('{"require-signature": false}')
    assert cli.main(arguments) == 0
    config.write_text(json.dumps({"require-signature": str(keys["mine"][1])}))
    assert cli.main(arguments) == 0


def test_a_flag_without_its_value_never_takes_the_bundle_for_a_key_in_silence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["inspect", "--require-signature", str(folder)]) == 2
    assert "the following arguments are required: bundle" in capsys.readouterr().err
