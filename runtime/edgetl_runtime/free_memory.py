"""How much memory this process may still take: what the system has, and what its control groups leave it.

A process is charged in its own group and in every one above it, so the least that any of them has left counts. Which
groups those are stands in /proc/self/cgroup (cgroups(7)): a line 0::PATH for version 2, one with the controller memory
for version 1, each below the place where its hierarchy is mounted. Names of files and values:
https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMINFO = Path("/proc/meminfo")
_OWN, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 has no word for no limit: it states the greatest whole number of pages."""


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a version says what; cached: rows of memory.stat, of a group with those below it."""

    limit: str
    used: str
    cached: tuple[str, ...]


_V2 = _Files("memory.max", "memory.current", ("active_file", "inactive_file"))
_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))


def free_bytes() -> int | None:
    """What this process may still take without swapping, by the system and by its control groups; None if not said."""
    found = [value for value in (_available(), left_in_groups()) if value is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError, IndexError):
        return None


def left_in_groups(own: Path = _OWN, mount: Path = _MOUNT) -> int | None:
    """Bytes that every group of this process still lets it take, None where none of them has a limit.

    own: its /proc/self/cgroup; mount: where version 2 is mounted, and version 1's memory below it as `memory`. Files
    that a group is charged with count as free: the kernel gives them back before it refuses memory. A container that
    sees a hierarchy from its own group on finds that group at the mount itself, which is looked at in any case.
    """
    found = [_left(group, files) for group, files in _groups(own, mount)]
    return min((left for left in found if left is not None), default=None)


def _groups(own: Path, mount: Path) -> Iterator[tuple[Path, _Files]]:
    """Each group of the process, from its own upwards, with the files of its version."""
    paths = _paths(own)
    for files, root in ((_V2, mount), (_V1, mount / "memory")):
        for path in paths[files]:
            parts = PurePosixPath(path).parts[1:]
            if ".." in parts:  # its group is outside of what this process may see
                continue
            for depth in range(len(parts), 0, -1):
                yield root.joinpath(*parts[:depth]), files
        yield root, files


def _paths(own: Path) -> dict[_Files, list[str]]:
    """By version, the paths that /proc/self/cgroup names."""
    found: dict[_Files, list[str]] = {_V2: [], _V1: []}
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return found
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[_V2].append(path)
        elif "memory" in controllers.split(","):
            found[_V1].append(path)
    return found


def _left(group: Path, files: _Files) -> int | None:
    """What one group has left, None where it has no limit or is not there."""
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in (files.limit, files.used))
        if limit == "max" or int(limit) >= _UNLIMITED:
            return None
        return max(int(limit) - int(used) + _cached(group, files), 0)
    except (OSError, ValueError):
        return None


def _cached(group: Path, files: _Files) -> int:
    try:
        rows = (line.partition(" ") for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return sum(int(value) for name, _, value in rows if name in files.cached)
    except OSError:
        return 0
