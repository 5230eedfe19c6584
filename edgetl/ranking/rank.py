"""From candidates and data to an order of networks: features, scores, their agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgetl.ranking.combine import Placed, Scored, combine
from edgetl.ranking.prior import Published, published
from edgetl_runtime.errors import EdgetlError, InputError

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.features.objects import Picks, Task
    from edgetl.ranking.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that was scored. knn: balanced accuracy, 0..1. source, licence: of its weights."""

    candidate: Candidate
    placed: Placed
    knn: float
    logme: float
    h_score: float
    prior: Published | None
    source: str
    licence: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A candidate that was not scored, and why."""

    candidate: Candidate
    why: str


def rank_networks(
    candidates: Sequence[Candidate],
    dataset: Dataset,
    picks: Picks,
    task: Task,
    size_hw: tuple[int, int],
    *,
    use: Literal["commercial", "research"] = "commercial",
    allow_license: bool = False,
) -> tuple[list[Ranked], list[Skipped]]:
    """The candidates from best to worst, and those whose weights can't be had or whose network can't take the size.

    Left out are also those whose features are no finite numbers. Raises InputError for images that can't be read,
    where fewer than two classes have vectors enough to tell apart, and where each of these lies in one group.
    """
    import torch

    from edgetl.features.objects import labelled_features
    from edgetl.models.backbone import build_backbone
    from edgetl.ranking.resample import LEAST_OF_CLASS, frequent, score
    from edgetl_runtime.spec import Preprocess

    kept = {int(c) for c in picks.labels[frequent(picks.labels)]}
    if len(kept) < 2:
        raise InputError(
            f"{dataset.name}: {len(kept)} of {len(picks.names)} classes occur {LEAST_OF_CLASS} times or more in what "
            "was picked, at least two are needed",
            remedy="raise --limit, or label more",
        )
    if all(len(np.unique(picks.groups[picks.labels == c])) < 2 for c in kept):
        raise InputError(
            f"{dataset.name}: each class lies in a single group of images, and what a group shows is judged by others",
            remedy="give images of more groups, or --group-pattern '.+', which makes every image a group",
        )
    done, scored, skipped = [], [], []
    for candidate in candidates:
        torch.manual_seed(0)  # random weights are the same every time
        try:
            backbone = build_backbone(candidate.backbone, candidate.weights, use=use, allow_license=allow_license)
        except EdgetlError as error:
            skipped.append(Skipped(candidate, error.message))
            continue
        preprocess = Preprocess(size_hw=size_hw, mean=backbone.input_range.mean, std=backbone.input_range.std)
        try:
            data = labelled_features(backbone.module, preprocess, dataset, picks, task, title=candidate.backbone[:24])
        except RuntimeError as error:
            skipped.append(Skipped(candidate, f"can't take this size ({str(error).splitlines()[0][:100]})"))
            continue
        if not np.isfinite(data.vectors).all():
            skipped.append(Skipped(candidate, "its features hold NaN or infinity, as wrong weights give"))
            continue
        values = score(data)
        prior = published(candidate.backbone, candidate.weights)
        top1 = prior.top1 if prior else None
        scored.append(Scored(candidate.name, values.knn, values.logme, values.h_score, top1, values.replicates))
        done.append((candidate, values, prior, backbone.weights))
    ranked = []
    for placed in combine(scored):
        candidate, values, prior, weights = done[placed.index]
        ranked.append(
            Ranked(candidate, placed, values.knn, values.logme, values.h_score, prior, weights.source, weights.licence)
        )
    return ranked, skipped


def left_out(picks: Picks) -> list[str]:
    """Names of the classes that occur, but too rarely to say anything about a network."""
    from edgetl.ranking.resample import frequent

    kept = set(picks.labels[frequent(picks.labels)].tolist())
    return [picks.names[c] for c in sorted(set(picks.labels.tolist()) - kept)]
