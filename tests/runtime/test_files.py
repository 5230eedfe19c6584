"""Files: nothing is replaced unasked, nothing is left half-written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgetl_runtime.errors import GateFailed, InputError
from edgetl_runtime.files import private_directory, refuse_existing, refuse_file, remove_stale, sibling, staged_file


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_whatever_exists_is_refused_without_force(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"exists and would be replaced; .*--force"):
        refuse_existing(out, force=False)
    refuse_existing(out, force=True)
    refuse_existing(tmp_path / "new", force=False)


def test_a_name_that_the_system_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        refuse_file(tmp_path / ("x" * 300) / "out", force=True)
    monkeypatch.setattr(Path, "exists", closed_to_us)
    with pytest.raises(InputError, match=r"can't write .*out: Permission denied"):
        refuse_file(tmp_path / "out", force=True)


def closed_to_us(path: Path) -> bool:
    """What asking for a path in a folder that may not be entered gives."""
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_a_file_never_replaces_a_folder_or_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for there in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="no plain file"):
            refuse_file(there, force=True)
    with pytest.raises(InputError, match="does not exist"):
        refuse_file(tmp_path / "none" / "out", force=True)
    refuse_file(tmp_path / "out", force=False)


def test_a_staged_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    with staged_file(out) as temporary:
        assert temporary == sibling(out) and temporary.parent == tmp_path and temporary.suffix == ".html"
        temporary.write_text("all of it")
        assert not out.exists()
    assert out.read_text() == "all of it"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [GateFailed("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("there", [True, False])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException, there: bool) -> None:
    out = tmp_path / "out.json"
    if there:
        out.write_text("old")
    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), staged_file(out, force=True) as temporary:
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if there else [])


def test_refused_before_the_block_runs(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(InputError, match="--force"), staged_file(tmp_path / "out"):
        pytest.fail("the block ran")
    assert (tmp_path / "out").read_text() == "precious"


DEAD = 2**22 + 1
"""No process of Linux has this number."""


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    stale = tmp_path / f".out.{DEAD}.tmp.json"
    others = [
        *(f".other.{DEAD}.tmp.json", f".out.{DEAD}.tmp.mp4", f".out.{DEAD}.tmp", f"out.{DEAD}.tmp.json"),
        *(".out.x1.tmp.json", f".out.{os.getpid()}.tmp.json", ".out.1.tmp.json"),
    ]
    for name in (stale.name, *others):
        (tmp_path / name).write_text("half")
    remove_stale(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)
    remove_stale(tmp_path / "none" / "out.json")


KILLED = """
import os, pathlib, signal, sys
from edgetl_runtime.files import staged_file
with staged_file(pathlib.Path(sys.argv[1]), force=True) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_half_way_the_old_file_stays_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("old")
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    with staged_file(out, force=True) as temporary:
        temporary.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("out.json", "new")]


def test_a_private_directory_is_nobody_elses(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "a" / "b")
    assert made == tmp_path / "a" / "b" and made.stat().st_mode & 0o777 == 0o700
    assert private_directory(made) == made
    for mode in (0o720, 0o702, 0o777):
        made.chmod(mode)
        assert private_directory(made) is None, oct(mode)
    (tmp_path / "file").write_text("")
    assert private_directory(tmp_path / "file" / "x") is None
