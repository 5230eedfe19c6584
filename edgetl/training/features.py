"""Features of the frozen backbone, computed once and kept on disk while the head is probed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgetl.data import Dataset
from edgetl.models.normalise import Normalise
from edgetl.training.batches import letterboxed_view, stack_targets
from edgetl.training.loss import BatchTargets
from edgetl.training.targets import Targets, make_targets
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Preprocess


class FeatureCache:
    """Half-precision features of whole letterboxed frames, one memory map a level, with their targets.

    The files are deleted on close. Raises InputError when the disk is full.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="features-", dir=directory)
        self._levels: list[NDArray[np.float16]] = []
        self._targets: list[Targets] = []

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *error: object) -> None:
        self._levels.clear()
        self._folder.cleanup()

    def __len__(self) -> int:
        return len(self._targets)

    def fill(
        self, backbone: nn.Module, dataset: Dataset, preprocess: Preprocess, *, after_each: Callable[[], None]
    ) -> None:
        """Run the backbone over the dataset, calling `after_each` after every image."""
        normalise = Normalise(preprocess)
        with torch.inference_mode(), Progress("features", len(dataset), unit="images") as progress:
            for index in range(len(dataset)):
                view = letterboxed_view(dataset, index, preprocess)
                features = backbone(normalise(torch.from_numpy(view.image[None])).contiguous())
                if not self._levels:
                    self._allocate(features, len(dataset))
                for level, feature in zip(self._levels, features, strict=True):
                    level[index] = feature[0].to(torch.float16).numpy()
                self._targets.append(
                    make_targets(
                        view.boxes,
                        view.labels,
                        view.ignore,
                        classes=len(dataset.classes),
                        size_hw=preprocess.size_hw,
                    )
                )
                progress.step()
                after_each()

    def batch(self, indices: list[int]) -> tuple[list[Tensor], BatchTargets]:
        """Features and targets of these images."""
        picked = sorted(indices)
        features = [torch.from_numpy(level[picked].astype(np.float32)) for level in self._levels]
        return features, stack_targets([self._targets[i] for i in picked])

    def _allocate(self, features: list[Tensor], count: int) -> None:
        try:
            for i, feature in enumerate(features):
                path = Path(self._folder.name) / f"{i}.f16"
                shape = (count, *feature.shape[1:])
                self._levels.append(np.memmap(path, np.float16, "w+", shape=shape))
        except OSError as error:
            raise InputError(
                f"{self._folder.name}: no space for cached features ({error.strerror})",
                remedy="free some space or set --probe-epochs 0",
            ) from error
