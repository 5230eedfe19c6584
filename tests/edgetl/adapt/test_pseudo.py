"""A network's own labels: what is sure, what is ignored, and masks that read back as they were written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgetl.adapt.pseudo import SURE_PIXEL, pseudo_labelled
from edgetl.data import VOID, Dataset, MaskLayer, Sample, read_mask
from edgetl.heads import heads_for, kinds_of
from edgetl.heads.kind import Kind
from edgetl.models.detector import SIZE_UNIT_PX, Maps
from edgetl.models.network import Outputs
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
PREPROCESS = Preprocess(size_hw=(64, 96), mean=(0.0,) * 3, std=(1.0,) * 3)
LAYERS = (
    MaskLayer("ground", ("other", "road", "walk"), (7, (3, 4), 255)),
    MaskLayer("light", ("off", "on")),
)
LIKE = Dataset("train", ("car", "person"), (), ("day", "night"), LAYERS)


class Fixed(nn.Module):
    """A network that always says the same."""

    def __init__(self, **heads: object) -> None:
        super().__init__()
        self.weight, self.heads = nn.Parameter(torch.zeros(1)), heads

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(dict(self.heads), torch.zeros(1, 8))  # type: ignore[arg-type]


def pictures(folder: Path, count: int = 2, size_hw: tuple[int, int] = (64, 96)) -> Dataset:
    empty = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    samples = []
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((*size_hw, 3), 40 * i, np.uint8))
        samples.append(Sample(folder / f"{i}.png", *empty, f"g{i}"))
    return Dataset("new", (), tuple(samples))


def kinds(*tasks: str, mask_stride: int = 4) -> tuple[Kind, ...]:
    return kinds_of(heads_for(LIKE, tasks, mask_stride=mask_stride), LIKE)


def label(network: nn.Module, which: tuple[Kind, ...], unlabelled: Dataset, folder: Path) -> Dataset:
    return pseudo_labelled(network, which, PREPROCESS, unlabelled, LIKE, folder)  # type: ignore[arg-type]


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_boxes_by_the_threshold_of_their_class(tmp_path: Path) -> None:
    """Thresholds 0.5 for cars and 0.2 for persons; a score of 0.3 is one, the other and nothing."""
    heat = torch.full((1, 2, 16, 24), -12.0)
    heat[0, 0, 4, 4], heat[0, 0, 4, 12], heat[0, 0, 12, 4] = logit(0.6), logit(0.3), logit(0.15)
    heat[0, 1, 12, 12], heat[0, 1, 12, 20], heat[0, 1, 4, 20] = logit(0.3), logit(0.1), logit(0.05)
    box = torch.zeros(1, 4, 16, 24)
    (kind,) = kinds("detect")
    kind.head = msgspec.structs.replace(kind.head, thresholds=(0.5, 0.2))  # type: ignore[attr-defined,misc]
    found = label(Fixed(detect=Maps(heat, box)), (kind,), pictures(tmp_path), tmp_path)
    assert found.classes == LIKE.classes and len(found) == 2
    for sample in found.samples:
        rows = sorted(zip(sample.labels.tolist(), sample.ignore.tolist(), strict=True))
        assert rows == [(0, False), (0, True), (1, False), (1, True)]
        sure = sample.boxes[(sample.labels == 0) & ~sample.ignore][0]
        wanted = np.array([18 - SIZE_UNIT_PX / 2, 18 - SIZE_UNIT_PX / 2, 18 + SIZE_UNIT_PX / 2, 18 + SIZE_UNIT_PX / 2])
        np.testing.assert_allclose(sure, wanted.clip(min=0) / [96, 64, 96, 64], atol=1e-4)
        assert sample.boxes.dtype == np.float32 and (sample.boxes >= 0).all() and (sample.boxes <= 1).all()


@pytest.mark.parametrize(("sure", "category"), [(0.95, 1), (0.85, -1)])
def test_categories_only_where_sure(tmp_path: Path, sure: float, category: int) -> None:
    network = Fixed(classify=torch.tensor([[0.0, logit(sure)]]))
    found = label(network, kinds("classify"), pictures(tmp_path), tmp_path)
    assert [s.category for s in found.samples] == [category] * 2
    assert all(s.masks == (None, None) and len(s.boxes) == 0 for s in found.samples)


@pytest.mark.parametrize("mask_stride", [1, 2, 4])
@pytest.mark.parametrize("size_hw", [(64, 96), (90, 160), (120, 100)])
def test_masks_are_void_where_unsure_and_lie_where_the_image_does(
    tmp_path: Path, mask_stride: int, size_hw: tuple[int, int]
) -> None:
    """Left sure road, middle unsure, right sure walk; one class has two values, another the value of void."""
    big, small = logit(0.99) + 1, logit(0.6)
    raw = torch.zeros(1, 3, 16, 24)
    raw[:, 1, :, :8], raw[:, 1, :, 8:16], raw[:, 2, :, 16:] = big, small, big
    which = kinds("segment", mask_stride=mask_stride)
    unlabelled = pictures(tmp_path, size_hw=size_hw)
    (tmp_path / "out").mkdir()
    found = label(Fixed(ground=raw, light=torch.zeros(1, 2, 16, 24)), which, unlabelled, tmp_path / "out")
    for sample in found.samples:
        ground, light = (read_mask(p, layer) for p, layer in zip(sample.masks, LAYERS, strict=True) if p)
        assert ground.shape == light.shape == size_hw
        assert (light == VOID).all(), "half and half is not sure"
        # Columns of the network that the image covers, as columns of the image.
        scale = min(64 / size_hw[0], 96 / size_hw[1])
        pad = (96 - size_hw[1] * scale) / 2
        at = (np.arange(size_hw[1]) + 0.5) * scale + pad
        assert (ground[:, at < 27] == 1).all() and (ground[:, at > 69] == 2).all()
        assert (ground[:, (at > 37) & (at < 59)] == VOID).all()
    assert {p.parent for s in found.samples for p in s.masks if p} == {tmp_path / "out"}


def test_a_pixel_counts_from_the_stated_share(tmp_path: Path) -> None:
    for share, index in ((SURE_PIXEL + 0.01, 1), (SURE_PIXEL - 0.01, VOID)):
        raw = torch.zeros(1, 2, 16, 24)
        raw[:, 1] = logit(share)
        (kind,) = [k for k in kinds("segment") if k.head.name == "light"]
        (sample,) = label(Fixed(light=raw), (kind,), pictures(tmp_path, 1), tmp_path).samples
        assert sample.masks[0] is None and sample.masks[1] is not None
        assert (read_mask(sample.masks[1], LAYERS[1]) == index).all()


def test_what_was_known_of_the_image_stays(tmp_path: Path) -> None:
    unlabelled = pictures(tmp_path)
    network = Fixed(classify=torch.zeros(1, 2))
    found = label(network, kinds("classify"), unlabelled, tmp_path)
    assert [(s.image, s.group) for s in found.samples] == [(s.image, s.group) for s in unlabelled.samples]
    assert dataclasses.replace(found, samples=(), name="train") == LIKE
    assert found.name == "new, pseudo-labelled"


def test_a_mask_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    """As on a full disk: read back later, it would be called a wrong mask of the user's."""
    (kind,) = [k for k in kinds("segment") if k.head.name == "light"]
    network = Fixed(light=torch.zeros(1, 2, 16, 24))
    with pytest.raises(InputError, match=r"light-000000\.png: can't be written; free some space"):
        label(network, (kind,), pictures(tmp_path, 1), tmp_path / "gone")
