"""Masks: targets cell by cell, losses by hand, and mean IoU of outputs at another resolution."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgetl.data import VOID, Dataset, MaskLayer, Sample
from edgetl.heads.kind import Kind
from edgetl.heads.segment import Segment
from edgetl.metrics.detection import Scoring
from edgetl.training.augment import View
from edgetl_runtime.errors import InputError
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.spec import SegmentHead

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ("sky", "road", "car")
LAYER = MaskLayer("ground", LABELS)


def head(stride: int = 2) -> SegmentHead:
    return SegmentHead(name="ground", labels=LABELS, stride=stride)


def view(mask: np.ndarray) -> View:
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    return View(np.zeros((*mask.shape, 3), np.uint8), *empty, -1, (np.zeros_like(mask), mask))


def test_it_has_the_face_of_a_kind() -> None:
    kind: Kind = Segment(head(), 1)
    assert kind.place == "dense" and kind.probes == ("logits_ground",)
    assert kind.module(64).eval()(torch.zeros(1, 64, 6, 8)).shape == (1, 3, 6, 8)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_targets_are_the_pixel_in_the_middle_of_each_cell(stride: int) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (24, 32), np.uint8)
    (target,) = Segment(head(stride), 1).targets(view(mask))
    assert target.shape == (24 // stride, 32 // stride) and target.flags.c_contiguous
    for row, column in itertools.product(range(target.shape[0]), range(target.shape[1])):
        assert target[row, column] == mask[row * stride + stride // 2, column * stride + stride // 2]


def test_both_losses_by_hand() -> None:
    """Two cells of sky and one of road, a void one; the car doesn't occur and must not count in the Dice loss."""
    torch.manual_seed(0)
    raw = torch.randn(1, 3, 2, 2)
    truth = torch.tensor([[[0, 0], [1, VOID]]], dtype=torch.uint8)
    found = Segment(head(4)).loss(raw, (truth,))
    p = torch.softmax(raw, 1)[0].permute(1, 2, 0).reshape(4, 3)[:3].numpy()
    assert found["mask"].item() == pytest.approx(-np.log(p[[0, 1, 2], [0, 0, 1]]).mean(), rel=1e-5)
    sky = (2 * (p[0, 0] + p[1, 0]) + 1) / (p[:, 0].sum() + 2 + 1)
    road = (2 * p[2, 1] + 1) / (p[:, 1].sum() + 1 + 1)
    assert found["dice"].item() == pytest.approx(1 - (sky + road) / 2, rel=1e-5)


def test_void_pixels_teach_nothing() -> None:
    raw = torch.randn(1, 3, 2, 2, requires_grad=True)
    truth = torch.tensor([[[0, VOID], [1, VOID]]], dtype=torch.uint8)
    sum(Segment(head(4)).loss(raw, (truth,)).values()).backward()
    assert raw.grad is not None
    assert (raw.grad[0, :, :, 1] == 0).all() and (raw.grad[0, :, :, 0] != 0).any()
    other = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = sum(Segment(head(4)).loss(other, (torch.full((1, 2, 2), VOID, dtype=torch.uint8),)).values())
    loss.backward()
    assert loss.item() == 0 and other.grad is not None and (other.grad == 0).all()


def test_a_right_mask_costs_almost_nothing() -> None:
    truth = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    right = 20.0 * torch.nn.functional.one_hot(truth.long(), 3).permute(0, 3, 1, 2).float()
    assert sum(Segment(head(4)).loss(right, (truth,)).values()).item() < 1e-3
    assert sum(Segment(head(4)).loss(-right, (truth,)).values()).item() > 5


def test_imitation_leads_to_the_teacher() -> None:
    kind, teacher = Segment(head()), torch.randn(1, 3, 4, 4) * 3
    assert kind.imitate(teacher, teacher).item() == pytest.approx(0, abs=1e-5)
    assert kind.imitate(teacher + 5, teacher).item() == pytest.approx(0, abs=1e-5), "logits may all be higher"
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.3)
    for _ in range(100):
        optimiser.zero_grad()
        kind.imitate(student, teacher).backward()
        optimiser.step()
    assert torch.equal(student.argmax(1), teacher.argmax(1))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_decode_is_the_largest_class_at_the_masks_stride(stride: int) -> None:
    raw = torch.full((1, 3, 4, 6), -5.0)
    raw[:, 0, :, :3], raw[:, 2, :, 3:] = 5.0, 5.0
    (mask,) = Segment(head(stride)).decode(raw)
    assert mask.dtype == torch.uint8 and mask.shape == (1, 16 // stride, 24 // stride)
    middle = mask.shape[2] // 2
    assert (mask[..., : middle - 1] == 0).all() and (mask[..., middle + 1 :] == 2).all()


def written(folder: Path, mask: np.ndarray | None, layers: tuple[MaskLayer, ...] = (LAYER,)) -> Dataset:
    path = None
    if mask is not None:
        path = folder / "mask.png"
        cv2.imwrite(str(path), mask)
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    sample = Sample(folder / "image.png", *empty, "a", masks=(path,))
    return Dataset("d", (), (sample,), layers=layers)


def test_the_meter_scores_at_source_size(tmp_path: Path) -> None:
    """A frame of 20x40 seen at 16x16 cells of stride 2: letterbox padding above and below must be cut off."""
    truth = np.zeros((20, 40), np.uint8)
    truth[:, 20:], truth[:2] = 1, VOID
    data = written(tmp_path, truth)
    place = geometry((20, 40), (32, 32))
    cells = np.full((1, 16, 16), 2, np.uint8)  # the padding says car
    cells[:, 4:12, :12], cells[:, 4:12, 12:] = 0, 1  # the road begins late: 10 of its 20 columns are missing
    meter = Segment(head()).meter(data, Scoring())
    meter.add({"mask_ground": cells}, place, 0)
    found = meter.result()
    ious = (20 / 30, 10 / 20)
    assert found.metric == "miou" and found.value == pytest.approx(sum(ious) / 2)
    assert found.per_class["sky"] == pytest.approx(ious[0]) and found.per_class["road"] == pytest.approx(ious[1])
    assert np.isnan(found.per_class["car"]) and found.more["pixel_accuracy"] == pytest.approx(30 / 40)


def test_images_without_a_mask_are_left_out(tmp_path: Path) -> None:
    meter = Segment(head()).meter(written(tmp_path, None), Scoring())
    meter.add({"mask_ground": np.zeros((1, 16, 16), np.uint8)}, geometry((20, 40), (32, 32)), 0)
    assert np.isnan(meter.result().value)


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    meter = Segment(head()).meter(written(tmp_path, np.zeros((10, 40), np.uint8)), Scoring())
    with pytest.raises(InputError, match=r"mask\.png.*40x10.*40x20"):
        meter.add({"mask_ground": np.zeros((1, 16, 16), np.uint8)}, geometry((20, 40), (32, 32)), 0)


def test_what_counts_as_labelled(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    kind = Segment(head())
    assert kind.labelled(written(tmp_path, mask))
    assert not kind.labelled(written(tmp_path, None))
    assert not kind.labelled(written(tmp_path, mask, (MaskLayer("other", LABELS),)))
    assert not kind.labelled(written(tmp_path, mask, (MaskLayer("ground", ("sky", "road")),)))
    assert not kind.labelled(Dataset("d", (), (), layers=(LAYER,)))
