"""Short fine-tunes: their length, their settings, and what becomes of those that end early."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgetl.data import Dataset, Sample
from edgetl.ranking import trials as trials_module
from edgetl.ranking.candidates import Candidate
from edgetl.ranking.trials import trials
from edgetl.training.config import TuneConfig
from edgetl.training.tune import LossNotFinite, TuneStopped

CANDIDATES = {"a:package": Candidate("a", "package"), "b:none": Candidate("b", "none")}
CONFIG = TuneConfig(tasks=("classify",), size_hw=(32, 32), crop_hw=(32, 32), batch=4)


def images(count: int) -> Dataset:
    none = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    return Dataset("d", (), tuple(Sample(Path(f"{i}.png"), *none, str(i), category=0) for i in range(count)))


class Tuned:
    """Stands for `tune`: remembers what it was given, and gives or raises what it was made with."""

    def __init__(self, outcome: float | Exception = 0.5) -> None:
        self.outcome = outcome
        self.calls: list[tuple[Dataset, Dataset, Path, TuneConfig]] = []

    def __call__(self, train: Dataset, val: Dataset, out: Path, config: TuneConfig) -> SimpleNamespace:
        self.calls.append((train, val, out, config))
        assert out.is_dir()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return SimpleNamespace(value=self.outcome)


@pytest.mark.parametrize(
    ("steps", "count", "seen", "epochs"), [(5, 300, 20, 1), (60, 300, 240, 1), (60, 100, 100, 2), (240, 100, 100, 10)]
)
def test_steps_become_images_and_epochs(
    monkeypatch: pytest.MonkeyPatch, steps: int, count: int, seen: int, epochs: int
) -> None:
    tuned = Tuned(0.7)
    monkeypatch.setattr(trials_module, "tune", tuned)
    val = images(9)
    assert trials(CANDIDATES, images(count), val, CONFIG)("a:package", steps) == 0.7
    ((train, judged, out, config),) = tuned.calls
    assert (len(train), config.epochs, judged) == (seen, epochs, val)
    assert config.val_every == max(epochs // 2, 1)
    assert not out.exists()


def test_each_candidate_has_its_own_weights_and_random_ones_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = Tuned()
    monkeypatch.setattr(trials_module, "tune", tuned)
    trial = trials(CANDIDATES, images(20), images(4), CONFIG)
    for name in CANDIDATES:
        trial(name, 5)
    found = [(c.backbone, c.weights, c.probe_epochs, c.tasks) for *_, c in tuned.calls]
    assert found == [("a", "package", 1, ("classify",)), ("b", "none", 0, ("classify",))]


def test_a_loss_that_is_no_number_is_the_worst_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "tune", Tuned(LossNotFinite("step 3")))
    assert math.isnan(trials(CANDIDATES, images(20), images(4), CONFIG)("a:package", 5))


def test_ctrl_c_does_not_tell_to_resume_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials_module, "tune", Tuned(TuneStopped("saved", remedy="go on with --resume")))
    with pytest.raises(KeyboardInterrupt):
        trials(CANDIDATES, images(20), images(4), CONFIG)("a:package", 5)
