"""Where a fine-tuning run starts: pretrained weights with new heads, or an earlier checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.data import Dataset, Reading
from edgetl.data.histograms import category_counts, mask_counts
from edgetl.heads import Kind, build_network, heads_for, kinds_of
from edgetl.heads.segment import Segment
from edgetl.models.detr import is_detr
from edgetl.models.network import Network
from edgetl.training.checkpoint import Checkpoint, ModelCard, load_checkpoint, network_from
from edgetl.training.config import TuneConfig
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import DetectHead, Head, Preprocess


def first_model(
    train: Dataset, config: TuneConfig, data_root: str, reading: Reading | None = None
) -> tuple[ModelCard, Network, tuple[Kind, ...]]:
    """The network that a run starts from, in eval mode, its card, and what its heads are.

    Raises InputError for a head that the training images teach nothing, and for settings that don't fit.
    """
    start = load_checkpoint(Path(config.start)) if config.start else None
    backbone = start.card.backbone if start else config.backbone
    _check_recipe(backbone, config)
    heads = heads_for(
        train,
        config.tasks,
        layers=config.layers,
        max_detections=config.max_detections,
        mask_stride=config.mask_stride,
        backbone=backbone,
    )
    kinds = kinds_of(heads, train, backbone=backbone)
    for kind in kinds:
        _check_taught(kind, train)
    if start:
        card, model = _from_checkpoint(start, heads, config)
    else:
        card, model = _from_weights(heads, kinds, config)
    for kind in kinds:
        if isinstance(kind, Segment):
            kind.weigh(_pixels(kind, train))
    card = dataclasses.replace(
        card,
        data=train.name,
        data_root=data_root,
        data_sha256=train.fingerprint(),
        reading=reading or Reading(),
    )
    _try_size(model, kinds, card.backbone, config)
    return card, model, kinds


def _check_taught(kind: Kind, train: Dataset) -> None:
    """Raise InputError where a head would learn from no label, or from one class with nothing to tell it from."""
    head = kind.head
    if isinstance(head, DetectHead):
        if not kind.labelled(train):
            raise InputError(
                f"{train.name}: none of its {len(train)} images has a labelled object",
                remedy="look where its labels lie: `edgetl data check` counts them",
            )
        return
    counts = _pixels(kind, train) if isinstance(kind, Segment) else category_counts(train).sum(axis=0)
    shown = [label for label, count in zip(head.labels, counts.tolist(), strict=True) if count]
    if len(shown) > 1:
        return
    what = f"masks of {head.name}" if isinstance(kind, Segment) else "categories"
    raise InputError(
        f"{train.name}: the {what} show {f'only {shown[0]}' if shown else 'no class'}, there is nothing to tell apart",
        remedy="state which pixel values mean which class in classes.txt (a name, a tab, 255); `edgetl data check` "
        "lists those found"
        if isinstance(kind, Segment)
        else "give images of a second category",
    )


def _pixels(kind: Segment, train: Dataset) -> NDArray[np.int64]:
    """(C,) how many pixels the training masks have of each class."""
    return np.asarray(mask_counts(train, kind.layer).per_class(train.layers[kind.layer]).sum(axis=0))


def load_teacher(path: Path, student: ModelCard) -> Network:
    """A network to imitate, frozen. Raises InputError where it speaks of other things or sees frames otherwise."""
    checkpoint = load_checkpoint(path)
    theirs, heads, preprocess = checkpoint.card, student.heads, student.preprocess
    if _meanings(theirs.heads) != _meanings(heads):
        raise InputError(
            f"the teacher {path} has the heads {_named(theirs.heads)}, the student {_named(heads)}",
            remedy="give a teacher of the same tasks and classes",
        )
    if is_detr(theirs.backbone) != is_detr(student.backbone):
        raise InputError(
            f"the teacher {path} is {theirs.backbone}, which finds boxes in another way than {student.backbone}",
            remedy="give a teacher of the student's family",
        )
    if (theirs.preprocess.mean, theirs.preprocess.std) != (preprocess.mean, preprocess.std):
        raise InputError(
            f"the teacher {path} wants frames normalised by mean {theirs.preprocess.mean} and std "
            f"{theirs.preprocess.std}, the student by {preprocess.mean} and {preprocess.std}",
            remedy="give a teacher whose weights were pretrained with the same normalisation",
        )
    return network_from(checkpoint, path).requires_grad_(False)


def _from_checkpoint(checkpoint: Checkpoint, heads: tuple[Head, ...], config: TuneConfig) -> tuple[ModelCard, Network]:
    path, card = Path(config.start), checkpoint.card
    if _meanings(card.heads) != _meanings(heads):
        raise InputError(
            f"--start {path} has the heads {_named(card.heads)}, this data and task want {_named(heads)}",
            remedy="start from a checkpoint of the same task and classes, or from weights",
        )
    preprocess = msgspec.structs.replace(card.preprocess, size_hw=config.size_hw)
    history = (*card.history, f"from {card.data}")
    # What was measured was so of the old data, temperature and size.
    card = dataclasses.replace(
        card, heads=heads, preprocess=preprocess, history=history, metric="", value=0.0, reliability={}
    )
    return card, network_from(checkpoint, path)


def _from_weights(heads: tuple[Head, ...], kinds: tuple[Kind, ...], config: TuneConfig) -> tuple[ModelCard, Network]:
    built = build_network(
        config.backbone,
        config.weights,
        kinds,
        fold=config.frozen_norms,
        use=config.use,
        allow_license=config.allow_license,
    )
    preprocess = Preprocess(
        size_hw=config.size_hw, mean=built.input_range.mean, std=built.input_range.std, channel_order="rgb"
    )
    card = ModelCard(
        heads=heads,
        backbone=config.backbone,
        preprocess=preprocess,
        weights=built.weights,
        data="",
        data_root="",
        data_sha256="",
        folded=built.folded,
    )
    return card, built.network


def _check_recipe(backbone: str, config: TuneConfig) -> None:
    if is_detr(backbone) and config.recipe in {"probe", "surgical"}:
        raise InputError(
            f"the recipe {config.recipe} needs a backbone of timm's, {backbone} can only be fine-tuned whole",
            remedy="give --recipe full",
        )


def _meanings(heads: tuple[Head, ...]) -> list[tuple[type, str, tuple[str, ...]]]:
    return [(type(h), h.name, h.labels) for h in heads]


def _named(heads: tuple[Head, ...]) -> str:
    return "; ".join(f"{h.name}: {', '.join(h.labels)}" for h in heads)


def _try_size(model: Network, kinds: Sequence[Kind], backbone: str, config: TuneConfig) -> None:
    """Raise InputError where the network or its decoding can't take frames of the size asked for."""
    for name, (height, width) in (("--size", config.size_hw), ("--crop", config.crop_hw)):
        try:
            with torch.inference_mode():
                raw = model(torch.zeros(1, 3, height, width)).heads
                for kind in kinds if name == "--size" else ():
                    kind.decode(raw[kind.head.name])
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:100]
            raise InputError(
                f"{backbone} can't take frames of {width}x{height} ({reason})", remedy=f"give a larger {name}"
            ) from error
