"""A checkpoint and unlabelled frames of a new domain to an adapted checkpoint, or to the reason why not.

First the frames are labelled by the network with its statistics re-estimated on them, where that finds more; then a
student learns from those labels, from the original labels, and from the original images in the new domain's light. Its
own moving average labels the later rounds, with thresholds fitted anew on the original validation images, because a
student grows surer of its own labels. The gate decides; the old checkpoint is never touched.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from torch import Tensor

from edgetl.adapt.gate import Evidence, Verdict, judge
from edgetl.adapt.pseudo import pseudo_labelled
from edgetl.adapt.renormalise import output_moments, renormalise
from edgetl.adapt.restyle import dark_share, restyled
from edgetl.data import Dataset, read_image
from edgetl.data.leaks import find_leaks
from edgetl.heads import Kind, kinds_of
from edgetl.metrics.predict import Evaluation, Frames, evaluate, remembering, scored_kinds
from edgetl.metrics.subject import Subject
from edgetl.models.detr import DetrNetwork
from edgetl.models.infer import TorchInfer
from edgetl.models.network import Network
from edgetl.models.normalise import Normalise
from edgetl.shift.accuracy import AccuracyEstimate, confidences, estimate_accuracy, speaking
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import augmented_batches
from edgetl.training.checkpoint import Checkpoint, ModelCard, load_network, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.learn import Balance, train_step
from edgetl.training.memory import out_of_memory
from edgetl.training.optimise import Average, freeze_first, freeze_statistics, parameter_groups
from edgetl.training.trust import fit_trust, untempered
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import Letterbox
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Above0, Frozen, Head, Positive, Reliability, Share

MOMENT_IMAGES = 128
MOMENT_BATCH = 8
NIGHT = 0.4
"""Chance that a labelled image turns to night where all frames of the new domain are dark."""


class AdaptConfig(Frozen, frozen=True, kw_only=True):
    """rounds of self-training; each sees every unlabelled frame once, and `labelled` times as many labelled ones,
    half of them restyled, and the darker the new domain the more of them turned to night. new_share: how much the new
    domain's statistics count in the first labelling."""

    rounds: Annotated[int, msgspec.Meta(ge=0)] = 4
    labelled: Above0 = 3.0
    new_share: Share = 0.7
    batch: Positive = 4
    crop_hw: tuple[Positive, Positive] | None = None
    head_lr: Above0 = 3e-4
    backbone_lr: Above0 = 2e-4
    ema_decay: Share = 0.995
    max_loss: Share = 0.005
    val_images: Positive = 250
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.crop_hw is not None and any(side % 32 for side in self.crop_hw):
            raise ValueError(f"crop_hw must be multiples of 32, found {self.crop_hw[0]}x{self.crop_hw[1]}")


@dataclass(frozen=True, slots=True)
class Stage:
    """One thing that was tried: what it is, the evidence of the network after it, and the verdict on it."""

    name: str
    evidence: Evidence
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Adapted:
    """checkpoint: the adapted one, None where the gate refused all. stages in order, the first is the old network."""

    checkpoint: Path | None
    metric: str
    stages: tuple[Stage, ...]


