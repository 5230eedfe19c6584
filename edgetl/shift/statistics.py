"""What the training domain looks like to a network, in a small file that travels to the vehicle."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.shift.per_image import FEWEST_IMAGES, FOLDS, fold_of_groups, shrunk_covariance
from edgetl_runtime.domain import FORMAT, MAX_DIRECTIONS, MAX_QUANTILES, DomainModel, DomainMonitor
from edgetl_runtime.errors import InputError

FEWEST_LEFT = FEWEST_IMAGES * (FOLDS - 1) // FOLDS
"""Images that a fit without one fold must still have: what FEWEST_IMAGES leave when no two are of one group."""


def fit_statistics(
    embedding: NDArray[np.floating],
    groups: Sequence[str] | None = None,
    *,
    held_out: NDArray[np.floating] | None = None,
    directions: int = MAX_DIRECTIONS,
) -> DomainModel:
    """Statistics of embeddings (N, D): a probabilistic PCA, and how far images lie from it that it has not seen.

    The covariance is shrunk (Ledoit and Wolf 2004); what is outside its `directions` largest axes counts with one
    common variance (Tipping and Bishop 1999). Distances are those of `held_out` (M, D) where given: embeddings of
    images that the network itself was not trained on, which is the honest choice after fine-tuning. Else whole
    groups are left out of the fit in turn. Raises InputError for fewer than 20 images, and for groups that can't be
    left out (see `can_leave_out`).
    """
    mean, axes, deviations, residual = _fit(embedding, directions)
    if held_out is not None:
        seen = np.asarray(held_out, np.float64)
        distances = DomainModel(mean, axes, deviations, residual, _NONE, _NONE, 0).distances(seen)
    else:
        distances = _left_out(np.asarray(embedding, np.float64), groups, directions)
    if len(distances) == 0 or not np.isfinite(distances).all():
        raise InputError("no finite distances of held-out images", remedy="give held-out images")
    quantiles, probabilities = _quantiles(distances)
    return DomainModel(mean, axes, deviations, residual, quantiles, probabilities, len(distances))


_NONE = np.zeros(0)


def _fit(
    embedding: NDArray[np.floating], directions: int, fewest: int = FEWEST_IMAGES
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Mean (D,), axes (D, K), deviations (K,) along them and the deviation along any other axis."""
    covariance = shrunk_covariance(embedding, fewest=fewest)
    width = len(covariance.mean)
    kept = min(directions, width)
    rest = covariance.values[kept:]
    residual = float(np.sqrt(rest.mean() if len(rest) else covariance.values[-1]))
    return covariance.mean, covariance.vectors[:, :kept].copy(), np.sqrt(covariance.values[:kept]), residual


def _left_out(x: NDArray[np.float64], groups: Sequence[str] | None, directions: int) -> NDArray[np.float64]:
    """(N,) distance of every image to a fit without its fold of groups."""
    folds = fold_of_groups(groups, len(x))
    if (left := _fewest_left(folds)) < FEWEST_LEFT:
        raise InputError(
            f"without the largest group {left} of {len(x)} images are left, a fit needs at least {FEWEST_LEFT}",
            remedy="give images of more groups",
        )
    distances = np.empty(len(x))
    for fold in np.unique(folds):
        out = folds == fold
        fitted = DomainModel(*_fit(x[~out], directions, FEWEST_LEFT), _NONE, _NONE, 0)
        distances[out] = fitted.distances(x[out])
    return distances


def can_leave_out(groups: Sequence[str]) -> bool:
    """Whether there are two groups or more, and FEWEST_LEFT images without any fold of them."""
    return len(set(groups)) > 1 and _fewest_left(fold_of_groups(groups, len(groups))) >= FEWEST_LEFT


def _fewest_left(folds: NDArray[np.int64]) -> int:
    """How many images there are outside the largest fold."""
    return len(folds) - int(np.bincount(folds).max())


def _quantiles(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rising distances and the share below each, (rank) / (N + 1); at most MAX_QUANTILES, the upper tail in full."""
    ordered = np.sort(distances)
    ranks = np.arange(1, len(ordered) + 1)
    if len(ordered) > MAX_QUANTILES:
        tail = np.arange(len(ordered) - MAX_QUANTILES // 2, len(ordered))
        body = np.linspace(0, tail[0] - 1, MAX_QUANTILES - len(tail)).round().astype(int)
        chosen = np.concatenate([body, tail])
        ordered, ranks = ordered[chosen], ranks[chosen]
    return ordered, ranks / (len(distances) + 1)


def save_statistics(path: Path, model: DomainModel) -> None:
    """Write the file that edgetl_runtime.domain reads; the same statistics give the same bytes.

    Whole or not at all. Raises InputError where the disk refuses, BundleError for statistics that are no valid file.
    """
    arrays: Mapping[str, NDArray[np.generic]] = {
        "format": np.array(FORMAT, np.int64),
        "mean": model.mean.astype(np.float32),
        "axes": model.axes.astype(np.float32),
        "deviations": model.deviations.astype(np.float32),
        "residual": np.array(model.residual, np.float64),
        "distances": model.quantiles.astype(np.float64),
        "probabilities": model.probabilities.astype(np.float64),
        "images": np.array(model.images, np.int64),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                stream = io.BytesIO()
                np.lib.format.write_array(stream, np.ascontiguousarray(array) if array.ndim else array, version=(1, 0))
                # A fixed date, so that equal statistics are equal files.
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), stream.getvalue())
        DomainMonitor(temporary)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})", remedy="free some space") from error
    finally:
        temporary.unlink(missing_ok=True)
