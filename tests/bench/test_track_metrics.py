"""The figures that tracking is judged by, on cases that are counted by hand."""

from __future__ import annotations

import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from track_metrics import TrackScore, Truth, best_assignment

BOXES = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float64)


def score_of(*frames: list[int], ignore: tuple[bool, bool] = (False, False)) -> dict[str, float]:
    """Two objects a second apart that never move; each frame: the number on the first and on the second, -1: none."""
    score = TrackScore()
    score.next_clip()
    for k, numbers in enumerate(frames, 1):
        ids = np.array(numbers)
        truth = Truth(float(k), BOXES, np.array([7, 9]), np.array(ignore))
        score.add(truth, BOXES[ids >= 0], ids[ids >= 0])
    return score.figures()


def test_without_a_fault() -> None:
    found = score_of([0, 1], [0, 1], [0, 1])
    assert (found["switches"], found["idf1"], found["mota"]) == (0, 1, 1)
    assert (found["objects"], found["tracks"], found["object_minutes"]) == (2, 2, 0.1)


def test_numbers_that_change_places() -> None:
    found = score_of([0, 1], [0, 1], [0, 1], [1, 0])
    assert found["switches"] == 2 and found["mota"] == pytest.approx(1 - 2 / 8)
    assert found["idf1"] == pytest.approx(2 * 6 / 16)
    assert found["switches_per_object_minute"] == pytest.approx(60 * 2 / 8)


def test_a_new_number_after_a_miss() -> None:
    found = score_of([0, 1], [-1, 1], [2, 1], [2, 1])
    assert found["switches"] == 1 and found["tracks"] == 3
    assert found["mota"] == pytest.approx(1 - 2 / 8)
    assert found["idf1"] == pytest.approx(2 * 6 / (8 + 7), abs=1e-4)


def test_what_need_not_be_found_counts_neither_way() -> None:
    assert score_of([0, 1], [-1, 1], [2, 1], ignore=(True, False)) == score_of(
        [-1, 1], [-1, 1], [-1, 1], ignore=(True, False)
    )


def test_clips_share_no_names() -> None:
    score = TrackScore()
    for _ in range(2):
        score.next_clip()
        for k in (1, 2):
            score.add(Truth(float(k), BOXES, np.array([7, 9]), np.zeros(2, bool)), BOXES, np.array([0, 1]))
    found = score.figures()
    assert (found["objects"], found["tracks"], found["switches"], found["idf1"]) == (4, 4, 0, 1)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (3, 5), (5, 3), (6, 6)])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_assignment_against_all_of_them(shape: tuple[int, int], seed: int) -> None:
    worth = np.random.default_rng(seed).random(shape)
    pairs = best_assignment(worth)
    assert len(pairs) == min(shape) == len({r for r, _ in pairs}) == len({c for _, c in pairs})
    wide = worth if shape[0] <= shape[1] else worth.T
    best = max(sum(wide[i, c] for i, c in enumerate(p)) for p in permutations(range(wide.shape[1]), wide.shape[0]))
    assert sum(worth[r, c] for r, c in pairs) == pytest.approx(best)
