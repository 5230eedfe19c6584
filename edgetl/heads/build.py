"""Heads from a dataset and the tasks asked for, and the network that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgetl.heads.classify import Classify
from edgetl.heads.detect import Detect
from edgetl.heads.kind import Kind
from edgetl.heads.segment import Segment
from edgetl.models.backbone import Backbone
from edgetl.models.detector import STRIDE
from edgetl.models.neck import WIDTHS
from edgetl.models.network import Network
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead

if TYPE_CHECKING:
    from edgetl.data import Dataset

TASKS = ("detect", "segment", "classify")
THRESHOLD = 0.3
"""The score that counts until a threshold was fitted on validation images."""


def heads_for(
    dataset: Dataset,
    tasks: Sequence[str],
    *,
    layers: Sequence[str] = (),
    max_detections: int = 100,
    mask_stride: int = 2,
) -> tuple[Head, ...]:
    """The contract of every head that these tasks need on this dataset.

    layers: names of the layers of masks to learn, all where empty. Raises InputError for a task that the dataset has
    no labels for, naming those that it has.
    """
    heads: list[Head] = []
    for task in tasks:
        if task == "detect" and dataset.classes:
            thresholds = (THRESHOLD,) * len(dataset.classes)
            heads.append(
                DetectHead(labels=dataset.classes, max_detections=max_detections, thresholds=thresholds, stride=STRIDE)
            )
        elif task == "segment" and dataset.layers:
            heads += _segment_heads(dataset, layers, mask_stride)
        elif task == "classify" and dataset.categories:
            heads.append(ClassifyHead(labels=dataset.categories, thresholds=(0.0,) * len(dataset.categories)))
        else:
            found = ", ".join(tasks_of(dataset)) or "no labels at all"
            raise InputError(f"{dataset.name} has no labels for the task {task!r}; it has labels for: {found}")
    return tuple(heads)


def tasks_of(dataset: Dataset) -> tuple[str, ...]:
    """The tasks that a dataset has labels for."""
    have = {"detect": dataset.classes, "segment": dataset.layers, "classify": dataset.categories}
    return tuple(task for task in TASKS if have[task])


def _segment_heads(dataset: Dataset, layers: Sequence[str], mask_stride: int) -> list[Head]:
    known = {layer.name: layer for layer in dataset.layers}
    unknown = [name for name in layers if name not in known]
    if unknown:
        raise InputError(f"{dataset.name} has no layer of masks {unknown[0]!r}, it has {', '.join(known)}")
    return [SegmentHead(name=n, labels=known[n].classes, stride=mask_stride) for n in (layers or known)]


def kinds_of(heads: Sequence[Head], dataset: Dataset | None = None) -> tuple[Kind, ...]:
    """What to do with each head; `dataset` tells which of its layers of masks belongs to which."""
    places = {layer.name: i for i, layer in enumerate(dataset.layers)} if dataset else {}
    kinds: list[Kind] = []
    for head in heads:
        if isinstance(head, DetectHead):
            kinds.append(Detect(head))
        elif isinstance(head, SegmentHead):
            kinds.append(Segment(head, places.get(head.name, 0)))
        else:
            kinds.append(Classify(head))
    return tuple(kinds)


def network_of(backbone: Backbone, kinds: Sequence[Kind]) -> Network:
    """A network with a new head of every kind."""
    modules = {
        place: {
            k.head.name: k.module(WIDTHS[0] if place == "dense" else backbone.channels[-1])
            for k in kinds
            if k.place == place
        }
        for place in ("dense", "whole")
    }
    return Network(backbone, modules["dense"], modules["whole"])
