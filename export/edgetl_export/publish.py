"""Put a finished directory in its place: whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgetl_runtime.errors import InputError
from edgetl_runtime.files import refuse_existing

__all__ = ["publish_directory", "refuse_existing"]


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
        if os.path.lexists(out):
            out.rename(old)
        temporary.rename(out)
    except OSError as error:
        raise InputError(
            f"{out}: can't be written ({error.strerror or error})",
            remedy="free some space or give another --out",
        ) from error
    finally:
        if os.path.lexists(old) and not os.path.lexists(out):
            old.rename(out)
        shutil.rmtree(temporary, ignore_errors=True)
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
