"""A finished directory takes its place whole, or the old one stays as it was."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgetl_export.publish import publish_directory, refuse_existing
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