def adapt(
    checkpoint: Path, unlabelled: Dataset, train: Dataset, val: Dataset, out: Path, config: AdaptConfig
) -> Adapted:
    """Adapt to the unlabelled images. train, val: the labelled data that the checkpoint was made with.

    Writes out/best.pt where the gate accepts; after Ctrl-C what it accepted before. Raises InputError where the
    labelled data don't fit the checkpoint, and where the network can't learn from batches of the size asked for or
    memory can't hold them.
    """
    network, card = load_network(checkpoint)
    judged_by = val.take(config.val_images)
    _refuse_silent(card, train, val, judged_by)
    _refuse_judges(unlabelled, val, "the new images")
    _refuse_judges(train, val, f"the labelled images of {train.name}")
    _try_batch(network, card, config)
    torch.manual_seed(config.seed)
    judge_ = _Judge(card, judged_by, unlabelled, config)
    stages = [judge_.stage("as it was", network)]
    before = stages[0].evidence
    if not math.isfinite(before.value):
        raise InputError(
            f"{val.name}: nothing in its {len(judged_by)} images can be scored",
            remedy="give validation images with labels, or more of them with --val-images",
        )
    labeller = _renormalised(network, card, train, unlabelled, config)
    stages.append(judge_.stage("statistics re-estimated", labeller, before))
    teacher = labeller if _finds_more(stages[1].evidence, before) else network
    best: tuple[Stage, dict[str, Tensor]] | None = None
    if stages[1].verdict.accepted and _finds_more(stages[1].evidence, before):
        best = stages[1], _state(labeller)
    try:
        with tempfile.TemporaryDirectory(prefix="adapt-", dir=out) as scratch:
            for number, student in enumerate(
                _rounds(network, teacher, card, judge_, unlabelled, train, Path(scratch), config), start=1
            ):
                stage = judge_.stage(f"self-training, round {number}", student, before)
                stages.append(stage)
                if stage.verdict.accepted and (best is None or not _worse(stage.evidence, best[0].evidence)):
                    best = stage, _state(student)
    except KeyboardInterrupt:
        if best is None:
            raise
        sys.stderr.write(f"\nadapt        stopped; what came of it so far is kept: {best[0].name}\n")
    if best is None:
        return Adapted(None, judge_.metric, tuple(stages))
    note = f"adapted to {unlabelled.name} ({len(unlabelled)} images): {best[0].name}"
    network.load_state_dict(best[1])
    heads, reliability = judge_.trust(network)
    kept = dataclasses.replace(
        card,
        heads=heads,
        reliability=reliability,
        value=best[0].evidence.value,
        history=(*card.history, note),
    )
    save_checkpoint(out / "best.pt", Checkpoint(kept, best[1]))
    return Adapted(out / "best.pt", judge_.metric, tuple(stages))


def _refuse_silent(card: ModelCard, train: Dataset, val: Dataset, judged_by: Dataset) -> None:
    """Raise InputError for a head without labels on a side or among the judging images: it could be spoilt unseen."""
    for side in (train, val):
        missing = _unlabelled_heads(card, side)
        if missing:
            raise InputError(
                f"{side.name} has no labels for the head {missing[0]}", remedy="give the data it was tuned on"
            )
    missing = _unlabelled_heads(card, judged_by)
    if missing:
        raise InputError(
            f"{val.name}: of its {len(val)} images the {len(judged_by)} to judge by have no labels for the head "
            f"{missing[0]}",
            remedy="judge by more of them with --val-images",
        )


def _unlabelled_heads(card: ModelCard, side: Dataset) -> list[str]:
    return [k.head.name for k in kinds_of(card.heads, side, backbone=card.backbone) if not k.labelled(side)]


def _try_batch(network: Network, card: ModelCard, config: AdaptConfig) -> None:
    """Raise InputError where the network can't learn from batches of this size, before there is work to lose."""
    if not config.rounds:
        return
    whole = all(k.place == "whole" for k in kinds_of(card.heads, backbone=card.backbone))
    height, width = card.preprocess.size_hw if whole or config.crop_hw is None else config.crop_hw
    student = copy.deepcopy(network).train()
    freeze_statistics(student.backbone.modules())
    try:
        with torch.no_grad(), _memory_told(config):
            student(torch.zeros(min(config.batch, 2), 3, height, width))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:100]
        raise InputError(
            f"{card.backbone} can't learn from a batch of {config.batch} with crops of {width}x{height} ({reason})",
            remedy="give a larger --batch or --crop",
        ) from error


