"""A frozen backbone over the images of a dataset, one by one, and what names its features in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor, nn

from edgetl.data import Dataset, Sample, read_image
from edgetl.models.normalise import Normalise
from edgetl_runtime.letterbox import Geometry, Letterbox
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Preprocess


def backbone_maps(
    backbone: nn.Module, preprocess: Preprocess, samples: Sequence[Sample], *, title: str
) -> Iterator[tuple[Geometry, list[Tensor]]]:
    """Where each image lies in the network's input, letterboxed whole, and its maps (1, C, h, w), finest first.

    backbone: normalised RGB (B, 3, H, W) to a list of maps; it is put into eval mode and runs where its weights are.
    """
    normalise, letterbox = Normalise(preprocess), Letterbox(preprocess)
    backbone.eval()
    device = next(backbone.parameters(), torch.empty(0)).device
    with Progress(title, len(samples), unit="images") as progress:
        for sample in samples:
            tensor, place = letterbox(read_image(sample.image))
            with torch.inference_mode():
                x = normalise(torch.from_numpy(tensor)).to(device, memory_format=torch.channels_last)
                maps: list[Tensor] = backbone(x)
            yield place, maps
            progress.step()


def feature_key(
    kind: str, backbone: nn.Module, preprocess: Preprocess, dataset: Dataset, **more: str
) -> dict[str, object]:
    """All that features of this kind depend on; more: what else these do."""
    return {
        "kind": kind,
        "weights": state_sha256(backbone),
        "preprocess": msgspec.to_builtins(preprocess),
        "images": images_sha256(dataset),
        **more,
    }


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
