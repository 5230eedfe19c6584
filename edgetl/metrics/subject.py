"""What is evaluated: a checkpoint in torch or a bundle on an engine, behind one face."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetl.data import Dataset
from edgetl.heads import Kind, kinds_of
from edgetl.metrics.predict import Infer
from edgetl_export.candidates import infer_of
from edgetl_runtime.bundle import MANIFEST_NAME, open_bundle
from edgetl_runtime.engines import choose, load_bundle_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import DetectHead, Head, Preprocess


@dataclass(frozen=True, slots=True)
class Subject:
    """A network as a function of one frame, with its heads and preprocessing."""

    infer: Infer
    heads: tuple[Head, ...]
    preprocess: Preprocess
    engine: str
    variant: str

    def kinds(self, dataset: Dataset) -> tuple[Kind, ...]:
        """How to score each head on this dataset."""
        return kinds_of(self.heads, dataset)

    def align(self, dataset: Dataset) -> Dataset:
        """The dataset with its classes of boxes in the network's order.

        Raises InputError for classes that the network doesn't know.
        """
        detect = next((h for h in self.heads if isinstance(h, DetectHead)), None)
        if detect is None or not dataset.classes or dataset.classes == detect.labels:
            return dataset
        unknown = [c for c in dataset.classes if c not in detect.labels]
        if unknown:
            raise InputError(
                f"{dataset.name} has classes that the network doesn't know: {', '.join(unknown)}",
                remedy=f"the network's classes are: {', '.join(detect.labels)}",
            )
        table = np.array([detect.labels.index(c) for c in dataset.classes], np.int64)
        samples = tuple(dataclasses.replace(s, labels=table[s.labels]) for s in dataset.samples)
        return dataclasses.replace(dataset, classes=detect.labels, samples=samples)


@contextmanager
def open_subject(
    path: Path,
    *,
    engine: str | None = None,
    variant: str | None = None,
    require_signature: bool | str | os.PathLike[str] | None = None,
) -> Iterator[Subject]:
    """Open a bundle directory, a run directory or a checkpoint file.

    require_signature: as `open_bundle` takes it; only a bundle can be signed, so that anything else is refused then.
    """
    if (path / MANIFEST_NAME).is_file() or engine or variant or require_signature not in (None, False):
        bundle = open_bundle(path, require_signature=require_signature)
        picked, name = choose(bundle, variant=variant, engine=engine)
        loaded = load_bundle_engine(bundle, variant=variant, engine=engine)
        manifest = bundle.manifest
        try:
            yield Subject(infer_of(loaded), manifest.heads, manifest.preprocess, name, picked.name)
        finally:
            loaded.close()
        return
    from edgetl.models.infer import TorchInfer
    from edgetl.training.checkpoint import load_network

    network, card = load_network(path)
    infer = TorchInfer(network, kinds_of(card.heads, backbone=card.backbone), card.preprocess)
    yield Subject(infer, card.heads, card.preprocess, "torch", "fp32")
