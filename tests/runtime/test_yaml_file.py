"""YAML of strangers: what it stands for is bounded, and whatever is wrong is one line."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.yaml_file import MAX_DEPTH, read_yaml


def read(tmp_path: Path, text: str | bytes) -> object:
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(path, what="the list", max_bytes=10_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: [1, 2.5, yes, ~, x]", {"a": [1, 2.5, True, None, "x"]}),
        ("\ufeffa: \u00e4", {"a": "\u00e4"}),
        ("", None),
        ("- a\n- {b: c}", ["a", {"b": "c"}]),
        ("[" * MAX_DEPTH + "]" * MAX_DEPTH, pytest.approx),
    ],
)
def test_values_come_back(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, text)
    assert value is pytest.approx or found == value


MERGED = "a: &a {k0: v}\n" + "\n".join(
    f"{c}: &{c} {{<<: [{', '.join(['*' + p] * 9)}]}}" for p, c in zip("abcdef", "bcdefg", strict=True)
)
LAUGHS = "a: &a [x]\n" + "\n".join(
    f"{c}: &{c} [{', '.join(['*' + p] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [MERGED, LAUGHS, "&a [*a]"])
def test_aliases_are_refused_before_they_are_multiplied(tmp_path: Path, text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"has the alias \*a: write the value out"):
            read(tmp_path, text)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        "a: 2001-99-99", "a: 0x_", "a: " + "9" * 5000, "a: !!int x", "a: !!float x", "a: !!timestamp x", "a: !!bool x",
        "a: !!int ''", "a: !!float ''",
        "a: 2001-01-01 00:00:00+99:99", "!!python/object/apply:os.system [x]", "a: [", "a: \x07", b"\xff\xfe\x00",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "[" * 9000, "{[]: 1}", "a: 1\n---\nb: 2",
    ],
)  # fmt: skip
def test_what_is_malformed_is_one_line(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"^the list .*x\.yaml is not readable as YAML") as refused:
        read(tmp_path, text)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600


def test_a_long_number_takes_no_time(tmp_path: Path) -> None:
    """1:1:1:... is a number to base 60; of half a million digits it took a minute."""
    path = tmp_path / "x.yaml"
    path.write_text("a: 1" + ":1" * 400_000)
    with pytest.raises(InputError, match="has a value of 800001 characters"):
        read_yaml(path, what="the list")


def test_size_and_absence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than 10000 bytes"):
        read(tmp_path, "a" * 10_001)
    with pytest.raises(InputError, match="can't read the list"):
        read_yaml(tmp_path / "none.yaml", what="the list")
