"""Where files go, and writing so that nothing is replaced by accident and nothing stands there half-written."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache_directory() -> Path:
    """Where computed things are kept: $EDGETL_CACHE, or `edgetl` in the user's cache directory."""
    own = os.environ.get("EDGETL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def refuse_existing(out: Path, *, force: bool) -> None:
    """Raise InputError where `out` exists, as anything at all, and may not be replaced."""
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} exists and would be replaced", remedy="give another name, or --force to replace it")


def refuse_file(out: Path, *, force: bool) -> None:
    """Raise InputError where a file can't be written as `out`: it exists, is no plain file, or has no folder."""
    if out.exists() and not out.is_file():
        raise InputError(f"{out} is no plain file, a file can't replace it", remedy="give another name")
    refuse_existing(out, force=force)
    if not out.parent.is_dir():
        raise InputError(f"the folder {out.parent} does not exist", remedy="create it first")


def sibling(out: Path) -> Path:
    """A hidden name beside `out` with its ending, for this process to write to before it renames."""
    return out.with_name(f".{out.stem}.{os.getpid()}.tmp{out.suffix}")


@contextmanager
def staged_file(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of `out` to write to; on disk and renamed to `out` when the block ends well.

    On any error it is removed and `out` is as it was. Raises InputError as `refuse_file` does, and for an OSError.
    """
    refuse_file(out, force=force)
    temporary = sibling(out)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())  # else a power cut may keep the new name and lose the content
        temporary.replace(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{out}: can't be written ({reason})", remedy="check free space and permissions") from error
    finally:
        temporary.unlink(missing_ok=True)
