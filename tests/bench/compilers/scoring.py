"""The metric of any function of a frame, by the evaluation that `edgetl evaluate` uses."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import read_dataset
from edgetl.heads import kinds_of
from edgetl.metrics.detection import Scoring, parse_merge
from edgetl.metrics.predict import Frames, Infer, evaluate, remembering, scored_kinds
from edgetl.training.checkpoint import ModelCard


class Scores:
    """Every split's metric, and the one that a budget is about: the unmerged metric of the first split."""

    def __init__(
        self, card: ModelCard, data: Path, splits: Sequence[str], *, limit: int, merge: Sequence[str], min_height: float
    ) -> None:
        datasets = {split: read_dataset(data, split).take(limit) for split in splits}
        self.frames = {s: Frames(d, card.preprocess, title=f"{s} images") for s, d in datasets.items()}
        self.kinds = {s: scored_kinds(kinds_of(card.heads, d, backbone=card.backbone), d) for s, d in datasets.items()}
        self._first = splits[0]
        self._scoring = {
            s: Scoring(merge=parse_merge(merge, d.classes), min_height_px=min_height) for s, d in datasets.items()
        }
        self._plain = not merge and not min_height
        self._metric = card.metric or "metric"
        self._what = " ".join([*(m.partition("=")[0] for m in merge), self._metric])

    @property
    def validation(self) -> Frames:
        """The frames that the budget is about."""
        return self.frames[self._first]

    def __call__(self, infer: Infer) -> dict[str, float]:
        """All scores by name, 0..1; the budget's first."""
        kept = remembering(lambda frame: {k: np.array(v) for k, v in infer(frame).items()})
        found = {f"{self._metric} {self._first}": self._value(kept, self._first, Scoring())}
        for split in self.frames:
            if not (self._plain and split == self._first):
                found[f"{self._what} {split}"] = self._value(kept, split, self._scoring[split])
        return found

    def of_answers(self, answers: Mapping[str, NDArray[np.generic]], indices: Sequence[int]) -> float:
        """The budget's metric of outputs that another process worked out for these frames, in this order."""
        frames = copy.copy(self.validation)
        frames.dataset = frames.dataset.only(indices)
        frames.images = [frames.images[i] for i in indices]
        frames.shapes = [frames.shapes[i] for i in indices]
        rows = iter(range(len(indices)))

        def replay(_: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
            row = next(rows)
            return {name: values[row] for name, values in answers.items()}

        return evaluate(replay, frames, self.kinds[self._first]).value

    def _value(self, infer: Infer, split: str, scoring: Scoring) -> float:
        return evaluate(infer, self.frames[split], self.kinds[split], scoring=scoring).value
