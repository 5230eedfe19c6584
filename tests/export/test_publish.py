"""A finished directory takes its place whole, or the old one stays as it was."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from edgetl_export.publish import publish_directory, refuse_existing, scratch_directory
from edgetl_runtime.errors import GateFailed, InputError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "place" / "x.bundle"


@pytest.fixture
def old(out: Path) -> Path:
    """`out` with an old bundle in it."""
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "precious").write_text("old")
    return out


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def beside(out: Path) -> list[str]:
    return [p.name for p in out.parent.iterdir()]


def test_published_whole(out: Path) -> None:
    with publish_directory(out) as new:
        (new / "sub").mkdir()
        (new / "sub" / "a").write_text("1")
        assert not out.exists(), "it is there before it is whole"
        assert new.parent == out.parent, "not on the same disk"
    assert content(out) == {"sub/a": "1"}
    assert beside(out) == ["x.bundle"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_an_existing_one_is_refused_and_untouched(old: Path) -> None:
    with pytest.raises(InputError, match=r"exists and would be replaced.*--force"), publish_directory(old):
        pytest.fail("the block ran")
    assert content(old) == {"sub/precious": "old"}
    assert beside(old) == ["x.bundle"]


def test_force_swaps_only_at_the_end(old: Path) -> None:
    refuse_existing(old, force=True)
    with publish_directory(old, force=True) as new:
        (new / "a").write_text("new")
        assert content(old) == {"sub/precious": "old"}
    assert content(old) == {"a": "new"}
    assert beside(old) == ["x.bundle"]


def test_force_replaces_a_file_in_the_way(out: Path) -> None:
    out.parent.mkdir()
    out.write_text("a file")
    with publish_directory(out, force=True) as new:
        (new / "a").write_text("new")
    assert content(out) == {"a": "new"}
    assert beside(out) == ["x.bundle"]


@pytest.mark.parametrize("error", [GateFailed("no"), KeyboardInterrupt(), ValueError("bug")], ids=repr)
@pytest.mark.parametrize("existing", [True, False], ids=["old", "none"])
def test_an_exception_leaves_everything_as_it_was(out: Path, error: BaseException, existing: bool) -> None:
    if existing:
        out.mkdir(parents=True)
        (out / "precious").write_text("old")
    with pytest.raises(type(error)), publish_directory(out, force=True) as new:
        (new / "half").write_text("half")
        raise error
    assert beside(out) == (["x.bundle"] if existing else [])
    if existing:
        assert content(out) == {"precious": "old"}


def test_a_full_disk(old: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "model.onnx")
    with (
        pytest.raises(InputError, match=r"x\.bundle: can't be written \(No space left.*free some space"),
        publish_directory(old, force=True) as new,
    ):
        (new / "half").write_text("half")
        raise full
    assert content(old) == {"sub/precious": "old"}
    assert beside(old) == ["x.bundle"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_a_swap_that_fails_half_way_is_undone(old: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target == old and ".replaced-" not in self.name:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), publish_directory(old, force=True) as new:
        (new / "a").write_text("new")
    assert content(old) == {"sub/precious": "old"}
    assert beside(old) == ["x.bundle"]


def test_a_parent_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"), publish_directory(tmp_path / "file" / "x.bundle"):
        pytest.fail("the block ran")


def killed(out: Path, when: str) -> int:
    """The exit status of a process that is killed (-9) while it publishes `out`."""
    return subprocess.run([sys.executable, "-c", KILLED, str(out), when], check=False).returncode


KILLED = """
import os, pathlib, shutil, signal, sys
from edgetl_export.publish import publish_directory, scratch_directory

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

out, when = pathlib.Path(sys.argv[1]), sys.argv[2]
rename = pathlib.Path.rename

def rename_and_die(self, target):
    done = rename(self, target)
    if (when == "moved aside" and self == out) or (when == "swapped" and target == out):
        die()
    return done

pathlib.Path.rename = rename_and_die
with scratch_directory("edgetl-test") as work, publish_directory(out, force=True) as new:
    (work / "half").write_text("half")
    (new / "a").write_text("new")
    if when == "writing":
        die()
