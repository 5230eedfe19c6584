"""Workers whose whole program is a few lines, for tests of those who run them."""

from __future__ import annotations

import sys
from pathlib import Path


def fake(tmp_path: Path, body: str) -> list[str]:
    """The command of a worker whose whole program is `body`."""
    script = tmp_path / "worker.py"
    script.write_text(f"import os, signal, sys, time\n{body}\n")
    return [sys.executable, str(script)]


def say(*lines: str) -> str:
    """Python that prints these lines and flushes."""
    return "\n".join(f"print({line!r}, flush=True)" for line in lines)
