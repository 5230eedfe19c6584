"""A short fine-tune of one candidate, as successive halving asks for it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.ranking.halving import Trial
from edgetl.training.config import TuneConfig
from edgetl.training.tune import LossNotFinite, TuneStopped, tune

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.ranking.candidates import Candidate

BATCH = 4


def trials(candidates: Mapping[str, Candidate], train: Dataset, val: Dataset, config: TuneConfig) -> Trial:
    """A function of a candidate's name and a number of steps that fine-tunes it and returns the task's metric.

    config: all but backbone, weights and the length of the run. Few steps see a part of the images once. A loss that
    became NaN or infinite gives NaN. After Ctrl-C there is nothing to go on with: KeyboardInterrupt is raised.
    """
    import msgspec

    def trial(name: str, steps: int) -> float:
        candidate = candidates[name]
        images = min(steps * config.batch, len(train))
        epochs = max(round(steps * config.batch / images), 1)
        probe = 0 if candidate.weights == "none" else 1
        settings = msgspec.structs.replace(
            config,
            backbone=candidate.backbone,
            weights=candidate.weights,
            epochs=epochs,
            probe_epochs=probe,
            val_every=max(math.ceil(epochs / 2), 1),
        )
        with tempfile.TemporaryDirectory(prefix="edgetl-trial-") as folder:
            try:
                return tune(train.take(images), val, Path(folder), settings).value
            except LossNotFinite:
                return math.nan
            except TuneStopped as error:
                raise KeyboardInterrupt from error

    return trial
