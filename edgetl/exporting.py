"""From a checkpoint and its data to an export request: the seam between training and the compiler."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.answers import JUDGED_IMAGES, known_answers
from edgetl.calibration import calibration_frames, choose_calibration
from edgetl.data import Dataset, Reading
from edgetl.heads import Kind, Scorable, Scoring, kinds_of
from edgetl.metrics.detection import parse_merge
from edgetl.metrics.predict import Frames, Infer, evaluate, letterboxed, remembering, scored_kinds
from edgetl.models.deploy import INPUT, Deployed, deployable
from edgetl.models.weights import sha256_of
from edgetl.shift.source import known_embeddings, read_side
from edgetl.shift.statistics import fit_statistics, save_statistics
from edgetl.training.checkpoint import ModelCard, checkpoint_file, load_network
from edgetl.versions import code_sha256, package_versions
from edgetl_export.budget import Budget, Measured, Metric, over_domains
from edgetl_export.candidates import Pair
from edgetl_export.export import Domain, Exported, ExportRequest, RunAll, export
from edgetl_export.passes import PASSES, SIMPLIFY, Pass
from edgetl_export.publish import refuse_existing
from edgetl_export.report.page import Section
from edgetl_export.source import torch_source
from edgetl_runtime import __version__
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import machine
from edgetl_runtime.spec import EMBEDDING, Calibration, DetectHead, Head, Preprocess, Provenance, at_threshold

PARITY_FRAMES = 8
DOMAIN_IMAGES = 500
FEWEST_DOMAIN_IMAGES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the user decides, whatever the network.

    data: where frames and labels come from; None for what a checkpoint was tuned on. reading: how it is read; what is
    not said is as it was when that was tuned. also_val: further splits that the
    budget is held on, like night beside day, each against what the network itself reaches there. max_drop: 0..1, of
    each head's metric; max_drop_class: the same of single classes. merge: further classes, each of several that are
    scored as one, like vehicle=car,bus,truck; they have the budget of a head where max_drop_class says nothing else.
    calibration: how many frames; calibration_data: further images to choose them from, each as read_side takes it.
    threshold: replaces every threshold that the network has. simplify: try onnxslim. force: replace an existing bundle.
    """

    data: Path | None
    reading: Reading = field(default_factory=Reading)
    train_split: str = "train"
    val_split: str = "val"
    also_val: Sequence[str] = ()
    max_drop: float = 0.005
    max_drop_class: Mapping[str, float] = field(default_factory=dict)
    merge: Sequence[str] = ()
    calibration: int = 64
    calibration_data: Sequence[str] = ()
    val_images: int = JUDGED_IMAGES
    threshold: float | None = None
    targets: Sequence[str]
    simplify: bool = False
    force: bool = False
    latency_runs: int = 60

    @property
    def budget(self) -> Budget:
        """What a variant may lose."""
        merged = tuple(text.partition("=")[0] for text in self.merge)
        return Budget(self.max_drop, dict.fromkeys(merged, self.max_drop) | dict(self.max_drop_class), merged)

    @property
    def further_splits(self) -> tuple[str, ...]:
        """also_val. Raises InputError for one that is there twice."""
        for i, split in enumerate(self.also_val):
            if split in (self.val_split, *self.also_val[:i]):
                raise InputError(f"--also-val {split}: the budget is held on it already", remedy="leave it out")
        return tuple(self.also_val)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What the float graph goes through."""
        return (SIMPLIFY, *PASSES) if self.simplify else PASSES

    def heads(self, heads: tuple[Head, ...]) -> tuple[Head, ...]:
        """A network's heads with the threshold that was asked for."""
        return heads if self.threshold is None else tuple(at_threshold(h, self.threshold) for h in heads)

    def calibrate(self, train: Dataset, preprocess: Preprocess) -> tuple[list[NDArray[np.uint8]], Calibration]:
        """Calibration frames (1, H, W, 3) uint8 of the training split and the further images, and their record."""
        further = [read_side(text, split="train") for text in self.calibration_data]
        chosen = choose_calibration([train, *further], self.calibration, size_hw=preprocess.size_hw)
        return calibration_frames(chosen, preprocess)


def export_checkpoint(
    checkpoint: Path, out: Path, options: ExportOptions, *, name: str, sections: Sequence[Section] = ()
) -> Exported:
    """Export a checkpoint with calibration frames and metric from its dataset. sections: for the report."""
    refuse_existing(out, force=options.force)
    model, card = load_network(checkpoint)
    heads = options.heads(card.heads)
    root, reading = card.data_from(options.data, options.reading)
    train = reading.read(root, options.train_split)
    kinds, val = _labelled(card, heads, reading.read(root, options.val_split))
    frames = Frames(val.take(options.val_images), card.preprocess, title="val images")
    metric = metric_of(frames, scored_kinds(kinds, frames.dataset), options.merge)
    judged = [frames]
    further: dict[str, Metric] = {}
    for split in options.further_splits:
        own, dataset = _labelled(card, heads, reading.read(root, split).take(options.val_images))
        judged.append(Frames(dataset, card.preprocess, title=f"{split} images"))
        further[split] = metric_of(judged[-1], scored_kinds(own, judged[-1].dataset), options.merge)
    images, calibrated_on = options.calibrate(train, card.preprocess)
    domain = _domain(card, train, frames)
    module = Deployed(deployable(model), kinds, card.preprocess).eval()
    source = torch_source(module, frames.images[0], input_name=INPUT, outputs=module.outputs, probes=module.probes)
    request = ExportRequest(
        name=name,
        source=replace(source, answers=partial(known_answers, checkpoint_file(checkpoint))),
        heads=heads,
        preprocess=card.preprocess,
        calibration=images,
        calibrated_on=calibrated_on,
        frames=parity_frames(frames),
        metric=over_domains(metric, further),
        metric_name=card.metric or "mean",
        budget=options.budget,
        validation=frames.images,
        further=[image for each in judged[1:] for image in each.images],
        targets=options.targets,
        provenance=_provenance(card),
        latency_runs=options.latency_runs,
        sections=sections,
        domain=domain,
        reliability=card.reliability,
        passes=options.passes,
        trials_key=trials_key(judged, heads, options.merge),
    )
    return export(request, out, force=options.force)