def _refuse_judges(learnt: Dataset, val: Dataset, which: str) -> None:
    """Raise InputError where the gate would judge by images that were learnt from."""
    shared = [leak for leak in find_leaks(learnt, val, full=False).pairs if leak.why == "same file"]
    if shared:
        raise InputError(
            f"{len(shared)} of the {len(val)} validation images of {val.name} are among {which}, such as "
            f"{learnt.samples[shared[0].first].image}: the gate could not tell what was lost",
            remedy="leave them out, or judge by others",
        )


def _finds_more(after: Evidence, before: Evidence) -> bool:
    return after.estimate is not None and before.estimate is not None and after.estimate > before.estimate


def _worse(one: Evidence, other: Evidence) -> bool:
    return one.estimate is not None and other.estimate is not None and one.estimate < other.estimate


def _state(network: Network) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in network.state_dict().items()}


class _Judge:
    """Gathers evidence of a network: the original validation metric, and the label-free estimate."""

    def __init__(self, card: ModelCard, val: Dataset, unlabelled: Dataset, config: AdaptConfig) -> None:
        self._card, self._val, self._config = card, val, config
        self._frames = Frames(val, card.preprocess, title="val images")
        new = unlabelled if speaking(card.heads) else unlabelled.only(())
        self._new_frames = Frames(new, card.preprocess, title="new images")
        self._kinds = scored_kinds(kinds_of(card.heads, val, backbone=card.backbone), val)
        self.metric = ""

    def stage(self, name: str, network: Network, before: Evidence | None = None) -> Stage:
        """What this network is worth, and against `before` whether it may replace it."""
        kinds = kinds_of(self._card.heads, backbone=self._card.backbone)
        infer = remembering(TorchInfer(network.eval(), kinds, self._card.preprocess))
        found: Evaluation = evaluate(infer, self._frames, self._kinds, title=f"judging: {name}")
        self.metric = found.metric
        subject = Subject(infer, self._card.heads, self._card.preprocess, "torch", "fp32")
        estimates = _estimates(subject, self._frames, self._new_frames)
        mean = float(np.mean(list(estimates.values()))) if estimates else None
        evidence = Evidence(found.value, mean, found.values, estimates)
        if before is None:
            return Stage(name, evidence, Verdict(True, "the network as it was"))
        return Stage(name, evidence, judge(before, evidence, metric=found.metric, max_loss=self._config.max_loss))

    def trust(self, network: Network) -> tuple[tuple[Head, ...], dict[str, Reliability]]:
        """Temperature and thresholds of this network, fitted anew on the validation images."""
        kinds = kinds_of(untempered(self._card.heads), self._val, backbone=self._card.backbone)
        return fit_trust(TorchInfer(network.eval(), kinds, self._card.preprocess), self._frames, kinds)


def _estimates(subject: Subject, val: Frames, unlabelled: Frames) -> dict[str, float]:
    """Right boxes an image, or accuracy, on the new domain, of every head that can be judged."""
    if not speaking(subject.heads):
        return {}
    reference, _ = confidences(subject, val)
    new, _ = confidences(subject, unlabelled)
    values: dict[str, float] = {}
    for name, known in reference.items():
        if known.correct is None or min(len(known.scores), len(new[name].scores)) < 20:
            continue
        found: AccuracyEstimate = estimate_accuracy(known, new[name], bootstraps=1)
        values[name] = found.estimate.value if found.right_per_image is None else found.right_per_image
    return values


def _renormalised(
    network: Network, card: ModelCard, train: Dataset, unlabelled: Dataset, config: AdaptConfig
) -> Network:
    """A copy with its statistics re-estimated on the new domain."""
    old = output_moments(network, _frames_of(train.take(MOMENT_IMAGES), card, "old statistics"))
    new = output_moments(network, _frames_of(unlabelled.take(MOMENT_IMAGES), card, "new statistics"), old)
    changed = copy.deepcopy(network)
    height, width = card.preprocess.size_hw
    renormalise(changed, old, new, config.new_share, torch.zeros(1, 3, height, width))
    return changed


