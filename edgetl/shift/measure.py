"""From features of two sides to one finding: how far, at which level, which images, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.models.backbone import STRIDES
from edgetl.shift.accuracy import AccuracyEstimate
from edgetl.shift.advice import Advice, Amount, Level, Origin, advise, amount_of, in_nulls, label_count, origin_of
from edgetl.shift.distances import kernel_distance, make_pair, neighbour_ratio
from edgetl.shift.per_image import FEWEST_IMAGES, cover, fit_gaussian, most_and_least
from edgetl.shift.source import Features
from edgetl.shift.statistics import can_leave_out, fit_statistics
from edgetl_runtime.errors import InputError

Floats = NDArray[np.float64]

SHOWN = 12
EMBEDDING_LEVEL = "embedding"


@dataclass(frozen=True, slots=True)
class Images:
    """Single images, scored as on the vehicle.

    distances (M,) and quantiles (M,) of the data. reference (Q,): rising distances of reference images that were left
    out of the fit, whole groups at once where enough images remain. limit: the distance from which on an image is
    untypical. least, most: indices into the data, furthest and nearest first. label_first: indices in the order in
    which to label.
    """

    distances: Floats
    quantiles: Floats
    reference: Floats
    limit: float
    least: NDArray[np.intp]
    most: NDArray[np.intp]
    label_first: NDArray[np.intp]

    @property
    def untypical(self) -> float:
        """The share of images beyond the limit, which 1 of 100 reference images is."""
        return float(np.mean(self.distances > self.limit))


@dataclass(frozen=True, slots=True)
class Shift:
    """overall: of the embedding. levels: of each level of features, finest first, empty for a bundle."""

    overall: Level
    levels: tuple[Level, ...]
    amount: Amount
    origin: Origin
    images: Images
    estimates: tuple[AccuracyEstimate, ...]
    advice: tuple[Advice, ...]

    @property
    def shifted(self) -> bool:
        """Whether there is a shift that chance does not explain and that is worth acting on."""
        return self.amount in {"clear", "large"}


def measure_shift(
    reference: Features,
    data: Features,
    reference_groups: Sequence[str],
    data_groups: Sequence[str],
    *,
    estimates: Sequence[AccuracyEstimate] = (),
    seed: int = 0,
) -> Shift:
    """Compare the features of two sides. Raises InputError for fewer than FEWEST_IMAGES images on a side."""
    for features, side in ((reference, "reference"), (data, "data")):
        if len(features.embedding) < FEWEST_IMAGES:
            raise InputError(
                f"the {side} has {len(features.embedding)} images, a comparison needs at least {FEWEST_IMAGES}",
                remedy="give more images",
            )
    groups = (list(reference_groups), list(data_groups))
    overall = _level(EMBEDDING_LEVEL, reference.embedding, data.embedding, groups, seed)
    names = level_names(len(reference.levels))
    levels = tuple(
        _level(name, ours, theirs, groups, seed)
        for name, ours, theirs in zip(names, reference.levels, data.levels, strict=True)
    )
    amount = amount_of((*levels, overall))
    origin: Origin = origin_of(levels) if amount != "none" else "unknown"
    images = _images(reference.embedding, data.embedding, groups[0])
    new = len(data.embedding)
    return Shift(
        overall,
        levels,
        amount,
        origin,
        images,
        tuple(estimates),
        advise(
            amount,
            origin,
            images=min(len(reference.embedding), new),
            new=new,
            first=len(images.label_first),
            estimates=estimates,
        ),
    )


def level_names(count: int) -> tuple[str, ...]:
    """`stride 4` and so on where the levels are the backbone's usual ones, else their numbers."""
    if count == len(STRIDES):
        return tuple(f"stride {s}" for s in STRIDES)
    return tuple(f"level {i + 1} of {count}" for i in range(count))


def _level(
    name: str,
    reference: NDArray[np.float32],
    data: NDArray[np.float32],
    groups: tuple[list[str], list[str]],
    seed: int,
) -> Level:
    pair = make_pair(reference, data, *groups)
    return Level(name, kernel_distance(pair, seed=seed), neighbour_ratio(pair, seed=seed))


def _images(reference: NDArray[np.float32], data: NDArray[np.float32], groups: list[str]) -> Images:
    model = fit_statistics(reference, groups if can_leave_out(groups) else None)
    distances = model.distances(np.asarray(data, np.float64))
    most, least = most_and_least(distances, SHOWN)
    gaussian = fit_gaussian(reference)
    white = [(np.asarray(side, np.float64) - gaussian.mean) @ gaussian.whitening for side in (reference, data)]
    return Images(
        distances,
        model.quantiles_of(distances),
        model.quantiles,
        model.limit,
        least,
        most,
        cover(white[0], white[1], label_count(len(data))),
    )


def document_of(shift: Shift, names: Sequence[str]) -> dict[str, object]:
    """The finding for --json. names: of the data's images."""
    images = shift.images
    return {
        **_level_document(shift.overall),
        "levels": [{"level": level.name, **_level_document(level)} for level in shift.levels],
        "shifted": shift.shifted,
        "amount": shift.amount,
        "origin": shift.origin,
        "untypical_share": images.untypical,
        "accuracy_estimate": [_estimate_document(e) for e in shift.estimates],
        "least_typical": [
            {"image": names[i], "distance": float(images.distances[i]), "quantile": float(images.quantiles[i])}
            for i in images.least
        ],
        "label_first": [names[i] for i in images.label_first],
        "advice": [{"kind": a.kind, "text": a.text} for a in shift.advice],
    }


def _level_document(level: Level) -> dict[str, object]:
    kernel, neighbours = level.kernel, level.neighbours
    return {
        "kid": kernel.value.value,
        "kid_interval": [kernel.value.low, kernel.value.high],
        "null": kernel.null,
        "in_nulls": in_nulls(level),
        "p_value": kernel.p_value,
        "knn_ratio": neighbours.value,
        "knn_interval": [neighbours.low, neighbours.high],
    }


def _estimate_document(e: AccuracyEstimate) -> dict[str, object]:
    return {
        "head": e.head,
        "measure": e.measure,
        "estimate": e.estimate.value,
        "interval": [e.estimate.low, e.estimate.high],
        "by_mean": e.by_mean,
        "on_reference": e.on_reference,
        "true": e.true,
        "threshold": e.threshold,
        "right_per_image": e.right_per_image,
        "reference_right_per_image": e.reference_right_per_image,
    }
