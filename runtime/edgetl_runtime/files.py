"""Where files go, and writing so that nothing is replaced by accident and nothing stands there half-written."""

from __future__ import annotations

import os
import re
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray


def cache_directory() -> Path:
    """Where computed things are kept: $EDGETL_CACHE, or `edgetl` in the user's cache directory."""
    own = os.environ.get("EDGETL_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def keep_in_cache(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary sibling and rename it to `path`; its folder is made.

    A disk that takes no more costs the cache, not the result: nothing is raised for an OSError.
    """
    temporary = sibling(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def arrays_in_cache(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """The arrays of an .npz file, None where there is none or it can't be read."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError):
        return None  # RuntimeError: zipfile takes a flipped bit for encryption, or for a method that it doesn't know


def keep_arrays_in_cache(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays for `arrays_in_cache`; like `keep_in_cache`."""
    import numpy as np

    keep_in_cache(path, lambda temporary: np.savez(temporary, **arrays))  # type: ignore[arg-type]


def private_directory(path: Path) -> Path | None:
    """The folder, made where it isn't there; None where others than this user could put files into it, or it can't be.

    For what is loaded without being checked: whoever may write there decides what runs.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.stat()
    except OSError:
        return None
    own = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    return path if own and not found.st_mode & 0o022 and os.access(path, os.W_OK) else None


def refuse_existing(out: Path, *, force: bool) -> None:
    """Raise InputError where `out` exists, as anything at all, and may not be replaced."""
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} exists and would be replaced", remedy="give another name, or --force to replace it")


def refuse_file(out: Path, *, force: bool) -> None:
    """Raise InputError where a file can't be written as `out`: it exists, is no plain file, has no folder, or none
    that may be entered.
    """
    try:
        if out.exists() and not out.is_file():
            raise InputError(f"{out} is no plain file, a file can't replace it", remedy="give another name")
        refuse_existing(out, force=force)
        if not out.parent.is_dir():
            raise InputError(f"the folder {out.parent} does not exist", remedy="create it first")
    except OSError as error:
        raise InputError(f"can't write {out}: {error.strerror}", remedy="give another name") from error


def sibling(out: Path) -> Path:
    """A hidden name beside `out` with its ending, for this process to write to before it renames."""
    return out.with_name(f".{out.stem}.{os.getpid()}.tmp{out.suffix}")


def remove_stale(out: Path) -> None:
    """Remove what processes that are no more, killed half-way, left beside `out` under the name of `sibling`."""
    pattern = re.compile(rf"\.{re.escape(out.stem)}\.([1-9]\d*)\.tmp{re.escape(out.suffix)}")
    for item in out.parent.iterdir() if out.parent.is_dir() else ():
        match = pattern.fullmatch(item.name)
        if match and item.is_file() and not _running(int(match[1])):
            item.unlink(missing_ok=True)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def staged_file(out: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of `out` to write to; on disk and renamed to `out` when the block ends well.

    On any error it is removed and `out` is as it was; so is what a process killed half-way has left of an earlier
    try. Raises InputError as `refuse_file` does, and for an OSError.
    """
    refuse_file(out, force=force)
    temporary = sibling(out)
    try:
        remove_stale(out)
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())  # else a power cut may keep the new name and lose the content
        temporary.replace(out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{out}: can't be written ({reason})", remedy="check free space and permissions") from error
    finally:
        temporary.unlink(missing_ok=True)
