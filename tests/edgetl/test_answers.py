"""Answers that `tune` leaves beside a checkpoint: only those of this very file, code and machine are known."""

from __future__ import annotations

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
def kept(tmp_path: Path) -> Path:
    checkpoint = tmp_path / "best.pt"
    checkpoint.write_bytes(b"weights")
    keep_answers(checkpoint, frames_of(4), rows_of(4))
    return checkpoint


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
    file = kept.with_name("answers.npz")
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


def test_too_much_and_a_disk_that_is_full_cost_only_the_answers(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept.with_name("answers.npz")
    file.unlink()
    monkeypatch.setattr(module, "MOST_BYTES", 4 * (8 + 16) - 1)
    keep_answers(kept, frames_of(4), rows_of(4))
    keep_answers(kept, [], [])
    assert not file.exists()
    monkeypatch.undo()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    keep_answers(kept, frames_of(4), rows_of(4))
    assert [path.name for path in kept.parent.iterdir()] == ["best.pt"]