"""


@pytest.mark.parametrize("existing", [True, False], ids=["old", "none"])
def test_killed_while_writing(out: Path, existing: bool) -> None:
    if existing:
        (out / "sub").mkdir(parents=True)
        (out / "sub" / "precious").write_text("old")
    assert killed(out, "writing") == -signal.SIGKILL
    left = [n for n in beside(out) if n != "x.bundle"]
    assert len(left) == 1 and left[0].startswith(".x.bundle.unfinished-")
    assert out.exists() == existing and (not existing or content(out) == {"sub/precious": "old"})
    said: list[str] = []
    with publish_directory(out, force=True, say=said.append) as new:
        (new / "a").write_text("next")
    assert beside(out) == ["x.bundle"] and content(out) == {"a": "next"}
    assert said == [f"removed {out.parent / left[0]}, left by a process that was killed"]


def test_killed_between_the_two_renames_the_old_one_comes_back(old: Path) -> None:
    assert killed(old, "moved aside") == -signal.SIGKILL
    assert not old.exists()
    said: list[str] = []
    with pytest.raises(InputError, match="exists and would be replaced"), publish_directory(old, say=said.append):
        pytest.fail("the block ran")
    assert content(old) == {"sub/precious": "old"} and beside(old) == ["x.bundle"]
    assert len(said) == 2 and said[0].startswith(f"put {old} back")


def test_killed_after_the_swap_the_new_one_stays(old: Path) -> None:
    assert killed(old, "swapped") == -signal.SIGKILL
    assert content(old) == {"a": "new"} and len(beside(old)) == 2
    with pytest.raises(InputError, match="exists and would be replaced"), publish_directory(old, say=lambda _: None):
        pytest.fail("the block ran")
    assert content(old) == {"a": "new"} and beside(old) == ["x.bundle"]


def test_an_older_one_of_unknown_fate_is_named_and_kept(out: Path) -> None:
    """Nothing tells whether it is whole, and it may be the only one."""
    (out.parent / ".x.bundle.replaced-abcd1234").mkdir(parents=True)
    said: list[str] = []
    with publish_directory(out, say=said.append) as new:
        (new / "a").write_text("new")
    assert len(said) == 1 and ".x.bundle.replaced-abcd1234 is an older x.bundle" in said[0]
    assert sorted(beside(out)) == [".x.bundle.replaced-abcd1234", "x.bundle"]


def test_one_that_is_being_written_is_left_alone(out: Path) -> None:
    said: list[str] = []
    with publish_directory(out, say=said.append) as first:
        (first / "a").write_text("first")
        with publish_directory(out, say=said.append) as second:
            assert first.is_dir() and (first / "a").read_text() == "first"
            (second / "a").write_text("second")
        assert content(out) == {"a": "second"}
    assert content(out) == {"a": "first"} and beside(out) == ["x.bundle"] and said == []


@pytest.mark.parametrize("which", ["bundle", "scratch"])
def test_one_that_was_made_a_moment_ago_is_left_alone(
    which: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another export begins, and looks for what killed ones left, when a directory is there and not yet held."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    said: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def begun() -> AbstractContextManager[Path]:
        return publish_directory(out, force=True, say=said.append) if which == "bundle" else scratch_directory("t")

    def mkdtemp_and_another(*args: Any, **options: Any) -> str:
        made = mkdtemp(*args, **options)
        monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
        with begun() as other:
            (other / "a").write_text("other")
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp_and_another)
    with begun() as one:
        (one / "a").write_text("one")
        with begun() as third:
            (third / "a").write_text("third")
        assert content(one) == {"a": "one"}
    assert said == [] and not list((tmp_path / "tmp").iterdir())
    assert which == "scratch" or (content(out) == {"a": "one"} and beside(out) == ["x.bundle"])


def test_what_only_looks_like_it_is_left_alone(out: Path) -> None:
    names = [".x.bundle.unfinished-short", ".x.bundle.unfinished-ABCD1234", "x.bundle.unfinished-abcd1234"]
    names += [".y.bundle.unfinished-abcd1234", ".x.bundle.unfinished-abcd1234.tar"]
    for name in names:
        (out.parent / name).mkdir(parents=True)
    with publish_directory(out) as new:
        (new / "a").write_text("1")
    assert sorted(beside(out)) == sorted([*names, "x.bundle"])


def test_scratch_of_a_killed_process_is_removed_by_the_next(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    for name in ("edgetl-test.scratch-keep", "edgetl-test-results1", "other.scratch-abcd1234"):
        (temporary / name).mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert killed(out, "writing") == -signal.SIGKILL
    assert len(list(temporary.iterdir())) == 4
    with scratch_directory("edgetl-test") as first, scratch_directory("edgetl-test") as second:
        assert first.is_dir() and second.is_dir() and first != second, "one in use was taken for a dead one"
        assert len(list(temporary.iterdir())) == 5
    assert len(list(temporary.iterdir())) == 3


def test_a_full_disk_tells_how_much_is_left(out: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    says = rf"No space left on device: \d+ MB free in {out.parent}, \d+ MB free in {tempfile.gettempdir()}\)"
    with pytest.raises(InputError, match=says), publish_directory(out):
        raise full
