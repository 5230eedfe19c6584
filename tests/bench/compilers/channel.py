"""A peer's end of the talk with the benchmark: one JSON document a line on stdout, nothing else there.

Runs in the peer's own environment, so it needs the standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


class Channel:
    """stdout kept for JSON; what libraries print there goes to stderr."""

    def __init__(self) -> None:
        self._lines = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def tell(self, **document: Any) -> None:
        """One document to the benchmark."""
        self._lines.write(json.dumps(document) + "\n")
        self._lines.flush()

    def ask(self, **document: Any) -> float:
        """A question to the benchmark, and the number that it answers."""
        self.tell(**document)
        return float(json.loads(sys.stdin.readline()))

    def made(self, file: object, *packages: str, notes: Sequence[str] = ()) -> None:
        """The file that was made, and the versions of the packages that made it."""
        self.tell(file=str(file), packages={p: version(p) for p in packages}, notes=list(notes))


def job() -> dict[str, Any]:
    """The document that the one argument names."""
    document: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return document
