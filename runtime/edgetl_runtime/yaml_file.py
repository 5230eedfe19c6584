"""YAML that may come from anyone, as plain values: its size, depth and aliases are bounded before anything is built.

PyYAML's safe loader builds no foreign objects, but a few hundred bytes of aliases can stand for billions of values, and
what it raises for a malformed date, number or tag is no YAMLError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import need

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUE = 65536
"""Characters of one value: a number to base 60, which YAML has, takes time with the square of its length."""
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


def read_yaml(path: Path, *, what: str, max_bytes: int = MAX_BYTES, extra: str = "vehicle") -> Any:
    """The document in the file: dict, list, str, int, float, bool, None, date. what: for messages, as "the ladder".

    Raises InputError for a file that can't be read, has more than `max_bytes`, is no YAML in UTF-8, nests deeper than
    MAX_DEPTH, has a value longer than MAX_VALUE or an alias (`*name`); MissingPackage without PyYAML, which names
    `extra`.
    """
    yaml = need("yaml", extra=extra)
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"can't read {what} {path}: {error.strerror}") from error
    if len(data) > max_bytes:
        raise InputError(f"{path} has more than {max_bytes} bytes, which is too much for {what}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = data.decode("utf-8-sig")
        _refuse_bombs(yaml, yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, *_MALFORMED) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} {path} is not readable as YAML ({line[:200]})") from error


def _refuse_bombs(yaml: Any, events: Any) -> None:
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"line {event.start_mark.line + 1} has the alias *{event.anchor}: write the value out")
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_VALUE:
            raise ValueError(f"line {event.start_mark.line + 1} has a value of {len(event.value)} characters")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"line {event.start_mark.line + 1} nests deeper than {MAX_DEPTH}")
