"""One word of a command line as systemd reads it.

The rules are systemd.service(5)'s "Command lines" and systemd.syntax(7)'s "Quoting":
https://www.freedesktop.org/software/systemd/man/systemd.service.html#Command%20lines
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./%$-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def command_line(words: Sequence[str]) -> str:
    """Words as the value of ExecStart: what systemd makes of it is these words again, to the character.

    % begins a specifier and $ a variable, so both are doubled; the rest is quoted where it has to be. Raises InputError
    for a first word that is no absolute path or holds a $, which systemd takes literally there, or for a control
    character.
    """
    program = words[0] if words else ""
    if not program.startswith("/") or "$" in program:
        raise InputError(f"a service starts a program by its absolute path without a $, found {program!r}")
    return " ".join(_word(word) for word in words)


def setting(text: str) -> str:
    """A value that systemd takes as one word and expands specifiers in, such as a path in ReadWritePaths."""
    return _quoted(text.replace("%", "%%"))


def _word(text: str) -> str:
    return _quoted(text.replace("%", "%%").replace("$", "$$"))


def _quoted(text: str) -> str:
    strange = [c for c in text if not c.isprintable() and c not in _ESCAPES]
    if strange:
        raise InputError(f"a unit can't hold the character {strange[0]!r} of {text!r}", remedy="rename it")
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(_ESCAPES.get(c, c) for c in text) + '"'
