"""Answers that `tune` leaves in the cache: only those of this very file, code and machine are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetl import answers as module
from edgetl.answers import keep_answers, known_answers


def frames_of(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 255, (count, 1, 8, 8, 3), np.uint8))


def rows_of(count: int) -> list[dict[str, NDArray[np.generic]]]:
    return [{"scores": np.array([[i, 0.5]], np.float32), "classes": np.array([[i, 7]])} for i in range(count)]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"weights")
    keep_answers(checkpoint, frames_of(4), rows_of(4))
    return checkpoint


def files(kept: Path) -> list[Path]:
    return sorted((kept.parent / "cache" / "tuned").iterdir())


def test_answers_come_back_by_frame_in_the_order_asked_for(kept: Path) -> None:
    frames = frames_of(4)
    found = known_answers(kept, [frames[i].copy() for i in (2, 0, 2)])
    assert found is not None and set(found) == {"scores", "classes"}
    np.testing.assert_array_equal(found["scores"], np.array([[[2, 0.5]], [[0, 0.5]], [[2, 0.5]]], np.float32))
    assert found["scores"].dtype == np.float32 and found["classes"].dtype == np.int64


def test_one_unknown_frame_is_enough(kept: Path) -> None:
    assert known_answers(kept, [*frames_of(4), *frames_of(1, seed=9)]) is None


@pytest.mark.parametrize("other", ["weights", "code", "packages", "machine", "file", "cut", "none"])
def test_answers_of_anything_else_are_not_known(kept: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = files(kept)
    if other == "weights":
        kept.write_bytes(b"weighty")
    elif other == "code":
        monkeypatch.setattr(module, "code_sha256", lambda: "another")
    elif other == "packages":
        monkeypatch.setattr(module, "package_versions", lambda: {"torch": "0"})
    elif other == "machine":
        monkeypatch.setattr(module, "machine", lambda: "another")
    elif other == "file":
        np.savez(file, scores=np.zeros(4))
    elif other == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        file.unlink()
    assert known_answers(kept, frames_of(4)) is None


def test_the_same_file_elsewhere_is_the_same_network(kept: Path) -> None:
    assert known_answers(Path(kept.rename(kept.with_name("other.pt"))), frames_of(4)) is not None


def test_too_much_and_a_disk_that_is_full_cost_only_the_answers(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(kept)[0].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(module, "MOST_BYTES", 4 * (8 + 16) - 1)
        keep_answers(kept, frames_of(4), rows_of(4))
        keep_answers(kept, [], [])
    assert not files(kept)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    keep_answers(kept, frames_of(4), rows_of(4))
    assert not files(kept)


def test_the_longest_unused_are_forgotten(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = files(kept)
    os.utime(first, (1, 1))
    monkeypatch.setattr(module, "MOST_IN_ALL", first.stat().st_size * 5 // 2)
    for weights in (b"second", b"third"):
        kept.write_bytes(weights)
        keep_answers(kept, frames_of(4), rows_of(4))
    assert len(files(kept)) == 2 and first not in files(kept)
    assert known_answers(kept, frames_of(4)) is not None
