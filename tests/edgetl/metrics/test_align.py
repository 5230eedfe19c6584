"""Datasets in the words of a network: boxes, categories and masks by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgetl.data import Dataset, MaskLayer, Sample
from edgetl.data.dataset import VOID
from edgetl.metrics.align import align, left_out
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, SegmentHead

DETECT = DetectHead(labels=("person", "car", "bus"), max_detections=5, thresholds=(0.3,) * 3, stride=8)
CLASSIFY = ClassifyHead(labels=("stop", "go"), thresholds=(0.0, 0.0))
SEGMENT = SegmentHead(name="drivable", labels=("other", "drivable"), stride=1)
BARE = Sample(Path("a.png"), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_), "a")


def boxes(classes: tuple[str, ...], labels: list[int]) -> Dataset:
    n = len(labels)
    at = np.tile(np.arange(n, dtype=np.float32)[:, None], (1, 4))
    return Dataset("d", classes, (dataclasses.replace(BARE, boxes=at, labels=np.array(labels), ignore=at[:, 0] > 1),))


def test_classes_by_name_and_what_no_label_stands_for() -> None:
    data = boxes(("rider", "sign", "car", "pedestrian"), [0, 1, 2, 3])
    names = {"detect": {"person": ("rider", "pedestrian")}}
    found = align(data, (DETECT,), names)
    assert found.classes == DETECT.labels
    (sample,) = found.samples
    assert sample.labels.tolist() == [0, 1, 0]
    assert sample.boxes[:, 0].tolist() == [0, 2, 3] and sample.ignore.tolist() == [False, True, True]
    assert left_out(data, (DETECT,), names) == ("sign",)
    assert left_out(found, (DETECT,), names) == ()


def test_a_name_goes_before_an_equal_label_and_the_rest_comes_last() -> None:
    data = boxes(("bus", "tram", "car"), [0, 1, 2])
    found = align(data, (DETECT,), {"detect": {"car": ("bus",), "person": ("*",)}})
    assert found.samples[0].labels.tolist() == [1, 0, 1]


def test_without_names_every_class_must_be_known() -> None:
    assert align(boxes(("bus", "car"), [0, 1]), (DETECT,)).samples[0].labels.tolist() == [2, 1]
    with pytest.raises(InputError, match="doesn't know: tram; the network's classes are: person, car, bus"):
        align(boxes(("car", "tram"), []), (DETECT,))
    same = boxes(DETECT.labels, [0])
    assert align(same, (DETECT,)) is same


@pytest.mark.parametrize(
    ("categories", "names", "expected"),
    [
        (("go", "stop"), {}, (("stop", "go"), [1, 0, -1])),
        (("go",), {}, (("stop", "go"), [1, -1])),
        (("green", "red"), {"go": ("green",), "stop": ("red",)}, (("stop", "go"), [1, 0, -1])),
        (("green", "red"), {"go": ("green",)}, (("stop", "go"), [1, -1, -1])),
        (("green", "red"), {}, (("green", "red"), [0, 1, -1])),
    ],
)
def test_categories(
    categories: tuple[str, ...], names: dict[str, tuple[str, ...]], expected: tuple[tuple[str, ...], list[int]]
) -> None:
    samples = tuple(dataclasses.replace(BARE, category=i) for i in (*range(len(categories)), -1))
    data = Dataset("d", (), samples, categories)
    found = align(data, (CLASSIFY,), {"classify": names} if names else None)
    assert (found.categories, [s.category for s in found.samples]) == expected


@pytest.mark.parametrize("layer", ["drivable", "classes"])
def test_masks(layer: str) -> None:
    """Road and lane marking are drivable, the rest is other, but for what is void."""
    masks = MaskLayer(layer, ("sky", "road", "marking", "tree"), (10, (20, 21), 30, 40))
    data = Dataset("d", (), (dataclasses.replace(BARE, masks=(Path("m.png"),)),), layers=(masks,))
    names = {"drivable": {"drivable": ("road", "marking"), "other": ("*",)}}
    (found,) = align(data, (SEGMENT,), names).layers
    assert (found.name, found.classes) == ("drivable", SEGMENT.labels)
    table = found.table()
    assert [int(table[v]) for v in (10, 20, 21, 30, 40, 0)] == [0, 1, 1, 1, 0, VOID]
    only_road = align(data, (SEGMENT,), {"drivable": {"drivable": ("road",)}}).layers[0].table()
    assert [int(only_road[v]) for v in (10, 20, 30, 40)] == [VOID, 1, VOID, VOID]
    assert align(data, (SEGMENT,)) is data


def test_of_several_layers_only_the_one_of_its_name() -> None:
    layers = (MaskLayer("lane", ("a", "b")), MaskLayer("drivable", ("no", "yes")))
    data = Dataset("d", (), (BARE,), layers=layers)
    found = align(data, (SEGMENT,), {"drivable": {"drivable": ("yes",), "other": ("no",)}})
    assert found.layers == (layers[0], MaskLayer("drivable", SEGMENT.labels, ((0,), (1,))))
    other = Dataset("d", (), (BARE,), layers=(layers[0], layers[0]))
    assert align(other, (SEGMENT,), {"drivable": {"drivable": ("yes",)}}) is other
