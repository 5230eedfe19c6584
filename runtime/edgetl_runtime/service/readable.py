"""Whether another user could read a path, by the permissions of it and of every folder above it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Who:
    """A user: name for messages, number and groups; number -1 for one that is nobody's owner."""

    name: str
    uid: int
    gids: frozenset[int]


def who(user: str | None) -> Who:
    """The named user of this machine, or where None the one that systemd will make up. Raises InputError."""
    if user is None:
        return Who("a user that systemd makes up", -1, frozenset())
    import pwd

    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise InputError(
            f"there is no user {user!r} here", remedy=f"make it with `useradd --system {user}`, or leave --user out"
        ) from None
    return Who(user, found.pw_uid, frozenset(os.getgrouplist(user, found.pw_gid)))


def unreadable(path: Path, user: Who) -> str:
    """Why this user can't read the file or the folder with all in it, in one line; empty where it can, as far as owner,
    group and mode say: access lists are not looked at."""
    if user.uid == 0:
        return ""
    real = path.resolve()
    for folder in reversed(real.parents):
        if not _may(folder, user, stat.S_IXOTH):
            return f"{user.name} can't enter {folder}"
    for item in _all(real):
        needed = stat.S_IROTH | (stat.S_IXOTH if item.is_dir() else 0)
        if not _may(item, user, needed):
            return f"{user.name} can't read {item}"
    return ""


def may_write(path: Path, user: Who) -> bool:
    """Whether this user may write the file, or make files in the folder, by its owner, group and mode."""
    return user.uid == 0 or _may(path, user, stat.S_IWOTH | (stat.S_IXOTH if path.is_dir() else 0))


def _all(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from sorted(path.rglob("*"))


def _may(path: Path, user: Who, others: int) -> bool:
    """others: the bits as they stand for others; they are moved to where owner and group have them."""
    try:
        found = path.stat()
    except OSError:
        return False
    shift = 6 if found.st_uid == user.uid else 3 if found.st_gid in user.gids else 0
    needed = others << shift
    return found.st_mode & needed == needed
