"""What the system has free, and the least that any of a process's control groups has left, of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl_runtime import free_memory
from edgetl_runtime.free_memory import free_bytes, left_in_groups

V1_UNLIMITED = "9223372036854771712"


class Tree:
    """A /proc/self/cgroup and a /sys/fs/cgroup of one's own."""

    def __init__(self, folder: Path, own: str | None) -> None:
        self._own, self._mount = folder / "own", folder / "mount"
        self._mount.mkdir()
        if own is not None:
            self._own.write_text(own)

    def v2(self, path: str, limit: int | str, used: int, *, stat: str = "") -> None:
        self._write(self._mount / path, {"memory.max": limit, "memory.current": used, "memory.stat": stat})

    def v1(self, path: str, limit: int | str, used: int, *, stat: str = "") -> None:
        files = {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}
        self._write(self._mount / "memory" / path, files)

    def left(self) -> int | None:
        return left_in_groups(self._own, self._mount)

    @staticmethod
    def _write(group: Path, files: dict[str, int | str]) -> None:
        group.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (group / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"a": "max", "a/b": "max", "a/b/c": "max"}, None),
        ({"a": 5000, "a/b": "max", "a/b/c": "max"}, 4000),
        ({"a": "max", "a/b": 3000, "a/b/c": "max"}, 2000),
        ({"a": 5000, "a/b": 3000, "a/b/c": 9000}, 2000),
        ({"a": 5000, "a/b": 6000, "a/b/c": 1500}, 500),
        ({"a": 5000, "a/b": 6000, "a/b/c": 900}, 0),
        ({"a": 5000, "other": 1100}, 4000),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_the_least_of_the_way_up_counts(
    tmp_path: Path, version: int, limits: dict[str, int | str], left: int | None
) -> None:
    """Each has taken 1000; a group beside the way is nobody's business."""
    tree = Tree(tmp_path, "0::/a/b/c\n" if version == 2 else "5:cpu:/x\n4:hugetlb,memory:/a/b/c\n0::/\n")
    for path, limit in limits.items():
        if version == 2:
            tree.v2(path, limit, 1000)
        else:
            tree.v1(path, V1_UNLIMITED if limit == "max" else limit, 1000)
    assert tree.left() == left


def test_files_that_a_group_is_charged_with_are_given_back(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/a\n0::/b\n")
    tree.v2("b", 3000, 1000, stat="anon 100\nfile 800\nshmem 100\ninactive_file 500\nactive_file 200")
    assert tree.left() == 2700
    below = "total_inactive_file 30\ntotal_active_file 20"
    tree.v1("a", 3000, 2000, stat=f"inactive_file 500\nactive_file 200\n{below}")
    assert tree.left() == 1050, "with those below it"


@pytest.mark.parametrize(
    "own",
    [
        None,
        "",
        "0::/\n",
        "0::/../../elsewhere\n",
        "0::/of/the/host/and/not/mounted\n",
        "4:memory:/docker/12ab\n",
        "?\n::\n",
    ],
)
def test_a_container_finds_its_group_at_the_mount(tmp_path: Path, own: str | None) -> None:
    tree = Tree(tmp_path, own)
    assert tree.left() is None
    tree.v2("", 5000, 1000)
    assert tree.left() == 4000
    tree.v1("", 3000, 1000)
    assert tree.left() == 2000
    tree.v2("elsewhere", 1, 1)
    tree.v1("", "garbled", 1000)
    assert tree.left() == 4000


def test_nothing_above_the_mount_is_looked_at(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/a\n")
    Tree._write(tmp_path, {"memory.max": 10, "memory.current": 1})
    tree.v2("a", 3000, 1000)
    assert tree.left() == 2000


def test_this_machine_can_be_asked() -> None:
    left = left_in_groups()
    assert left is None or left >= 0


def test_the_system_and_the_control_groups_bound_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int | None] = [None]
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(free_memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(free_memory, "left_in_groups", lambda: left[0])
    assert free_bytes() is None
    for useless in ("MemTotal: 9000 kB\n", "MemAvailable:\n", "MemAvailable: much\n"):
        meminfo.write_text(useless)
        assert free_bytes() is None
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert free_bytes() == 4_096_000
    left[0] = 2000
    assert free_bytes() == 2000
    left[0] = 5_000_000
    assert free_bytes() == 4_096_000
