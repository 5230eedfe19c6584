"""Heads from data and tasks, and a network that carries them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from edgetl.data import Dataset, MaskLayer
from edgetl.heads.build import heads_for, kinds_of, network_of, tasks_of
from edgetl.models.backbone import build_backbone
from edgetl.models.detector import Maps
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, SegmentHead

pytestmark = pytest.mark.usefixtures("one_thread")
GROUND, LIGHT = MaskLayer("ground", ("other", "road")), MaskLayer("light", ("off", "red", "green"))
ALL = Dataset("all", ("car",), (), ("day", "night"), (GROUND, LIGHT))
BOXES, NOTHING = Dataset("boxes", ("car",), ()), Dataset("nothing", (), ())


def test_one_head_for_each_task_and_layer() -> None:
    detect, ground, light, classify = heads_for(ALL, ("detect", "segment", "classify"), max_detections=7, mask_stride=4)
    assert isinstance(detect, DetectHead) and (detect.max_detections, detect.thresholds) == (7, (0.3,))
    assert isinstance(ground, SegmentHead) and (ground.name, ground.labels, ground.stride) == (
        "ground",
        GROUND.classes,
        4,
    )
    assert isinstance(light, SegmentHead) and light.labels == LIGHT.classes
    assert isinstance(classify, ClassifyHead) and classify.thresholds == (0.0, 0.0)


def test_layers_may_be_picked() -> None:
    (only,) = heads_for(ALL, ("segment",), layers=("light",))
    assert only.name == "light"
    (kind,) = kinds_of((only,), ALL)
    assert kind.layer == 1  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no layer of masks 'rails', it has ground, light"):
        heads_for(ALL, ("segment",), layers=("ground", "rails"))


@pytest.mark.parametrize(
    ("data", "task", "says"),
    [
        (BOXES, "segment", "boxes has no labels for the task 'segment'; it has labels for: detect"),
        (BOXES, "classify", "no labels for the task 'classify'"),
        (dataclasses.replace(ALL, classes=()), "detect", "it has labels for: segment, classify"),
        (NOTHING, "detect", "it has labels for: no labels at all"),
    ],
)
def test_a_task_without_labels_is_refused(data: Dataset, task: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        heads_for(data, (task,))


def test_tasks_of() -> None:
    assert tasks_of(ALL) == ("detect", "segment", "classify")
    assert tasks_of(BOXES) == ("detect",) and tasks_of(NOTHING) == ()


@pytest.mark.parametrize("task", ["segment", "classify"])
def test_one_class_is_nothing_to_tell_apart(task: str) -> None:
    data = dataclasses.replace(ALL, categories=("sign",), layers=(MaskLayer("ground", ("road",)),))
    with pytest.raises(InputError, match=r"only (road|sign)"):
        heads_for(data, (task,))


@pytest.mark.parametrize("name", ["detect", "classify", "type", "train"])
def test_a_layer_whose_name_is_taken_is_refused(name: str) -> None:
    """Two heads of one name, or a name that torch's own modules have, would end as a traceback or worse."""
    data = dataclasses.replace(ALL, layers=(MaskLayer(name, ("other", "road")),))
    with pytest.raises(InputError, match=name):
        heads_for(data, ("detect", "segment", "classify"))


def test_a_network_of_all_kinds() -> None:
    backbone = build_backbone("resnet18", "none")
    kinds = kinds_of(heads_for(ALL, ("detect", "segment", "classify")), ALL)
    network = network_of(backbone, kinds).eval()
    with torch.inference_mode():
        heads, embedding = network(torch.zeros(2, 3, 64, 96))
    assert set(heads) == {"detect", "ground", "light", "classify"} and embedding.shape == (2, 512)
    assert isinstance(heads["detect"], Maps) and heads["detect"].heat.shape == (2, 1, 16, 24)
    assert [tuple(heads[n].shape) for n in ("ground", "light", "classify")] == [(2, 2, 16, 24), (2, 3, 16, 24), (2, 2)]


def test_whole_heads_need_no_neck() -> None:
    kinds = kinds_of(heads_for(ALL, ("classify",)), ALL)
    network = network_of(build_backbone("resnet18", "none"), kinds)
    assert network.neck is None and len(network.new_parts()) == 2