def _labelled(card: ModelCard, heads: tuple[Head, ...], dataset: Dataset) -> tuple[tuple[Kind, ...], Dataset]:
    """What to do with each head on this dataset. Raises InputError for a head that it has no labels for."""
    kinds = kinds_of(heads, dataset, backbone=card.backbone)
    missing = [k.head for k in kinds if not k.labelled(dataset)]
    if missing:
        found = ", ".join((*dataset.classes, *dataset.categories, *(layer.name for layer in dataset.layers))) or "none"
        raise InputError(
            f"{dataset.name} has no labels for the head {missing[0].name} with the classes "
            f"{', '.join(missing[0].labels)}; it has {found}",
            remedy="give the dataset that it was tuned on with --data",
        )
    return kinds, dataset


def parity_frames(frames: Frames) -> list[NDArray[np.uint8]]:
    """Some of the validation frames, spread over all: what tensors are compared on."""
    return frames.images[:: max(len(frames) // PARITY_FRAMES, 1)][:PARITY_FRAMES]


def metric_of(frames: Frames, kinds: Sequence[Scorable], merge: Sequence[str]) -> Metric:
    """The metric of every head, class, and merged class of boxes, as the compiler's budget reads it.

    Raises InputError for a merged class whose parts no head of boxes has, or that is called like one that is there.
    """
    scorings = [(kind, _scoring(kind, merge)) for kind in kinds if isinstance(kind.head, DetectHead)]
    labels = {label for kind in kinds for label in kind.head.labels}
    for text in merge:
        name = text.partition("=")[0]
        if name in labels:
            raise InputError(f"--merge {text}: there is a class {name!r} already", remedy="give it a name of its own")
        if not scorings:
            raise InputError(f"--merge {text}: no head of this network gives boxes", remedy="leave --merge out")

    names = [name for kind in kinds for name in kind.head.outputs]

    def kept(infer: Infer) -> Infer:
        """With outputs of their own: an engine may give the same arrays for each frame."""
        return remembering(
            lambda frame: {name: np.array(array) for name, array in infer(frame).items() if name in names}
        )

    def metric(infer: Infer) -> Measured:
        once = kept(infer) if merge else infer
        found = evaluate(once, frames, kinds, scoring=Scoring(ap50_only=True))
        classes = {name: dict(metric.per_class) for name, metric in found.heads.items()}
        for kind, scoring in scorings if merge else ():
            merged = evaluate(once, frames, [kind], scoring=scoring)
            classes[kind.head.name] |= merged.heads[kind.head.name].per_class
        return Measured(found.values, classes)

    return metric


def _scoring(kind: Scorable, merge: Sequence[str]) -> Scoring:
    return Scoring(merge=parse_merge(merge, kind.head.labels), ap50_only=True)


def trials_key(
    judged: Sequence[Frames], heads: Sequence[Head], merge: Sequence[str] = (), agreeing: Sequence[str] = ()
) -> str:
    """Of all that a trial depends on besides graph and engine: frames, labels, heads, edgetl's code, packages, machine.

    judged: the validation set, then the further ones. agreeing: the heads that no label judges, by name.
    """
    scored = (heads, tuple(merge), sorted(agreeing))
    digest = hashlib.sha256(repr((scored, code_sha256(), package_versions(), machine())).encode())
    for frames in judged:
        data = frames.dataset
        digest.update(repr((data.name, len(frames), data.classes, data.categories, data.layers)).encode())
        _add_frames(digest, frames)
    return digest.hexdigest()


def _add_frames(digest: hashlib._Hash, frames: Frames) -> None:
    for image, sample in zip(frames.images, frames.dataset.samples, strict=True):
        digest.update(image.tobytes())
        digest.update(repr(sample).encode())
        for array in (sample.boxes, sample.labels, sample.ignore):
            digest.update(np.ascontiguousarray(array).tobytes())
        for mask in sample.masks:
            digest.update(mask.read_bytes() if mask else b"none")


def _domain(card: ModelCard, train: Dataset, frames: Frames) -> Domain | None:
    """Statistics of the training images, and how far the validation images lie from them, on the chosen engine."""
    images = train.take(DOMAIN_IMAGES)
    if min(len(images), len(frames)) < FEWEST_DOMAIN_IMAGES:
        return None

    def write(path: Path, run: RunAll, pair: Pair) -> None:
        def embeddings() -> NDArray[np.float32]:
            return _embeddings(run(letterboxed(images, card.preprocess, title="training domain")))

        known = known_embeddings(sha256_of(pair.file), pair.engine, pair.precision, images, embeddings)
        save_statistics(path, fit_statistics(known, held_out=_embeddings(run(frames.images))))

    return Domain(EMBEDDING, len(images), write)


def _embeddings(outputs: Iterable[Mapping[str, NDArray[np.generic]]]) -> NDArray[np.float32]:
    """(N, D) of the outputs of N frames."""
    return np.concatenate([np.array(each[EMBEDDING], np.float32) for each in outputs])


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
        packages=package_versions(),
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
