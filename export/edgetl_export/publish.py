"""Put a finished directory in its place: whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgetl_runtime.errors import InputError


def refuse_existing(out: Path, *, force: bool) -> None:
    """Raise InputError when `out` exists and may not be replaced."""
    if out.exists() and not force:
        raise InputError(f"{out} exists and would be replaced", remedy="give another --out, or --force to replace it")


@contextmanager
def publish_directory(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of `out` to write into; renamed to `out` when the block ends well.

    With `force` an existing `out` stays whole until then. On any error the temporary is removed and `out`
    is as it was; an OSError becomes an InputError that names the path.
    """
    refuse_existing(out, force=force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out.parent}: can't be written ({error.strerror})", remedy="give another --out") from error
    old = temporary.with_name(temporary.name + ".old")
    try:
        temporary.chmod(0o755)
        yield temporary
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: can't be written ({error.strerror or error})",
            remedy="free some space or give another --out",
        ) from error
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(temporary, ignore_errors=True)
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
