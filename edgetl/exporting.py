"""From a checkpoint and its data to an export request: the seam between training and the compiler."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgetl.data import Dataset, read_dataset
from edgetl.features.pooled import pooled_features
from edgetl.heads import kinds_of
from edgetl.metrics.predict import Frames, Infer, evaluate, scored_kinds
from edgetl.models.deploy import INPUT, Deployed
from edgetl.models.network import Network
from edgetl.models.reparameterise import for_deployment
from edgetl.shift.statistics import fit_statistics, save_statistics
from edgetl.training.checkpoint import ModelCard, load_network
from edgetl_export.export import Domain, Exported, ExportRequest, export, torch_source
from edgetl_export.publish import refuse_existing
from edgetl_export.report.page import Section
from edgetl_runtime import __version__
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import EMBEDDING, Provenance, at_threshold

PARITY_FRAMES = 8
DOMAIN_IMAGES = 500
FEWEST_DOMAIN_IMAGES = 20
PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "onnx",
    "onnxruntime",
    "openvino",
    "numpy",
    "opencv-python",
    "tensorrt-rtx-cu13-libs",
)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    data: Path | None,
    train_split: str,
    val_split: str,
    max_drop: float,
    calibration: int,
    val_images: int,
    threshold: float | None,
    targets: Sequence[str],
    name: str,
    force: bool,
    latency_runs: int = 60,
    sections: Sequence[Section] = (),
) -> Exported:
    """Export a checkpoint with calibration frames and metric from its dataset.

    max_drop: 0..1, of each head's metric. threshold: replaces every threshold that the checkpoint has.
    """
    refuse_existing(out, force=force)
    model, card = load_network(checkpoint)
    heads = card.heads if threshold is None else tuple(at_threshold(h, threshold) for h in card.heads)
    root = data or Path(card.data_root)
    train, val = (read_dataset(root, split) for split in (train_split, val_split))
    kinds = kinds_of(heads, val, backbone=card.backbone)
    missing = [k.head for k in kinds if not k.labelled(val)]
    if missing:
        found = ", ".join((*val.classes, *val.categories, *(layer.name for layer in val.layers))) or "none"
        raise InputError(
            f"{val.name} has no labels for the head {missing[0].name} with the classes {', '.join(missing[0].labels)}; "
            f"it has {found}",
            remedy="give the dataset that it was tuned on with --data",
        )
    frames = Frames(val.take(val_images), card.preprocess, title="val images")
    scored = scored_kinds(kinds, frames.dataset)
    calibration_frames = Frames(spread(train, calibration), card.preprocess, title="calibration").images
    domain = _domain(card, model, train, frames)
    model.backbone = for_deployment(model.backbone)
    module = Deployed(model, kinds, card.preprocess).eval()
    request = ExportRequest(
        name=name,
        source=torch_source(module, frames.images[0], input_name=INPUT, outputs=module.outputs, probes=module.probes),
        heads=heads,
        preprocess=card.preprocess,
        calibration=calibration_frames,
        frames=frames.images[:: max(len(frames) // PARITY_FRAMES, 1)][:PARITY_FRAMES],
        metric=lambda infer: evaluate(infer, frames, scored).values,
        metric_name=card.metric or "mean",
        max_drop=max_drop,
        targets=targets,
        provenance=_provenance(card),
        latency_runs=latency_runs,
        sections=sections,
        domain=domain,
        reliability=card.reliability,
    )
    return export(request, out, force=force)


def _domain(card: ModelCard, model: Network, train: Dataset, frames: Frames) -> Domain | None:
    """Statistics of the training images, and how far the validation images lie from them on the chosen engine."""
    images = train.take(DOMAIN_IMAGES)
    if min(len(images), len(frames)) < FEWEST_DOMAIN_IMAGES:
        return None
    pooled = pooled_features(model.backbone, card.preprocess, images, title="training domain")

    def write(path: Path, infer: Infer) -> None:
        seen = np.concatenate([np.array(infer(f)[EMBEDDING], np.float64) for f in frames.images])
        save_statistics(path, fit_statistics(pooled.embedding, held_out=seen))

    return Domain(EMBEDDING, len(images), write)


def spread(dataset: Dataset, number: int) -> Dataset:
    """Calibration images: spread evenly over the split, those with the most objects of each stretch."""
    if number >= len(dataset):
        return dataset
    edges = [round(i * len(dataset) / number) for i in range(number + 1)]
    chosen = [max(range(a, b), key=lambda i: len(dataset.samples[i].labels)) for a, b in pairwise(edges)]
    return dataset.only(chosen)


def _provenance(card: ModelCard) -> Provenance:
    return provenance(
        architecture=f"{card.backbone} with " + ", ".join(h.name for h in card.heads),
        weights=card.weights.source,
        weights_sha256=card.weights.sha256,
        weights_licence=card.weights.licence,
        dataset=card.data,
        dataset_sha256=card.data_sha256,
    )


def provenance(
    *, architecture: str, weights: str, weights_sha256: str, weights_licence: str, dataset: str, dataset_sha256: str
) -> Provenance:
    """These facts with the date, the machine, and the versions of the packages that an export goes through."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Provenance(
        edgetl=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat(),
        architecture=architecture,
        weights=weights,
        weights_sha256=weights_sha256,
        weights_licence=weights_licence,
        dataset=dataset,
        dataset_sha256=dataset_sha256,
        machine=machine(),
        packages=versions,
    )


def machine() -> str:
    """Processor and system of this machine, for figures."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