def _frames_of(dataset: Dataset, card: ModelCard, title: str) -> Iterator[Tensor]:
    letterbox, normalise = Letterbox(card.preprocess), Normalise(card.preprocess)
    with Progress(title, len(dataset), unit="images") as progress:
        for start in range(0, len(dataset), MOMENT_BATCH):
            part = dataset.samples[start : start + MOMENT_BATCH]
            frames = np.concatenate([letterbox(read_image(s.image))[0].copy() for s in part])
            yield normalise(torch.from_numpy(frames))
            progress.step(len(part))


def _rounds(
    network: Network,
    teacher: Network,
    card: ModelCard,
    judge_: _Judge,
    unlabelled: Dataset,
    train: Dataset,
    scratch: Path,
    config: AdaptConfig,
) -> Iterator[Network]:
    """The averaged student after every round."""
    student, averaged = copy.deepcopy(network), copy.deepcopy(teacher)
    kinds = kinds_of(card.heads, train, backbone=card.backbone)
    tuning = TuneConfig(head_lr=config.head_lr, backbone_lr=config.backbone_lr)
    if not isinstance(student, DetrNetwork):
        freeze_first(student.eval().backbone, tuning.freeze_stride)
    optimiser = torch.optim.AdamW(parameter_groups(student, tuning, transfer=True), foreach=True)
    average, balance = Average(student, config.ema_decay), Balance()
    normalise = Normalise(card.preprocess)
    own = max(round(config.labelled * len(unlabelled)), 1)
    steps = config.rounds * max((len(unlabelled) + min(own, len(train))) // config.batch, 1)
    step = 0
    rng = np.random.default_rng(config.seed)
    augment = AugmentConfig(pad_value=card.preprocess.pad_value)
    augment = dataclasses.replace(augment, night=augment.night + (NIGHT - augment.night) * dark_share(unlabelled))
    for number in range(config.rounds):
        folder = scratch / str(number)
        folder.mkdir()
        labelling = kinds_of(judge_.trust(averaged)[0], train, backbone=card.backbone)
        data = _round_data(averaged, labelling, card, unlabelled, train, own, folder, rng)
        student.train()
        freeze_statistics(student.backbone.modules())
        with Progress(f"round {number + 1}/{config.rounds}", len(data) // config.batch, unit="steps") as progress:
            for batch in augmented_batches(
                data,
                kinds,
                crop_hw=config.crop_hw or card.preprocess.size_hw,
                network_hw=card.preprocess.size_hw,
                batch=config.batch,
                seed=config.seed,
                epoch=number,
                config=augment,
            ):
                with _memory_told(config):
                    loss, _ = train_step(student, batch, kinds, normalise, optimiser, balance, step=step, steps=steps)
                average.update(student)
                step += 1
                progress.step(note=f"loss {loss:.3f}")
        averaged = copy.deepcopy(student)
        averaged.load_state_dict(average.state)
        yield averaged.eval()


@contextmanager
def _memory_told(config: AdaptConfig) -> Iterator[None]:
    """Raise InputError where a training step does not fit in memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"a batch of {config.batch} frames does not fit in memory", remedy="give a smaller --batch or --crop"
        ) from error


def _round_data(
    labeller: Network,
    kinds: Sequence[Kind],
    card: ModelCard,
    unlabelled: Dataset,
    train: Dataset,
    own: int,
    folder: Path,
    rng: np.random.Generator,
) -> Dataset:
    """The unlabelled frames with fresh labels, and labelled ones of which every other is restyled."""
    pseudo = pseudo_labelled(labeller.eval(), kinds, card.preprocess, unlabelled, train, folder)
    picked = train.only(rng.permutation(len(train))[:own].tolist())
    seed = int(rng.integers(1 << 31))
    dark = restyled(picked.only(range(0, len(picked), 2)), unlabelled, folder, seed=seed)
    plain = picked.only(range(1, len(picked), 2))
    return dataclasses.replace(train, samples=(*pseudo.samples, *dark.samples, *plain.samples))
