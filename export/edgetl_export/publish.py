"""Put a finished directory in its place: whole or not at all, whatever ends the process meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgetl_runtime.errors import InputError
from edgetl_runtime.files import refuse_existing

__all__ = ["publish_directory", "refuse_existing", "scratch_directory"]

UNFINISHED, REPLACED = "unfinished", "replaced"
UNNAMED = "unnamed"
"""A directory gets the name of those that are cleaned up only when it is held: else another process, which looks for
what was left at that very moment, would remove it."""


def to_stderr(text: str) -> None:
    """One line for a person."""
    sys.stderr.write(f"note: {text}\n")


@contextmanager
def publish_directory(out: Path, *, force: bool = False, say: Callable[[str], None] = to_stderr) -> Iterator[Path]:
    """A temporary sibling of `out` to write into; renamed to `out` when the block ends well.

    With `force` an existing `out` stays whole until then. On any error the temporary is removed and `out`
    is as it was; an OSError becomes an InputError that names the path. What a killed process left of an earlier try,
    `.NAME.unfinished-*`, is removed first, and an `out` that it had moved aside put back; `say` is told.
    """
    _clean_up(out, say)
    refuse_existing(out, force=force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unnamed = Path(tempfile.mkdtemp(prefix=f".{out.name}.{UNNAMED}-", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out.parent}: can't be written ({error.strerror})", remedy="give another --out") from error
    temporary, old = _twin(unnamed, out, UNFINISHED), _twin(unnamed, out, REPLACED)
    with _held(unnamed):
        try:
            unnamed.rename(temporary)
            temporary.chmod(0o755)
            yield temporary
            if os.path.lexists(out):
                out.rename(old)
            temporary.rename(out)
        except OSError as error:
            raise InputError(
                f"{out}: can't be written ({_reason(error, out)})", remedy="free some space or give another --out"
            ) from error
        finally:
            if os.path.lexists(old) and not os.path.lexists(out):
                old.rename(out)
            _remove(unnamed)
            _remove(temporary)
            _remove(old)


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A directory `PREFIX.scratch-*` for work in between, in the system's place for such, removed at the end.

    Those that killed processes of the same user left there are removed first.
    """
    begin = f"{prefix}.scratch-"
    for item in Path(tempfile.gettempdir()).glob(f"{begin}????????"):
        with suppress(OSError):  # another process was faster
            if item.lstat().st_uid == os.getuid() and not _in_use(item):
                _remove(item)
    unnamed = Path(tempfile.mkdtemp(prefix=f"{prefix}.{UNNAMED}-"))
    scratch = unnamed.with_name(f"{begin}{unnamed.name[-8:]}")
    with _held(unnamed):
        try:
            unnamed.rename(scratch)
            yield scratch
        finally:
            _remove(unnamed)
            _remove(scratch)


def _clean_up(out: Path, say: Callable[[str], None]) -> None:
    """Remove what killed processes left beside `out`; put back an `out` that one of them had moved aside."""
    pattern = re.compile(rf"\.{re.escape(out.name)}\.({UNFINISHED}|{REPLACED})-[a-z0-9_]{{8}}")
    items = sorted(out.parent.iterdir()) if out.parent.is_dir() else []
    left = [(match[1], item) for item in items if (match := pattern.fullmatch(item.name))]
    for kind, item in left:  # those replaced come first, while the unfinished ones tell how far their process came
        unfinished = _twin(item, out, UNFINISHED)
        if _in_use(unfinished) or (kind == REPLACED and _in_use(out)):
            continue
        if kind == UNFINISHED or os.path.lexists(out):
            _remove(item)
            say(f"removed {item}, left by a process that was killed")
        elif os.path.lexists(unfinished):
            item.rename(out)
            say(f"put {out} back, which a process that was killed had moved aside")
        else:
            say(f"{item} is an older {out.name} that a process which was killed left; look at it and remove it")


def _twin(item: Path, out: Path, kind: str) -> Path:
    """The name of the other kind with the same random end."""
    return item.with_name(f".{out.name}.{kind}-{item.name[-8:]}")


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on a directory, which the system lets go when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a disk without locks: then nobody can tell, and nobody removes
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _in_use(folder: Path) -> bool:
    """Whether a process holds this directory, or nobody can tell. False where there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return folder.is_dir() and not folder.is_symlink()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove(item: Path) -> None:
    if item.is_dir() and not item.is_symlink():
        shutil.rmtree(item, ignore_errors=True)
    else:
        item.unlink(missing_ok=True)


def _reason(error: OSError, out: Path) -> str:
    """What the system says; where a disk is full, how much is left where files and scratch files go."""
    text = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        scratch = Path(tempfile.gettempdir())
        free = [f"{shutil.disk_usage(p).free / 1e6:.0f} MB free in {p}" for p in (out.parent, scratch) if p.is_dir()]
        text += f": {', '.join(free)}"
    return text
