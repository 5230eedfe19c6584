"""Every input of the corpus without the fuzzer: only documented errors, bounded memory. And the harness can fail.

Coverage-guided fuzzing itself: `python tests/fuzz/fuzz.py --all`, with the extra `fuzz`.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import targets
from seeds import SEEDS, made
from targets import (
    CORPUS,
    SEPARATOR,
    TARGETS,
    Finding,
    Target,
    check,
    mutate_bundle,
    mutate_json,
    mutate_parts,
    mutate_records,
)

from edgetl_runtime.errors import EdgetlError, InputError

REPOSITORY = Path(__file__).resolve().parents[2]


def inputs(name: str) -> list[Path]:
    return sorted(p for p in (CORPUS / name).iterdir() if p.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_brings_only_documented_errors_and_little_memory(name: str) -> None:
    target, taken = TARGETS[name], 0
    check(target, b"")  # imports are not the input's
    for path in inputs(name):
        data = path.read_bytes()
        tracemalloc.start()
        try:
            taken += check(target, data)
            peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()
        assert peak_mb < target.peak_mb, path
    assert taken, "no input is taken, so nothing behind the first check is reached"


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small(name: str) -> None:
    files = inputs(name)
    assert 1 <= len(files) <= 60
    assert sum(p.stat().st_size for p in files) <= 300_000


@pytest.mark.parametrize("name", TARGETS)
def test_start_inputs_are_made_of_what_is_written_today(name: str, tmp_path: Path) -> None:
    """So that a new field or version does not leave the fuzzer with files that are refused at once."""
    taken = [check(TARGETS[name], data) for data in made(name, tmp_path)]
    assert any(taken)
    assert len(list((CORPUS / name).glob("seed-*"))) == len(taken), f"run: python tests/fuzz/seeds.py {name}"


def test_every_target_has_start_inputs() -> None:
    assert list(SEEDS) == list(TARGETS)


# --- the harness can fail ---------------------------------------------------------------------------------------------


def planted(data: bytes) -> int:
    """A parser with a mistake: it believes that what it looks for is there."""
    return {b"a": 1}[data]


@pytest.mark.parametrize(
    ("raised", "allowed", "found"),
    [
        (KeyError("x"), (), KeyError),
        (RecursionError(), (ValueError,), RecursionError),
        (MemoryError(), (ValueError,), MemoryError),
        (ValueError("x"), (), ValueError),
        (InputError("a" * 5000), (), None),
        (InputError("\x1b[2J"), (), None),
        (ValueError("x"), (ValueError,), None),
    ],
)
def test_only_documented_errors_pass(
    raised: Exception, allowed: tuple[type[Exception], ...], found: type[Exception] | None
) -> None:
    def parse(data: bytes) -> None:
        raise raised

    target = Target(parse, allowed=allowed)
    if found is None:
        assert not check(target, b"")
    else:
        with pytest.raises(found):
            check(target, b"")


def test_a_planted_mistake_is_found() -> None:
    assert check(Target(planted), b"a")
    with pytest.raises(KeyError):
        check(Target(planted), b"b")


class Unescaped(EdgetlError):
    """An error that gives back what it was given."""

    def __str__(self) -> str:
        return self.message


@pytest.mark.parametrize("message", ["a\nb", "\x1b[2J", "x" * 5000])
def test_an_error_that_is_no_line_is_a_finding(message: str) -> None:
    def parse(data: bytes) -> None:
        raise Unescaped(message)

    with pytest.raises(Finding, match="no printable line"):
        check(Target(parse), b"")


def test_a_page_without_its_token_would_be_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gate that lets everybody in, the target for the web fails at the first request."""
    from edgetl_runtime.web.access import Gate

    request = b"GET /frame.jpg HTTP/1.1\r\nHost: a\r\n\r\n"
    assert check(TARGETS["web"], request)
    monkeypatch.setattr(Gate, "judge", lambda *_: "allowed")
    with pytest.raises(Finding, match="without the token"):
        check(TARGETS["web"], request)


def test_a_mistake_in_a_page_would_be_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetl_runtime.web.site import LiveSite

    def broken(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(LiveSite, "answer", broken)
    with pytest.raises(Finding, match="a mistake in a page"):
        check(TARGETS["web"], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_a_signature_that_holds_for_anything_would_be_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgetl_runtime import signature

    data = (CORPUS / "signature" / "seed-0").read_bytes()
    assert check(TARGETS["signature"], data)
    monkeypatch.setattr(signature, "check_signature", lambda *_: "key")
    with pytest.raises(Finding, match="another manifest"):
        check(TARGETS["signature"], data)


@pytest.mark.parametrize("mutate", [mutate_json, mutate_parts, mutate_bundle])
def test_structured_changes_change_and_keep_the_structure(mutate: targets.Mutation) -> None:
    data = b'{"a":[1,{"b":"c"}],"d":2}' + SEPARATOR + b"second"
    changed = [mutate(data, random.Random(i)) for i in range(60)]
    assert sum(each != data for each in changed) > 40
    assert all(each.count(SEPARATOR) == 1 for each in changed)
    if mutate is mutate_json:
        for each in changed:
            json.loads(each.split(SEPARATOR)[0])


def test_records_are_changed_and_their_lengths_stay_right() -> None:
    data = (CORPUS / "recording" / "seed-2").read_bytes()
    changed = [mutate_records(data, random.Random(i)) for i in range(40)]
    assert sum(each != data for each in changed) > 30
    assert sum(check(TARGETS["recording"], each) for each in changed) > 10
    assert mutate_records(b"", random.Random(0)) == b""


PLANTED = """
import sys
sys.path[:0] = sys.argv[1:2]
import fuzz
from targets import TARGETS, Target

def parse(data):
    if data[:2] == b"ed" and len(data) > 5:
        raise KeyError("planted")

TARGETS["planted"] = Target(parse)
fuzz.child("planted", ["-runs=500000", "-max_total_time=300", "-seed=1", "-artifact_prefix=" + sys.argv[2] + "/"])
"""


@pytest.mark.slow
def test_the_fuzzer_finds_a_planted_mistake(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-P", "-c", PLANTED, str(REPOSITORY / "tests/fuzz"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode != 0
    assert "KeyError: 'planted'" in done.stdout + done.stderr
    (crash,) = tmp_path.glob("crash-*")
    assert crash.read_bytes()[:2] == b"ed"
