"""Where a run starts: weights, an earlier checkpoint, a teacher; and what does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch

from edgetl.data import Dataset, read_dataset
from edgetl.models.network import Network
from edgetl.training.checkpoint import Checkpoint, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.start import first_model, load_teacher
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Reliability

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TuneConfig(backbone="resnet18", weights="none", size_hw=(64, 96), crop_hw=(64, 96))
BOTH = msgspec.structs.replace(CONFIG, tasks=("detect", "segment"))


@pytest.fixture
def data(scenes: Path) -> Dataset:
    return read_dataset(scenes, "train")


@pytest.fixture
def saved(data: Dataset, tmp_path: Path) -> Path:
    """A checkpoint with boxes and a mask, as an earlier run left it."""
    torch.manual_seed(1)
    card, model, _ = first_model(data, BOTH, "somewhere")
    heads = (msgspec.structs.replace(card.heads[0], temperature=1.7, thresholds=(0.6, 0.7)), card.heads[1])
    known = {"detect": Reliability(before=(), after=(), error_before=0.2, error_after=0.1, answers=50)}
    card = dataclasses.replace(
        card, heads=heads, metric="mean", value=0.4, data="old", history=("probe",), reliability=known
    )
    save_checkpoint(tmp_path / "old.pt", Checkpoint(card, model.state_dict()))
    return tmp_path / "old.pt"


def test_from_weights(data: Dataset) -> None:
    card, model, kinds = first_model(data, BOTH, "root")
    assert [h.name for h in card.heads] == ["detect", "ground"] == [k.head.name for k in kinds]
    assert (card.data, card.data_root, card.data_sha256) == (data.name, "root", data.fingerprint())
    assert card.preprocess.size_hw == (64, 96) and card.history == () and not model.training


def test_from_a_checkpoint_the_weights_go_on(data: Dataset, saved: Path) -> None:
    """Temperature, thresholds and what was measured begin anew; the size is the one asked for; the history goes on."""
    config = msgspec.structs.replace(BOTH, start=str(saved), size_hw=(96, 128), mask_stride=4)
    card, model, _ = first_model(data, config, "root")
    document = torch.load(saved, weights_only=True)
    assert all(torch.equal(v, document["model"][k]) for k, v in model.state_dict().items())
    assert card.history == ("probe", "from old") and card.data == data.name
    assert card.preprocess.size_hw == (96, 128)
    detect, ground = card.heads
    assert detect.temperature == 1.0 and detect.thresholds == (0.3, 0.3)  # type: ignore[union-attr]
    assert ground.stride == 4  # type: ignore[union-attr]
    assert (card.metric, card.value, card.reliability) == ("", 0.0, {}), "a run that is stopped keeps this"


def test_what_teaches_nothing_is_refused(data: Dataset, tmp_path: Path) -> None:
    """No object at all; masks of 0 and 255 read as 0 and void; pictures of one category."""
    empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    bare = [dataclasses.replace(s, boxes=empty[0], labels=empty[1], ignore=empty[2]) for s in data.samples]
    with pytest.raises(InputError, match="none of its 6 images has a labelled object"):
        first_model(dataclasses.replace(data, samples=tuple(bare)), CONFIG, "")
    ignored = [dataclasses.replace(s, ignore=np.ones(len(s.labels), np.bool_)) for s in data.samples]
    with pytest.raises(InputError, match="none of its 6 images has a labelled object"):
        first_model(dataclasses.replace(data, samples=tuple(ignored)), CONFIG, "")
    mask = np.zeros((90, 160), np.uint8)
    mask[40:] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    binary = [dataclasses.replace(s, masks=(tmp_path / "mask.png",)) for s in data.samples]
    with pytest.raises(InputError, match=r"masks of ground show only other, .*classes\.txt"):
        first_model(dataclasses.replace(data, samples=tuple(binary)), BOTH, "")
    without = [dataclasses.replace(s, masks=(None,)) for s in data.samples]
    with pytest.raises(InputError, match="masks of ground show no class"):
        first_model(dataclasses.replace(data, samples=tuple(without)), BOTH, "")
    signs = [dataclasses.replace(s, category=1) for s in data.samples]
    categories = dataclasses.replace(data, samples=tuple(signs), categories=("stop", "yield"))
    with pytest.raises(InputError, match="categories show only yield"):
        first_model(categories, msgspec.structs.replace(CONFIG, tasks=("classify",)), "")


@pytest.mark.parametrize("tasks", [("detect",), ("segment",), ("segment", "detect")])
def test_a_checkpoint_of_other_heads_is_refused(data: Dataset, saved: Path, tasks: tuple[str, ...]) -> None:
    config = msgspec.structs.replace(CONFIG, tasks=tasks, start=str(saved))
    with pytest.raises(InputError, match=r"old\.pt has the heads detect: car, person; ground: other, road, this"):
        first_model(data, config, "")


def test_a_checkpoint_of_other_classes_is_refused(data: Dataset, saved: Path) -> None:
    other = dataclasses.replace(data, classes=("car", "tram"))
    with pytest.raises(InputError, match=r"person.*this data and task want detect: car, tram"):
        first_model(other, msgspec.structs.replace(BOTH, start=str(saved)), "")


def test_a_teacher_is_frozen_and_fits(data: Dataset, saved: Path) -> None:
    card, _, _ = first_model(data, BOTH, "")
    teacher = load_teacher(saved, card)
    assert isinstance(teacher, Network) and not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_teacher_of_other_classes_is_refused(data: Dataset, saved: Path) -> None:
    other = dataclasses.replace(data, classes=("car", "tram"))
    card, _, _ = first_model(other, BOTH, "")
    with pytest.raises(InputError, match=r"the teacher .*old\.pt has the heads detect: car, person.*car, tram"):
        load_teacher(saved, card)


def test_a_teacher_with_other_eyes_is_refused(data: Dataset, saved: Path) -> None:
    card, _, _ = first_model(data, BOTH, "")
    lite = msgspec.structs.replace(card.preprocess, mean=(127.0,) * 3, std=(128.0,) * 3)
    with pytest.raises(InputError, match=r"wants frames normalised by mean .* the student by \(127\.0"):
        load_teacher(saved, dataclasses.replace(card, preprocess=lite))


@pytest.mark.parametrize(("size", "crop", "says"), [((64, 64), (64, 64), "--size"), ((128, 128), (64, 64), "--crop")])
def test_a_frame_too_small_for_the_network_is_refused(
    data: Dataset, size: tuple[int, int], crop: tuple[int, int], says: str
) -> None:
    """Inception takes nothing below 75 pixels."""
    config = msgspec.structs.replace(CONFIG, backbone="inception_v3", size_hw=size, crop_hw=crop)
    with pytest.raises(InputError, match=rf"inception_v3 can't take frames of 64x64 .*give a larger {says}"):
        first_model(data, config, "")


def test_too_few_cells_for_the_boxes_asked_for(data: Dataset) -> None:
    """32x32 pixels have 64 cells, which can't be ranked for 100 boxes."""
    config = msgspec.structs.replace(CONFIG, size_hw=(32, 32), crop_hw=(32, 32))
    with pytest.raises(InputError, match=r"can't take frames of 32x32.*--size"):
        first_model(data, config, "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size_hw": (64, 100)}, "multiples of 32, found 64x100"),
        ({"crop_hw": (60, 96)}, "crop_hw must be multiples of 32"),
        ({"tasks": ("detect", "detect")}, "each task once"),
        ({"tasks": ()}, "length"),
        ({"recipe": "surgical"}, "surgical"),
        ({"surgical_strides": (4,)}, "surgical"),
        ({"recipe": "probe", "probe_epochs": 0}, "at least one probe epoch"),
        ({"recipe": "probe", "weights": "none"}, "random ones teach nothing"),
        ({"recipe": "surgical", "surgical_strides": (4,), "weights": "none"}, "random ones teach nothing"),
        ({"recipe": "probe", "start": "x.pt"}, "has its own"),
        ({"backbone_lr": 0}, "backbone_lr"),
        ({"balance": 1.5}, "balance"),
    ],
)
def test_settings_that_contradict_each_other(changes: dict[str, object], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert(changes, TuneConfig)


def test_which_recipes_probe_and_fine_tune() -> None:
    for recipe, probes, epochs in (("probe-finetune", True, 5), ("probe", True, 0), ("full", False, 5)):
        config = TuneConfig(recipe=recipe, epochs=5)  # type: ignore[arg-type]
        assert (config.probes, config.finetune_epochs) == (probes, epochs)
    assert TuneConfig(recipe="surgical", surgical_strides=(4,), epochs=5).probes
    assert not TuneConfig(probe_epochs=0).probes
