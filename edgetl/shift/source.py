"""What `edgetl shift` compares: two sides of images, and the network that looks at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, Sample, read_dataset, read_image
from edgetl.data.dataset import image_files
from edgetl.data.formats import format_named
from edgetl.features.frozen import images_sha256
from edgetl.features.pooled import pooled_features
from edgetl.features.store import cached
from edgetl.models.backbone import build_backbone
from edgetl.versions import package_versions
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import machine
from edgetl_runtime.spec import EMBEDDING, Preprocess

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Features:
    """What a network sees in N images.

    levels: one (N, 2 * C_l) float32 for each level, finest first: means and deviations over all cells; empty where
    only the embedding is known (a bundle). embedding: (N, C) means of the coarsest level.
    """

    levels: tuple[NDArray[np.float32], ...]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Eye:
    """The network that looks: a checkpoint or bundle, or else a timm backbone with weights at an input size."""

    model: Path | None
    backbone: str
    weights: str
    size_hw: tuple[int, int]

    @property
    def name(self) -> str:
        """What to call it."""
        return str(self.model) if self.model else f"{self.backbone} ({self.weights} weights)"


def read_side(text: str, *, split: str, group_pattern: str | None = None, format: str | None = None) -> Dataset:  # noqa: A002
    """`DIRECTORY`, `DIRECTORY:SPLIT` or a folder of plain images; `split` where none is named.

    A folder with images directly in it counts as plain images: no labels, every file a group of its own unless
    `group_pattern` says otherwise. Raises InputError where there is nothing to read, for a format that is none, and
    for a pattern that fits no file.
    """
    if format:
        format_named(format)
    path, named = parted(text)
    if named is None and path.is_dir() and (images := [p for p in image_files(path) if p.parent == path]):
        return _plain(path, images, group_pattern)
    return read_dataset(path, named or split, group_pattern=group_pattern, format=format)


def parted(text: str) -> tuple[Path, str | None]:
    """The directory and the split after its last colon; a path that exists as it is has none."""
    head, colon, split = text.rpartition(":")
    if not colon or Path(text).exists() or not head or not split:
        return Path(text), None
    return Path(head), split


def _plain(path: Path, images: list[Path], group_pattern: str | None) -> Dataset:
    from edgetl.data.listed import compiled_pattern, group_of

    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    pattern = compiled_pattern(group_pattern) if group_pattern else None
    if pattern and not any(pattern.search(p.stem) for p in images):
        raise InputError(
            f"{path}: the group pattern {group_pattern!r} fits no file name; the first is {images[0].stem}",
            remedy="correct the pattern",
        )
    samples = (Sample(p, *empty, group_of(p, pattern) if pattern else p.stem) for p in images)
    return Dataset("/".join(path.resolve().parts[-3:]), (), tuple(samples))


def look(eye: Eye, dataset: Dataset) -> Features:
    """The features of every image of the dataset, from the cache where they are known.

    Raises InputError for a bundle without an embedding, made before domain statistics were.
    """
    import torch

    from edgetl_runtime.bundle import MANIFEST_NAME, open_bundle

    if eye.model is not None and (eye.model / MANIFEST_NAME).is_file():
        return _bundle_features(open_bundle(eye.model), dataset)
    if eye.model is not None:
        from edgetl.training.checkpoint import load_network

        network, card = load_network(eye.model)
        module, preprocess = network.backbone, card.preprocess
    else:
        torch.manual_seed(0)  # random weights are the same for both sides
        backbone = build_backbone(eye.backbone, eye.weights)
        mean, std = backbone.input_range.mean, backbone.input_range.std
        module, preprocess = backbone.module, Preprocess(size_hw=eye.size_hw, mean=mean, std=std)
    pooled = pooled_features(module, preprocess, dataset)
    levels = tuple(np.concatenate(pair, axis=1) for pair in zip(pooled.means, pooled.deviations, strict=True))
    return Features(levels, pooled.embedding)


def _bundle_features(bundle: Bundle, dataset: Dataset) -> Features:
    manifest = bundle.manifest
    if EMBEDDING not in {output.name for output in manifest.outputs}:
        raise InputError(
            f"{bundle.path}: this bundle gives no {EMBEDDING}", remedy="export it again, or give its checkpoint"
        )
    variant = manifest.variant(manifest.chosen.variant)
    model = manifest.files[variant.file].sha256
    found = known_embeddings(model, manifest.chosen.engine, variant.precision, dataset, lambda: _embed(bundle, dataset))
    return Features((), found)


def known_embeddings(
    model_sha256: str, engine: str, precision: str, dataset: Dataset, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """(N, D) what a graph on an engine sees in the images of a dataset, computed where it is not in the cache."""
    key = {
        "kind": "embedding",
        "model": model_sha256,
        "engine": [engine, precision, machine(), package_versions()],
        "images": images_sha256(dataset),
    }
    return cached(key, lambda: {EMBEDDING: compute()})[EMBEDDING].astype(np.float32)


def _embed(bundle: Bundle, dataset: Dataset) -> NDArray[np.float32]:
    from edgetl_runtime.engines import load_bundle_engine
    from edgetl_runtime.letterbox import Letterbox
    from edgetl_runtime.progress import Progress

    letterbox, rows = Letterbox(bundle.manifest.preprocess), []
    engine = load_bundle_engine(bundle)
    name = engine.inputs[0].name
    try:
        with Progress(f"features of {dataset.name}", len(dataset), unit="images") as progress:
            for sample in dataset.samples:
                tensor, _ = letterbox(read_image(sample.image))
                rows.append(np.asarray(engine.infer({name: tensor})[EMBEDDING], np.float32)[0].copy())
                progress.step()
    finally:
        engine.close()
    return np.stack(rows)


def spread(dataset: Dataset, count: int) -> Dataset:
    """At most `count` images, evenly spread, every one once."""
    chosen = dataset.take(count)
    unique = tuple({s.image: s for s in chosen.samples}.values())
    return dataclasses.replace(chosen, samples=unique)


def groups_of(
    first: str, second: str, reference: Dataset, data: Dataset, *, shared: bool
) -> tuple[list[str], list[str]]:
    """Groups of both sides. Equal names mean the same group only within one directory, or where `shared` says so."""
    same = shared or parted(first)[0].resolve() == parted(second)[0].resolve()
    ours, theirs = ([s.group for s in side.samples] for side in (reference, data))
    return (ours, theirs) if same else ([f"r {g}" for g in ours], [f"d {g}" for g in theirs])
