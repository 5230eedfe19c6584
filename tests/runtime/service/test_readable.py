"""Whether another user could read a path."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from edgetl_runtime.errors import InputError
from edgetl_runtime.service.readable import Who, may_write, unreadable, who

OTHER = Who("other", 54321, frozenset({54321}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle-like folder that all can read, as far as it is the test's own."""
    folder = tmp_path / "top" / "bundle"
    folder.mkdir(parents=True)
    (folder / "model").write_text("x")
    for path in (tmp_path / "top", folder):
        path.chmod(0o755)
    (folder / "model").chmod(0o644)
    return folder


def reason(folder: Path, user: Who = OTHER) -> str:
    """Without what is above the test's own folder."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    return unreadable(folder, user)


def test_all_may_read(folder: Path) -> None:
    assert reason(folder) == ""


def test_a_closed_file_and_a_closed_folder_are_named(folder: Path) -> None:
    (folder / "model").chmod(0o600)
    assert reason(folder).endswith(f"can't read {folder / 'model'}")
    owner = Who("me", os.getuid() or 54322, frozenset())
    if os.getuid():
        assert reason(folder, owner) == ""
    (folder / "model").chmod(0o644)
    reason(folder)
    folder.parent.chmod(0o700)
    assert unreadable(folder, OTHER).endswith(f"can't enter {folder.parent}")


def test_a_closed_folder_further_up_is_named(folder: Path) -> None:
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    reason(folder)
    folder.chmod(0o744)
    assert unreadable(deep, OTHER).endswith(f"can't enter {folder}")


def test_a_folder_that_can_be_listed_and_not_entered_is_named(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    inner.chmod(0o744)
    assert reason(folder).endswith(f"can't read {inner}")
    inner.chmod(0o755)
    assert reason(folder) == ""


def test_the_owners_bits_count_for_the_owner(folder: Path) -> None:
    if os.getuid() == 0:
        os.chown(folder / "model", 54322, -1)
    owner = Who("me", os.getuid() or 54322, frozenset())
    (folder / "model").chmod(0o400)
    assert reason(folder, owner) == ""
    (folder / "model").chmod(0o077)
    assert reason(folder, owner) != "" and reason(folder) == ""


def test_a_group_may_read(folder: Path) -> None:
    (folder / "model").chmod(0o640)
    member = Who("member", 54321, frozenset({(folder / "model").stat().st_gid}))
    assert reason(folder, member) == "" and reason(folder) != ""
    (folder / "model").chmod(0o604)
    assert reason(folder, member) != "", "the group's bits count for its members, not the others'"


def test_root_may_everything_and_who_names_users(folder: Path) -> None:
    (folder / "model").chmod(0o000)
    assert unreadable(folder, who("root")) == "" and may_write(folder, who("root"))
    assert not may_write(folder, who(None))
    folder.chmod(0o776)
    assert not may_write(folder, who(None)), "nothing can be made in a folder that can't be entered"
    folder.chmod(0o777)
    assert may_write(folder, who(None))
    assert pwd.getpwnam("root").pw_gid in who("root").gids
    with pytest.raises(InputError, match="no user 'nobody-at-all'"):
        who("nobody-at-all")
