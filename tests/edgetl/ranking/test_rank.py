"""From candidates and data to an order of networks, on pictures of two colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgetl.data import Dataset, Sample
from edgetl.features.objects import Labelled, pick
from edgetl.ranking import resample
from edgetl.ranking.candidates import Candidate
from edgetl.ranking.rank import left_out, rank_networks
from edgetl.ranking.resample import Scores

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Seven dark, seven light and one grey picture."""
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    samples = []
    for i in range(15):
        path, category = tmp_path / f"{i}.png", 2 if i == 14 else i % 2
        cv2.imwrite(str(path), np.full((32, 32, 3), (20, 220, 120)[category] + i, np.uint8))
        samples.append(Sample(path, *none, path.stem, category=category))
    return Dataset("colours", (), tuple(samples), categories=("dark", "light", "grey"))


def test_random_weights_are_the_same_every_time(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Labelled] = []

    def remembering(found: Labelled) -> Scores:
        seen.append(found)
        return Scores(0.5, 0.5, 0.5, np.full((4, 3), 0.5))

    monkeypatch.setattr(resample, "score", remembering)
    candidates = [Candidate("mobilenetv3_small_050", "none"), Candidate("resnet10t", "none")]
    picks = pick(data, "classify")
    for each in (candidates, candidates[1:]):
        ranked, skipped = rank_networks(each, data, picks, "classify", (32, 32))
        assert (len(ranked), skipped) == (len(each), [])
    np.testing.assert_array_equal(seen[1].vectors, seen[2].vectors)


def test_rare_classes_are_named(data: Dataset) -> None:
    assert left_out(pick(data, "classify")) == ["grey"]
