"""What is evaluated: a checkpoint in torch or a bundle on an engine, behind one face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetl.data import Dataset, Sample
from edgetl.metrics.predict import Infer
from edgetl_export.candidates import infer_of
from edgetl_runtime.bundle import MANIFEST_NAME, open_bundle
from edgetl_runtime.engines import choose, load_bundle_engine
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess


@dataclass(frozen=True, slots=True)
class Subject:
    """A network as a function of one frame, with its labels and preprocessing."""

    infer: Infer
    labels: tuple[str, ...]
    preprocess: Preprocess
    max_detections: int
    engine: str
    variant: str

    def align(self, dataset: Dataset) -> Dataset:
        """The dataset with its classes in the network's order. Raises InputError for classes it doesn't know."""
        if dataset.classes == self.labels:
            return dataset
        unknown = [c for c in dataset.classes if c not in self.labels]
        if unknown:
            raise InputError(
                f"{dataset.name} has classes that the network doesn't know: {', '.join(unknown)}",
                remedy=f"the network's classes are: {', '.join(self.labels)}",
            )
        table = np.array([self.labels.index(c) for c in dataset.classes], np.int64)
        samples = tuple(Sample(s.image, s.boxes, table[s.labels], s.ignore, s.group, s.domain) for s in dataset.samples)
        return Dataset(dataset.name, self.labels, samples)


@contextmanager
def open_subject(path: Path, *, engine: str | None = None, variant: str | None = None) -> Iterator[Subject]:
    """Open a bundle directory, a run directory or a checkpoint file."""
    if (path / MANIFEST_NAME).is_file() or engine or variant:
        bundle = open_bundle(path)
        picked, name = choose(bundle, variant=variant, engine=engine)
        loaded = load_bundle_engine(bundle, variant=variant, engine=engine)
        manifest = bundle.manifest
        try:
            yield Subject(
                infer_of(loaded),
                manifest.labels,
                manifest.preprocess,
                manifest.decode.max_detections,
                name,
                picked.name,
            )
        finally:
            loaded.close()
        return
    from edgetl.training.checkpoint import load_detector
    from edgetl.training.tune import torch_infer

    model, card = load_detector(path)
    infer = torch_infer(model, card.preprocess, 100)
    yield Subject(infer, card.classes, card.preprocess, 100, "torch", "fp32")
