"""An error is one line for a person, whatever it quotes."""

from __future__ import annotations

import pytest

from edgetl_runtime.errors import MAX_CHARACTERS, EdgetlError, InputError


def test_message_and_remedy_are_one_line() -> None:
    assert str(InputError("a\n  b", remedy="do\tthis")) == "a b; do this"
    assert str(InputError("\u00e4 \u65e5 'x'")) == "\u00e4 \u65e5 'x'"


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [("\x1b[31mred\x07", "\\x1b[31mred\\x07"), ("\u202eabc", "\\u202eabc"), ("\ud800", "\\ud800"), ("\x00", "\\x00")],
)
def test_what_steers_a_terminal_is_escaped(quoted: str, shown: str) -> None:
    assert str(EdgetlError(f"no file {quoted}")) == f"no file {shown}"


def test_a_long_quotation_is_cut() -> None:
    assert len(str(EdgetlError("x" * 1_000_000))) == MAX_CHARACTERS
    assert str(EdgetlError("x" * MAX_CHARACTERS)) == "x" * MAX_CHARACTERS
