"""What is evaluated: a checkpoint in torch or a bundle on an engine, behind one face."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgetl.data import Dataset
from edgetl.heads import Kind, kinds_of
from edgetl.metrics.align import Names, align
from edgetl.metrics.predict import Infer
from edgetl_export.candidates import infer_of
from edgetl_runtime.bundle import MANIFEST_NAME, open_bundle
from edgetl_runtime.engines import choose, load_bundle_engine
from edgetl_runtime.spec import Head, Preprocess


@dataclass(frozen=True, slots=True)
class Subject:
    """A network as a function of one frame, with its heads and preprocessing."""

    infer: Infer
    heads: tuple[Head, ...]
    preprocess: Preprocess
    engine: str
    variant: str
    dataset_classes: Mapping[str, Names] = field(default_factory=dict)

    def kinds(self, dataset: Dataset) -> tuple[Kind, ...]:
        """How to score each head on this dataset."""
        return kinds_of(self.heads, dataset)

    def align(self, dataset: Dataset) -> Dataset:
        """The dataset in the network's words. Raises InputError for classes that the network doesn't know."""
        return align(dataset, self.heads, self.dataset_classes)


@contextmanager
def open_subject(
    path: Path,
    *,
    engine: str | None = None,
    variant: str | None = None,
    engine_dir: Path | None = None,
    require_signature: bool | str | os.PathLike[str] | None = None,
) -> Iterator[Subject]:
    """Open a bundle directory, a run directory or a checkpoint file.

    engine_dir: where its TensorRT engines lie. require_signature: as `open_bundle` takes it; only a bundle can be
    signed, so that anything else is refused then.
    """
    if (path / MANIFEST_NAME).is_file() or engine or variant or require_signature not in (None, False):
        bundle = open_bundle(path, require_signature=require_signature)
        picked, name = choose(bundle, variant=variant, engine=engine, engine_dir=engine_dir)
        loaded = load_bundle_engine(bundle, variant=picked.name, engine=engine, engine_dir=engine_dir)
        manifest = bundle.manifest
        try:
            yield Subject(
                infer_of(loaded), manifest.heads, manifest.preprocess, name, picked.name, manifest.dataset_classes
            )
        finally:
            loaded.close()
        return
    from edgetl.models.infer import TorchInfer
    from edgetl.training.checkpoint import load_network

    network, card = load_network(path)
    infer = TorchInfer(network, kinds_of(card.heads, backbone=card.backbone), card.preprocess)
    yield Subject(infer, card.heads, card.preprocess, "torch", "fp32")
