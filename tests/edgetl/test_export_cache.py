"""Kept bundles: given again when nothing changed, never when something did."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from runtime_support import write_test_bundle

from edgetl.export_cache import KEPT, export_key, keep, recall, state_of
from edgetl_runtime.errors import InputError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle and its data; the cache stands beside them."""
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    write_test_bundle(tmp_path / "made.bundle")
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "a.jpg").write_bytes(b"picture")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_bundle_again(place: Path) -> None:
    keep("key", place / "made.bundle", [place / "data"])
    manifest = recall("key", place / "again.bundle", force=False)
    assert manifest is not None and files(place / "again.bundle") == files(place / "made.bundle")


def test_nothing_kept(place: Path) -> None:
    assert recall("key", place / "again.bundle", force=False) is None
    assert not (place / "again.bundle").exists()


def add(data: Path) -> None:
    (data / "images" / "b.jpg").write_bytes(b"another")


def remove(data: Path) -> None:
    (data / "images" / "a.jpg").unlink()


def touch(data: Path) -> None:
    os.utime(data / "images" / "a.jpg", ns=(1, 1))


@pytest.mark.parametrize("change", [add, remove, touch])
def test_changed_data(place: Path, change: object) -> None:
    keep("key", place / "made.bundle", [place / "data"])
    change(place / "data")  # type: ignore[operator]
    assert recall("key", place / "again.bundle", force=False) is None


def test_a_kept_bundle_that_was_altered_is_thrown_away(place: Path) -> None:
    keep("key", place / "made.bundle", [])
    model = next((place / "cache" / "exports" / "key" / "bundle").glob("*.onnx"))
    model.write_bytes(model.read_bytes() + b"x")
    assert recall("key", place / "again.bundle", force=False) is None
    assert not (place / "cache" / "exports" / "key").exists()


def test_an_existing_bundle_stays_without_force(place: Path) -> None:
    keep("key", place / "made.bundle", [])
    (place / "again.bundle").mkdir()
    (place / "again.bundle" / "mine").write_bytes(b"1")
    with pytest.raises(InputError, match="--force"):
        recall("key", place / "again.bundle", force=False)
    assert recall("key", place / "again.bundle", force=True) is not None
    assert not (place / "again.bundle" / "mine").exists()


def test_the_longest_unused_go_first(place: Path) -> None:
    for i in range(KEPT + 2):
        keep(f"key{i}", place / "made.bundle", [])
        os.utime(place / "cache" / "exports" / f"key{i}", (i + 1, i + 1))
    keep("last", place / "made.bundle", [])
    kept = sorted(p.name for p in (place / "cache" / "exports").iterdir())
    assert len(kept) == KEPT and "last" in kept and "key0" not in kept


def test_a_disk_that_takes_nothing_costs_only_the_cache(place: Path) -> None:
    (place / "cache").write_bytes(b"a file is in the way")
    keep("key", place / "made.bundle", [])
    assert recall("key", place / "again.bundle", force=False) is None


@pytest.mark.parametrize("gone", ["all of it", "a file that was not copied yet"])
def test_a_kept_bundle_that_another_process_removes_while_it_is_copied(
    place: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    keep("key", place / "made.bundle", [])
    kept = place / "cache" / "exports" / "key" / "bundle"
    copytree = shutil.copytree

    def removed_meanwhile(source: Path, target: Path, **options: Any) -> object:
        if gone == "all of it":
            shutil.rmtree(source)
        else:
            next(source.glob("*.onnx")).unlink()
        return copytree(source, target, **options)

    monkeypatch.setattr(shutil, "copytree", removed_meanwhile)
    (place / "again.bundle").mkdir()
    (place / "again.bundle" / "mine").write_bytes(b"1")
    assert recall("key", place / "again.bundle", force=True) is None
    assert files(place / "again.bundle") == {"mine": b"1"} and kept.exists() == (gone != "all of it")
    assert not list(place.glob(".again*"))


@pytest.mark.parametrize("change", ["settings", "source", "machine"])
def test_what_a_key_depends_on(place: Path, change: str) -> None:
    source = place / "best.pt"
    source.write_bytes(b"weights")
    first = export_key([source], {"max_drop": 0.5}, "cpu")
    assert first == export_key([source], {"max_drop": 0.5}, "cpu")
    if change == "source":
        source.write_bytes(b"other weights")
    settings = {"max_drop": 0.6 if change == "settings" else 0.5}
    assert export_key([source], settings, "other" if change == "machine" else "cpu") != first


def test_an_empty_and_a_missing_folder_have_a_state(place: Path) -> None:
    (place / "empty").mkdir()
    assert state_of(place / "empty") == state_of(place / "missing") != state_of(place / "data")


def test_what_lies_behind_a_link_belongs_to_a_folder(place: Path) -> None:
    (place / "linked").mkdir()
    (place / "linked" / "images").symlink_to(place / "data" / "images")
    (place / "data" / "images" / "up").symlink_to(place / "data")
    before = state_of(place / "linked")
    (place / "data" / "images" / "b.jpg").write_bytes(b"another picture")
    assert state_of(place / "linked") != before


def test_a_link_to_other_data(place: Path) -> None:
    (place / "other").mkdir()
    (place / "current").symlink_to(place / "data")
    keep("key", place / "made.bundle", [place / "current"])
    (place / "current").unlink()
    (place / "current").symlink_to(place / "other")
    assert recall("key", place / "again.bundle", force=False) is None
