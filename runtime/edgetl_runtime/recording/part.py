"""The file that a recording grows in: another name until it is finished, and no half-written end when it can't be."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from edgetl_runtime.errors import InputError
from edgetl_runtime.files import refuse_file
from edgetl_runtime.recording.format import PART_SUFFIX, SUFFIX


class Output(Protocol):
    """Where the bytes of a recording go. write, flush, tell: as a binary stream has them, but nothing is buffered."""

    @property
    def part(self) -> Path:
        """Where they are while the recording grows."""

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError."""

    def tell(self) -> int:
        """How many bytes were written."""

    def flush(self) -> None:
        """Nothing to do: nothing is buffered here."""

    def sync(self) -> None:
        """Let what was written survive a power cut. Raises OSError."""

    def mark(self) -> None:
        """What was written until now ends with a whole chunk: `abandon` keeps it."""

    def finish(self) -> None:
        """Close the file and give it its name. Raises OSError."""

    def abandon(self, *, empty: bool = False) -> None:
        """Close the file as it was at the last `mark`, under its temporary name; remove it where it is `empty`."""


def check_paths(path: Path, *, force: bool) -> Path:
    """The temporary name for the recording `path`. Raises InputError for a wrong name or where one of both exists."""
    if path.suffix.lower() != SUFFIX or path.name.lower().endswith(PART_SUFFIX):
        raise InputError(f"a recording must end in {SUFFIX}, and not in {PART_SUFFIX}, found {path.name}")
    refuse_file(path, force=force)
    part = path.with_name(path.stem + PART_SUFFIX)
    if part.exists() and not force:
        raise InputError(
            f"{part} exists, from a run that was cut off or still goes on",
            remedy="replay or rename it, or give --force, which keeps it as NAME.killed.mcap",
        )
    return part


class PartFile:
    """`drive.part.mcap` while it grows, `drive.mcap` when it is finished.

    The temporary name is one that a person finds: after a crash it is what there is to read. force: a finished
    recording of that name is replaced, and what a run that was killed left is kept as `drive.killed.mcap`, the latest
    one, so that a service that starts again doesn't destroy what shows why. The file of a run that still writes to it
    is locked (flock) and never touched.
    Raises InputError as `check_paths` does, for such a run, and where the file can't be written.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.part = check_paths(path, force=force)
        self._path = path
        self._size = self._whole = 0
        try:
            if force:
                _set_aside(self.part, path.with_name(f"{path.stem}.killed{SUFFIX}"))
            self._stream = self.part.open("xb", buffering=0)
            _lock(self._stream.fileno())
        except OSError as error:
            raise InputError(f"can't write {self.part}: {error.strerror}", remedy="record to another place") from error

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError, with some of it written."""
        left = memoryview(data)
        while left:
            done = self._stream.write(left)
            self._size += done
            left = left[done:]
        return len(data)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._size

    def flush(self) -> None:
        """Nothing to do: nothing is buffered here."""

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        getattr(os, "fdatasync", os.fsync)(self._stream.fileno())

    def mark(self) -> None:
        """What was written until now is kept by `abandon`."""
        self._whole = self._size

    def finish(self) -> None:
        """Close the file and give it its name."""
        self.sync()
        self._stream.close()
        self.part.replace(self._path)

    def abandon(self, *, empty: bool = False) -> None:
        """Cut off what came after the last `mark`, which may be half a chunk, and close."""
        if self._stream.closed:
            return
        with suppress(OSError):
            self._stream.truncate(self._whole)
        with suppress(OSError):
            self._stream.close()
        if empty:
            self.part.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Hold the file as long as it is open; whether nobody else does. A file system without locks tells nothing."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _set_aside(part: Path, kept: Path) -> None:
    """Give what another run has left its other name. Raises InputError where that run still writes to it."""
    with suppress(FileNotFoundError):
        with part.open("rb") as stream:
            alive = not _lock(stream.fileno())
        if alive:
            raise InputError(f"another run is recording to {part}", remedy="end that one, or record to another name")
        part.replace(kept)
