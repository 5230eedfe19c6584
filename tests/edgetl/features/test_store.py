"""Arrays kept on disk: computed once, and never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetl.features.store import cache_directory, cached

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.int64)}


class Counted:
    """A computation that counts how often it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {k: v + self.calls - 1 for k, v in ARRAYS.items()}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def same(found: dict[str, np.ndarray], offset: int = 0) -> bool:
    return set(found) == set(ARRAYS) and all(
        found[k].dtype == v.dtype and np.array_equal(found[k], v + offset) for k, v in ARRAYS.items()
    )


def test_the_second_time_is_read_back(cache: Path) -> None:
    compute = Counted()
    assert same(cached({"x": 1}, compute)) and same(cached({"x": 1}, compute))
    assert compute.calls == 1 and len(files(cache)) == 1


def test_another_key_is_something_else(cache: Path) -> None:
    compute = Counted()
    cached({"x": 1, "y": 2}, compute)
    assert same(cached({"x": 2, "y": 2}, compute), 1)
    cached({"y": 2, "x": 1}, compute)
    assert compute.calls == 2, "the order of a key's parts means nothing"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(bytes(data))


def encrypt(path: Path) -> None:
    """Flip the bit by which the first entry is encrypted."""
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] ^= 1
    path.write_bytes(bytes(data))


def compress_otherwise(path: Path) -> None:
    """Give the first entry a method of compression that nobody knows."""
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] ^= 128
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        alter,
        encrypt,
        compress_otherwise,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"garbage" * 30),
    ],
    ids=["truncated", "altered", "encrypted", "of another method", "empty", "garbage"],
)
def test_a_corrupt_file_is_computed_anew(cache: Path, damage: Callable[[Path], None]) -> None:
    compute = Counted()
    cached({"x": 1}, compute)
    (file,) = files(cache)
    damage(file)
    assert same(cached({"x": 1}, compute), 1) and compute.calls == 2
    assert same(cached({"x": 1}, compute), 1) and compute.calls == 2, "the repaired file is kept"


def test_a_full_disk_costs_the_cache_not_the_result(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **arrays: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert same(cached({"x": 1}, Counted()))
    assert files(cache) == [], "half a file is left"


def test_a_place_that_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "file"))
    assert same(cached({"x": 1}, Counted()))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failed_computation_leaves_nothing(cache: Path) -> None:
    def failing() -> dict[str, np.ndarray]:
        raise RuntimeError("broken image")

    with pytest.raises(RuntimeError, match="broken image"):
        cached({"x": 1}, failing)
    assert files(cache) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETL_CACHE", "/a")
    assert cache_directory() == Path("/a")
    monkeypatch.delenv("EDGETL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_directory() == Path("/b/edgetl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "edgetl"
