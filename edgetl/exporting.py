"""From a checkpoint and its data to an export request: the seam between training and the compiler."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgetl.calibration import calibration_frames, choose_calibration
from edgetl.data import Dataset, read_dataset
from edgetl.features.pooled import pooled_features
from edgetl.heads import kinds_of
from edgetl.metrics.predict import Evaluation, Frames, Infer, evaluate, scored_kinds
from edgetl.models.deploy import INPUT, Deployed
from edgetl.models.network import Network
from edgetl.models.reparameterise import for_deployment
from edgetl.shift.source import read_side
from edgetl.shift.statistics import fit_statistics, save_statistics
from edgetl.training.checkpoint import ModelCard, load_network
from edgetl_export.budget import Budget, Measured
from edgetl_export.export import Domain, Exported, ExportRequest, export
from edgetl_export.passes import PASSES, SIMPLIFY
from edgetl_export.publish import refuse_existing
from edgetl_export.report.page import Section
from edgetl_export.source import torch_source
from edgetl_runtime import __version__
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import machine
from edgetl_runtime.spec import EMBEDDING, Head, Provenance, at_threshold

PARITY_FRAMES = 8
DOMAIN_IMAGES = 500
FEWEST_DOMAIN_IMAGES = 20
PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "onnx",
    "onnxscript",
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
    max_drop_class: Mapping[str, float] | None = None,
    calibration: int,
    calibration_data: Sequence[str] = (),
    val_images: int,
    threshold: float | None,
    targets: Sequence[str],
    name: str,
    force: bool,
    simplify: bool = False,
    latency_runs: int = 60,
    sections: Sequence[Section] = (),
) -> Exported:
    """Export a checkpoint with calibration frames and metric from its dataset.

    max_drop: 0..1, of each head's metric; max_drop_class: the same of single classes. threshold: replaces every
    threshold that the checkpoint has. simplify: try onnxslim. calibration_data: further images to calibrate on, each as
    read_side takes it.
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
    further = [read_side(text, split="train") for text in calibration_data]
    chosen = choose_calibration([train, *further], calibration, size_hw=card.preprocess.size_hw)
    images, calibrated_on = calibration_frames(chosen, card.preprocess)
    domain = _domain(card, model, train, frames)
    model.backbone = for_deployment(model.backbone)
    module = Deployed(model, kinds, card.preprocess).eval()
    request = ExportRequest(
        name=name,
        source=torch_source(module, frames.images[0], input_name=INPUT, outputs=module.outputs, probes=module.probes),
        heads=heads,
        preprocess=card.preprocess,
        calibration=images,
        calibrated_on=calibrated_on,
        frames=frames.images[:: max(len(frames) // PARITY_FRAMES, 1)][:PARITY_FRAMES],
        metric=lambda infer: measured(evaluate(infer, frames, scored)),
        metric_name=card.metric or "mean",
        budget=Budget(max_drop, dict(max_drop_class or {})),
        validation=frames.images,
        targets=targets,
        provenance=_provenance(card),
        latency_runs=latency_runs,
        sections=sections,
        domain=domain,
        reliability=card.reliability,
        passes=(SIMPLIFY, *PASSES) if simplify else PASSES,
        trials_key=trials_key(frames, heads),
    )
    return export(request, out, force=force)


def measured(evaluation: Evaluation) -> Measured:
    """The metric of every head and class as the compiler's budget reads it."""
    classes = {name: dict(metric.per_class) for name, metric in evaluation.heads.items()}
    return Measured(evaluation.values, classes)


def trials_key(frames: Frames, heads: Sequence[Head]) -> str:
    """Of all that a trial depends on besides graph and engine: frames, labels, heads, packages, machine."""
    digest = hashlib.sha256(repr((heads, _versions(), machine())).encode())
    for image, sample in zip(frames.images, frames.dataset.samples, strict=True):
        digest.update(image.tobytes())
        digest.update(repr(sample).encode())
        for array in (sample.boxes, sample.labels, sample.ignore):
            digest.update(np.ascontiguousarray(array).tobytes())
        for mask in sample.masks:
            digest.update(str(mask and mask.stat().st_mtime_ns).encode())
    return digest.hexdigest()


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


def _versions() -> dict[str, str]:
    """The packages that a bundle is made with, where they are here."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


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
    return Provenance(
        edgetl=__version__,
        created=created(),
        architecture=architecture,
        weights=weights,
        weights_sha256=weights_sha256,
        weights_licence=weights_licence,
        dataset=dataset,
        dataset_sha256=dataset_sha256,
        machine=machine(),
        packages=_versions(),
    )


def created() -> str:
    """Now in UTC, or the time that SOURCE_DATE_EPOCH gives, for builds that are to come out the same again.

    See https://reproducible-builds.org/specs/source-date-epoch/. Raises InputError where it is no time.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.timezone.utc)
    if epoch is not None:
        try:
            now = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        except (ValueError, OverflowError, OSError) as error:
            raise InputError(
                f"SOURCE_DATE_EPOCH is {epoch!r}, expected seconds since 1970", remedy="unset it, or set a whole number"
            ) from error
    return now.replace(microsecond=0).isoformat()
