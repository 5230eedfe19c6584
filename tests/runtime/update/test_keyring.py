"""Keyrings: they go forward, are signed by a root, and what was revoked stays so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from update_support import Fleet

from edgetl import cli
from edgetl_runtime.errors import InputError
from edgetl_runtime.keys import key_id
from edgetl_runtime.update.keyring import Keyring, check_next, make_keyring, read_keyring


def ring(
    fleet: Fleet, version: int = 1, *, keys: str = "mine", roots: str = "root", revoked: str = "", by: str = "root"
) -> Keyring:
    named = [sum((fleet.public(n) for n in names.split()), ()) for names in (keys, roots)]
    gone = frozenset(key_id(fleet.public(n)[0]) for n in revoked.split())
    path = fleet.folder / f"{version}.keyring"
    path.write_bytes(make_keyring(fleet.key(by), version=version, keys=named[0], roots=named[1], revoked=gone))
    return read_keyring(path)


def test_a_signed_ring_says_whose_bundles_are_taken(fleet: Fleet) -> None:
    found = ring(fleet, 3, keys="mine other", revoked="other")
    assert found.version == 3 and found.trusted == fleet.public("mine") and found.signer == fleet.public("root")[0]
    assert found.as_json()["revoked"] == [key_id(fleet.public("other")[0])]
    plain = read_keyring(fleet.folder / "mine.pub")
    assert (plain.version, plain.trusted, plain.roots, plain.signer) == (0, *[fleet.public("mine")] * 2, None)


def test_a_successor_is_taken(fleet: Fleet) -> None:
    first = ring(fleet, 1)
    check_next(first, ring(fleet, 2, keys="mine other"))
    check_next(first, ring(fleet, 7, keys="other", roots="root other", revoked="mine"))
    check_next(read_keyring(fleet.folder / "mine.pub"), ring(fleet, 1, keys="mine", by="mine"))


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"version": 1}, "has version 1, the store's has 1"),
        ({"version": 2, "by": "other"}, "is no root of the store's"),
        ({"version": 2, "by": "mine"}, "is no root of the store's"),
        ({"version": 2, "keys": "other"}, "leaves out"),
    ],
)
def test_what_can_not_follow_is_refused(fleet: Fleet, after: dict[str, object], said: str) -> None:
    first = ring(fleet, 1)
    with pytest.raises(InputError, match=said):
        check_next(first, ring(fleet, **after))  # type: ignore[arg-type]


def test_a_revocation_is_for_ever_and_holds_for_roots(fleet: Fleet) -> None:
    second = ring(fleet, 2, keys="mine other", roots="root other", revoked="mine")
    with pytest.raises(InputError, match="takes back"):
        check_next(second, ring(fleet, 3, keys="mine other"))
    revoked_root = ring(fleet, 2, keys="mine", roots="root other", revoked="root")
    with pytest.raises(InputError, match="is no root"):
        check_next(revoked_root, ring(fleet, 3, keys="mine", roots="root other", revoked="root", by="root"))
    with pytest.raises(InputError, match="PEM are for a new store"):
        check_next(second, read_keyring(fleet.folder / "mine.pub"))


@pytest.mark.parametrize("kind", ["body", "signature", "key", "format", "junk", "long", "short", "empty ring"])
def test_a_ring_that_was_changed_is_refused(fleet: Fleet, kind: str) -> None:
    ring(fleet, 1)
    path = fleet.folder / "1.keyring"
    document = json.loads(path.read_text())
    if kind == "body":
        document["body"] = document["body"].replace('"version": 1', '"version": 9')
    elif kind == "signature":
        document["signature"] = "A" + document["signature"][1:] if document["signature"][0] != "A" else "B" * 88
    elif kind == "key":
        document["public_key"] = document["public_key"][:-8] + "AAAAAAA="
    elif kind == "format":
        document["format"] = 2
    elif kind == "long":
        document["body"] += " " * 70000
    elif kind == "short":
        document["public_key"] = "AAAA"
    path.write_text("{" if kind == "junk" else json.dumps(document))
    if kind == "empty ring":
        with pytest.raises(InputError, match="nothing could come after it"):
            ring(fleet, 2, keys="mine", revoked="mine")
        return
    with pytest.raises(InputError) as caught:
        read_keyring(path)
    assert "\n" not in str(caught.value)


def test_the_command_makes_rings_that_follow_each_other(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    place = fleet.folder

    def call(*words: str | Path) -> int:
        return cli.main(["keyring", *map(str, words)])

    root, pub = ["--sign", place / "root.key"], {n: place / f"{n}.pub" for n in ("mine", "other", "root")}
    assert call(place / "a", *root, "--key", pub["mine"]) == 0
    assert call(place / "b", *root, "--after", place / "a", "--key", pub["other"]) == 0
    mine = key_id(fleet.public("mine")[0])
    assert call(place / "c", *root, "--after", place / "b", "--revoke", mine) == 0
    first, second, third = (read_keyring(place / name) for name in "abc")
    assert (first.version, second.version, third.version) == (1, 2, 3)
    assert first.roots == third.roots == fleet.public("root")
    assert second.trusted == fleet.public("mine") + fleet.public("other") and third.trusted == fleet.public("other")
    check_next(first, second)
    check_next(second, third)
    capsys.readouterr()
    assert call(place / "d", "--sign", place / "other.key", "--after", place / "c") == 2
    assert "is no root" in capsys.readouterr().err and not (place / "d").exists()
    assert call(place / "c", *root, "--after", place / "b") == 2, "nothing is replaced without --force"
    assert call(place / "e", "--sign", place / "other.key", "--key", pub["mine"], "--root", pub["root"]) == 2
    assert "one of its own roots" in capsys.readouterr().err
