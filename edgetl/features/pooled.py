"""One vector for every image: means and deviations of a backbone's features, cached on disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgetl.data import Dataset
from edgetl.features.frozen import backbone_maps, feature_key
from edgetl.features.store import cached
from edgetl_runtime.spec import Preprocess


@dataclass(frozen=True, slots=True)
class Pooled:
    """means, deviations: one (N, C_l) float32 for each level of features, finest first, over all its cells."""

    means: tuple[NDArray[np.float32], ...]
    deviations: tuple[NDArray[np.float32], ...]

    @property
    def embedding(self) -> NDArray[np.float32]:
        """(N, C) means of the coarsest level: what the compiled network gives out as `embedding`."""
        return self.means[-1]


def pooled_features(backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, *, title: str = "") -> Pooled:
    """Features of every image of the dataset, letterboxed whole, in order; read from the cache where it has them.

    backbone: normalised RGB (B, 3, H, W) to a list of maps; it is put into eval mode.
    """
    key = feature_key("pooled", backbone, preprocess, dataset)
    arrays = cached(key, lambda: _compute(backbone, preprocess, dataset, title or f"features of {dataset.name}"))
    levels = range(len(arrays) // 2)
    return Pooled(
        tuple(arrays[f"mean{i}"].astype(np.float32) for i in levels),
        tuple(arrays[f"std{i}"].astype(np.float32) for i in levels),
    )


def _compute(
    backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, title: str
) -> dict[str, NDArray[np.float32]]:
    rows: list[list[NDArray[np.float32]]] = []
    for _, maps in backbone_maps(backbone, preprocess, dataset.samples, title=title):
        rows.append([v.cpu().numpy()[0] for m in maps for v in (m.mean((2, 3)), m.std((2, 3), correction=0))])
    columns = [np.stack(c) for c in zip(*rows, strict=True)]
    return {f"{('mean', 'std')[i % 2]}{i // 2}": c for i, c in enumerate(columns)}
