"""Heads from a dataset and the tasks asked for, and the network that carries them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from torch import nn

from edgetl.heads.classify import Classify
from edgetl.heads.detect import Detect
from edgetl.heads.detr import DetectByQueries
from edgetl.heads.kind import Kind
from edgetl.heads.segment import Segment
from edgetl.models.backbone import Backbone, InputRange, WeightSource, build_backbone
from edgetl.models.detector import STRIDE
from edgetl.models.detr import DETRS, INPUT_RANGE, is_detr
from edgetl.models.detr_weights import build_detr
from edgetl.models.licences import Use
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
    backbone: str = "",
) -> tuple[Head, ...]:
    """The contract of every head that these tasks need on this dataset.

    layers: names of the layers of masks to learn, all where empty. Raises InputError for a task that the dataset has
    no labels for, naming those that it has, for one class where there must be several, and for a layer whose name a
    head can't have.
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
    for head in heads:
        _check(dataset, head, [h.name for h in heads])
    return tuple(_of_queries(h, backbone) for h in heads) if is_detr(backbone) else tuple(heads)


def _of_queries(head: Head, detector: str) -> Head:
    """The contract as a detector of queries can keep it."""
    if not isinstance(head, DetectHead):
        raise InputError(f"{detector} finds boxes only, not {head.name}", remedy="give a backbone of timm's")
    entry = DETRS[detector]
    most = min(head.max_detections, entry.queries)
    return msgspec.structs.replace(head, max_detections=most, stride=entry.strides[0])


def _check(dataset: Dataset, head: Head, names: Sequence[str]) -> None:
    if not isinstance(head, DetectHead) and len(head.labels) < 2:
        raise InputError(
            f"{dataset.name}: the head {head.name} would know only {head.labels[0]}, there is nothing to tell apart",
            remedy="name a second class, such as background",
        )
    # The heads are attributes of a torch module, whose own names they must not hide.
    if names.count(head.name) > 1 or hasattr(nn.ModuleDict(), head.name):
        raise InputError(f"{dataset.name}: the name {head.name!r} of a layer of masks is taken", remedy="rename it")


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


def kinds_of(heads: Sequence[Head], dataset: Dataset | None = None, *, backbone: str = "") -> tuple[Kind, ...]:
    """What to do with each head.

    dataset: tells which of its layers of masks belongs to which. backbone: its name, which may be that of a whole
    detector; not needed where heads are only scored.
    """
    places = {layer.name: i for i, layer in enumerate(dataset.layers)} if dataset is not None else {}
    kinds: list[Kind] = []
    for head in heads:
        if isinstance(head, DetectHead):
            kinds.append(DetectByQueries(head, backbone) if is_detr(backbone) else Detect(head))
        elif isinstance(head, SegmentHead):
            kinds.append(Segment(head, places.get(head.name, 0)))
        else:
            kinds.append(Classify(head))
    return tuple(kinds)


@dataclass(frozen=True, slots=True)
class Built:
    """A network in eval mode, what it wants its frames normalised by, and what its weights are."""

    network: Network
    input_range: InputRange
    weights: WeightSource
    folded: bool = False


def build_network(
    name: str,
    weights: str,
    kinds: Sequence[Kind],
    *,
    fold: bool = False,
    use: Use = "commercial",
    allow_license: bool = False,
) -> Built:
    """The network `name` for these heads: a backbone with new heads on it, or a whole detector.

    weights, fold, use, allow_license: as in build_backbone, build_detr. Raises InputError and MissingPackage as these.
    """
    if is_detr(name):
        detector, source = build_detr(name, kinds[0].head.labels, weights, use=use, allow_license=allow_license)
        return Built(detector, INPUT_RANGE, source)
    backbone = build_backbone(name, weights, fold=fold, use=use, allow_license=allow_license)
    return Built(network_of(backbone, kinds).eval(), backbone.input_range, backbone.weights, backbone.folded)


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
