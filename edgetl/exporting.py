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
import torch
from numpy.typing import NDArray

from edgetl.data import Dataset, read_dataset
from edgetl.metrics.predict import Frames, Infer, evaluate
from edgetl.models.deploy import INPUT, OUTPUTS, PROBES, Deployed
from edgetl.models.detector import STRIDE
from edgetl.training.checkpoint import ModelCard, load_detector
from edgetl_export.export import Exported, ExportRequest, export
from edgetl_export.publish import refuse_existing
from edgetl_export.report.page import Section
from edgetl_runtime import __version__
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Decode, Provenance

MAX_DETECTIONS = 100
PARITY_FRAMES = 8
PACKAGES = ("torch", "timm", "onnx", "onnxruntime", "openvino", "numpy", "opencv-python", "tensorrt-rtx-cu13-libs")


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
    threshold: float,
    targets: Sequence[str],
    name: str,
    force: bool,
    latency_runs: int = 60,
    sections: Sequence[Section] = (),
) -> Exported:
    """Export a checkpoint with calibration frames and metric from its dataset. max_drop: 0..1."""
    refuse_existing(out, force=force)
    model, card = load_detector(checkpoint)
    root = data or Path(card.data_root)
    train, val = (read_dataset(root, split) for split in (train_split, val_split))
    for dataset in (train, val):
        if dataset.classes != card.classes:
            raise InputError(
                f"{dataset.name} has the classes {', '.join(dataset.classes)}; the checkpoint was trained on "
                f"{', '.join(card.classes)}",
                remedy="give the dataset that it was tuned on with --data",
            )
    if not any((~s.ignore).any() for s in val.take(val_images).samples):
        raise InputError(f"{val.name}: no labelled object to measure accuracy on", remedy="give another --val split")
    frames = Frames(val.take(val_images), card.preprocess, title="val images")
    calibration_frames = Frames(spread(train, calibration), card.preprocess, title="calibration").images
    module = Deployed(model, card.preprocess, MAX_DETECTIONS).eval()
    request = ExportRequest(
        name=name,
        module=module,
        reference=_reference(module),
        input_name=INPUT,
        outputs=OUTPUTS,
        probes=PROBES,
        labels=card.classes,
        preprocess=card.preprocess,
        decode=Decode(max_detections=MAX_DETECTIONS, score_threshold=threshold, stride=STRIDE),
        calibration=calibration_frames,
        frames=frames.images[:: max(len(frames) // PARITY_FRAMES, 1)][:PARITY_FRAMES],
        metric=lambda infer: evaluate(infer, frames, max_detections=MAX_DETECTIONS).ap50,
        metric_name="ap50",
        max_drop=max_drop,
        targets=targets,
        provenance=_provenance(card),
        latency_runs=latency_runs,
        sections=sections,
    )
    return export(request, out, force=force)


def spread(dataset: Dataset, number: int) -> Dataset:
    """Calibration images: spread evenly over the split, those with the most objects of each stretch."""
    if number >= len(dataset):
        return dataset
    edges = [round(i * len(dataset) / number) for i in range(number + 1)]
    chosen = [max(range(a, b), key=lambda i: len(dataset.samples[i].labels)) for a, b in pairwise(edges)]
    return dataset.only(chosen)


def _reference(module: Deployed) -> Infer:
    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        with torch.inference_mode():
            return dict(zip((*OUTPUTS, *PROBES), (o.numpy() for o in module(torch.from_numpy(frame))), strict=True))

    return infer


def _provenance(card: ModelCard) -> Provenance:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Provenance(
        edgetl=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0).isoformat(),
        architecture=f"{card.backbone} + centre detector, stride {STRIDE}",
        weights=card.weights.source,
        weights_sha256=card.weights.sha256,
        weights_licence=card.weights.licence,
        dataset=card.data,
        dataset_sha256=card.data_sha256,
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
