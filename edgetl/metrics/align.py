"""A dataset in the words of a network: its classes, categories and masks under the network's labels, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from edgetl.data import Dataset
from edgetl.data.dataset import MaskLayer
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead

Names = Mapping[str, Sequence[str]]
"""A label of the network -> the dataset's names for it; `*` for all that no other label names."""
REST = "*"


def align(dataset: Dataset, heads: Sequence[Head], names: Mapping[str, Names] | None = None) -> Dataset:
    """The dataset with labels as the heads have them; what no head speaks of stays as it is.

    names: by head. Where a head has names, a class that is neither named nor a label is left out. Where it has none,
    every class of boxes must be a label; categories stay as they are unless all are. Raises InputError for a class of
    boxes that the network doesn't know.
    """
    names = names or {}
    for head in heads:
        own = names.get(head.name, {})
        if isinstance(head, DetectHead) and dataset.classes:
            dataset = _boxes(dataset, _table(dataset, head.labels, own), head.labels)
        elif (
            isinstance(head, ClassifyHead)
            and dataset.categories
            and (own or set(dataset.categories) <= set(head.labels))
        ):
            dataset = _categories(dataset, _places(dataset.categories, head.labels, own), head.labels)
        elif isinstance(head, SegmentHead) and own:
            dataset = _masks(dataset, head, own)
    return dataset


def left_out(dataset: Dataset, heads: Sequence[Head], names: Mapping[str, Names]) -> tuple[str, ...]:
    """The dataset's classes of boxes and categories that no label stands for."""
    missing: list[str] = []
    for head in heads:
        found = {DetectHead: dataset.classes, ClassifyHead: dataset.categories}.get(type(head), ())
        own = names.get(head.name, {})
        missing += [c for c, i in zip(found, _places(found, head.labels, own), strict=True) if i < 0]
    return tuple(missing)


def _places(classes: Sequence[str], labels: Sequence[str], names: Names) -> list[int]:
    """The label's index of every class, -1 where there is none: by its names, by its own, by the rest."""
    named = {theirs: labels.index(label) for label, each in names.items() for theirs in each if label in labels}
    rest = named.pop(REST, -1)
    own = {label: i for i, label in enumerate(labels)}
    return [named.get(c, own.get(c, rest)) for c in classes]


def _table(dataset: Dataset, labels: Sequence[str], names: Names) -> list[int]:
    """Where each class of boxes stands among the labels."""
    table = _places(dataset.classes, labels, names)
    unknown = [c for c, i in zip(dataset.classes, table, strict=True) if i < 0]
    if unknown and not names:
        raise InputError(
            f"{dataset.name} has classes that the network doesn't know: {', '.join(unknown)}",
            remedy=f"the network's classes are: {', '.join(labels)}",
        )
    return table


def _boxes(dataset: Dataset, table: Sequence[int], labels: tuple[str, ...]) -> Dataset:
    if dataset.classes == labels and list(table) == list(range(len(labels))):
        return dataset
    places = np.array(table, np.int64)
    samples = []
    for s in dataset.samples:
        moved = places[s.labels]
        kept = moved >= 0
        samples.append(dataclasses.replace(s, boxes=s.boxes[kept], labels=moved[kept], ignore=s.ignore[kept]))
    return dataclasses.replace(dataset, classes=labels, samples=tuple(samples))


def _categories(dataset: Dataset, table: Sequence[int], labels: tuple[str, ...]) -> Dataset:
    if dataset.categories == labels and list(table) == list(range(len(labels))):
        return dataset
    samples = (dataclasses.replace(s, category=table[s.category] if s.category >= 0 else -1) for s in dataset.samples)
    return dataclasses.replace(dataset, categories=labels, samples=tuple(samples))


def _masks(dataset: Dataset, head: SegmentHead, names: Names) -> Dataset:
    """The layer of the head's name, or the only one, with each label's pixel values."""
    layers = list(dataset.layers)
    place = next((i for i, layer in enumerate(layers) if layer.name == head.name), 0 if len(layers) == 1 else -1)
    if place < 0:
        return dataset
    layer = layers[place]
    table = _places(layer.classes, head.labels, names)
    values: list[list[int]] = [[] for _ in head.labels]
    for value, label in zip(layer.values or range(len(layer.classes)), table, strict=True):
        if label >= 0:
            values[label] += value if isinstance(value, tuple) else [value]
    layers[place] = MaskLayer(head.name, head.labels, tuple(tuple(v) for v in values))
    return dataclasses.replace(dataset, layers=tuple(layers))
