"""Steps on disk that a power cut falls between, never into: written, synced, then renamed.

A name counts once its folder is synced. What `rename` puts in place is whole or not there, by rename(2); that data
reach the disk before a name does, by fsync(2).
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_FOLDER_MODE, _FILE_MODE = 0o755, 0o644
"""Whoever updates and whoever runs may be two users, whatever their umask."""


_CHUNK_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Nothing but the file itself, and without waiting for whoever would write into a pipe of that name."""


def _nothing(step: str) -> None:
    return


class Disk:
    """at: is told before each step, for tests that cut the power there. Nothing is cleaned up on the way out: what is
    left over is removed at the next start, as after a power cut.
    """

    def __init__(self, at: Callable[[str], None] = _nothing) -> None:
        self._at = at

    def make_folder(self, path: Path, *, private: bool = False) -> None:
        """A new folder; the folder that it is in has to be synced. private: nobody else sees into it."""
        self._at(f"make {path.name}")
        path.mkdir(mode=0o700)
        path.chmod(0o700 if private else _FOLDER_MODE)

    def make_folders(self, path: Path) -> None:
        """A folder and those above it, where they are not there yet; the names of all that were made are synced."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):  # another process was faster
                self.make_folder(folder)
            self.sync_folder(folder.parent)

    def share_folder(self, path: Path) -> None:
        """Others see into it from now on; synced."""
        self._at(f"share {path.name}")
        path.chmod(_FOLDER_MODE)
        self.sync_folder(path)

    def write(self, path: Path, data: bytes) -> None:
        """A new file, in place of what a cut has left there; synced, but not its name."""
        self._at(f"write {path.name}")
        path.unlink(missing_ok=True)  # it may belong to another user
        with path.open("wb") as stream:
            os.fchmod(stream.fileno(), _FILE_MODE)
            stream.write(data)
            stream.flush()
            self._at(f"sync {path.name}")
            self.sync(stream.fileno(), path)

    def copy(self, source: Path, target: Path, *, most: int) -> None:
        """A new file with the first `most` bytes of another; synced, but not its name. Raises OSError for a link."""
        self._at(f"copy {target.name}")
        with os.fdopen(os.open(source, _READ), "rb") as read, target.open("wb") as stream:
            os.fchmod(stream.fileno(), _FILE_MODE)
            left = most
            while left and (data := read.read(min(left, _CHUNK_BYTES))):
                stream.write(data)
                left -= len(data)
            stream.flush()
            self._at(f"sync {target.name}")
            self.sync(stream.fileno(), target)

    def sync_folder(self, path: Path) -> None:
        """The names in the folder are on disk afterwards."""
        self._at(f"sync names in {path.name}")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(descriptor, path)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """One name for another, in place of what had it; the folder has to be synced."""
        self._at(f"rename {source.name} to {target.name}")
        source.replace(target)

    def replace(self, path: Path, data: bytes) -> None:
        """A file's content as a whole, on disk when this returns."""
        fresh = path.with_name(f".{path.name}.new")
        self.write(fresh, data)
        self.rename(fresh, path)
        self.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """A file, or a folder with all in it; fine where there is none."""
        if path.is_dir() and not path.is_symlink():
            for item in sorted(path.iterdir()):
                self.remove(item)
            self._at(f"remove {path.name}")
            path.rmdir()
        else:
            self._at(f"remove {path.name}")
            path.unlink(missing_ok=True)

    def sync(self, descriptor: int, path: Path) -> None:
        """Have the system write what it holds of this file or folder."""
        os.fsync(descriptor)
