"""One vector for every image: means and deviations of a backbone's features, cached on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgetl.data import Dataset, read_image
from edgetl.features.store import cached
from edgetl.models.normalise import Normalise
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.progress import Progress
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
    key = {
        "kind": "pooled",
        "weights": state_sha256(backbone),
        "preprocess": msgspec.to_builtins(preprocess),
        "images": images_sha256(dataset),
    }
    arrays = cached(key, lambda: _compute(backbone, preprocess, dataset, title or f"features of {dataset.name}"))
    levels = range(len(arrays) // 2)
    return Pooled(
        tuple(arrays[f"mean{i}"].astype(np.float32) for i in levels),
        tuple(arrays[f"std{i}"].astype(np.float32) for i in levels),
    )


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes and values of a module's weights, and over its structure."""
    digest = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def images_sha256(dataset: Dataset) -> str:
    """SHA-256 over paths, sizes and times of the image files, which stands for their content on this machine."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        status = sample.image.stat()
        digest.update(f"{sample.image.resolve()}:{status.st_size}:{status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _compute(
    backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, title: str
) -> dict[str, NDArray[np.float32]]:
    normalise, letterbox = Normalise(preprocess), Letterbox(preprocess)
    backbone.eval()
    device = next(backbone.parameters(), torch.empty(0)).device
    rows: list[list[NDArray[np.float32]]] = []
    with torch.inference_mode(), Progress(title, len(dataset), unit="images") as progress:
        for sample in dataset.samples:
            tensor, _ = letterbox(read_image(sample.image))
            x = normalise(torch.from_numpy(tensor)).to(device, memory_format=torch.channels_last)
            maps: list[Tensor] = backbone(x)
            rows.append([v.cpu().numpy()[0] for m in maps for v in (m.mean((2, 3)), m.std((2, 3), correction=0))])
            progress.step()
    columns = [np.stack(c) for c in zip(*rows, strict=True)]
    return {f"{('mean', 'std')[i % 2]}{i // 2}": c for i, c in enumerate(columns)}
