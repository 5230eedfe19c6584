"""edgetl keygen: a pair of keys, said where they are and what each is for."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from edgetl.commands import keygen
from edgetl_runtime.errors import InputError
from edgetl_runtime.keys import key_id, read_private_key, read_public_keys


def call(*arguments: object) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    keygen.add_arguments(parser)
    document = keygen.run(parser.parse_args([str(a) for a in arguments]))
    json.dumps(document)
    return document


def test_a_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = call(tmp_path / "fleet")
    key = read_private_key(document["private_key"])
    assert read_public_keys(document["public_key"]) == (key.public,)
    assert document["key_id"] == key_id(key.public)
    shown = capsys.readouterr()
    assert shown.out == "" and document["key_id"] in shown.err
    secret = (tmp_path / "fleet.key").read_text().splitlines()[1]
    assert secret not in shown.err, "a private key does not belong on a screen"


def test_it_never_replaces(tmp_path: Path) -> None:
    call(tmp_path / "fleet")
    before = (tmp_path / "fleet.key").read_bytes()
    with pytest.raises(InputError, match="never replaced"):
        call(tmp_path / "fleet")
    assert (tmp_path / "fleet.key").read_bytes() == before
