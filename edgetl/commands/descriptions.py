"""Files that describe what a run sends, --can-dbc and --foxglove-layout: replaced once nothing can refuse the run."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from edgetl_runtime.errors import InputError


def describe(args: argparse.Namespace, path: Path, content: bytes, stack: ExitStack) -> None:
    """Lay it beside `path` for `put_descriptions`; `stack` takes it away again. Raises InputError where it can't be."""
    from edgetl_runtime.files import sibling

    temporary = sibling(path)
    stack.callback(temporary.unlink, missing_ok=True)
    try:
        temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}") from error
    vars(args).setdefault("descriptions", {})[path] = temporary


def put_descriptions(args: argparse.Namespace) -> None:
    """Put what was laid beside them into the places of the files. Raises InputError where one can't be replaced."""
    for path, temporary in vars(args).get("descriptions", {}).items():
        try:
            temporary.replace(path)
        except OSError as error:
            raise InputError(f"can't write {path}: {error.strerror}") from error
