"""Cityscapes: leftImg8bit/<split>/<city>/X_leftImg8bit.png, gtFine/<split>/<city>/X_gtFine_labelIds.png.

Class names and label ids as in arXiv:1604.01685: the 19 classes of the evaluation, all others void.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgetl.data.dataset import Dataset, MaskLayer, Sample, each_sample, image_files
from edgetl.data.masks import ONE_LAYER, unlabelled
from edgetl_runtime.errors import InputError

LABEL_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
LAYER = MaskLayer(ONE_LAYER, tuple(LABEL_IDS), tuple(LABEL_IDS.values()))
IMAGE_END = "_leftImg8bit"
MASK_END = "_gtFine_labelIds.png"


def is_cityscapes(root: Path) -> bool:
    """Whether images and fine annotations lie as Cityscapes packs them."""
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


def cityscapes_splits(root: Path) -> dict[str, Path]:
    """Split name -> image directory."""
    return {p.name: p for p in sorted((root / "leftImg8bit").iterdir()) if p.is_dir()}


def read_cityscapes(root: Path, split: str) -> Dataset:
    """One split as a Dataset of one mask layer; a sample's group is its city and sequence.

    Raises InputError where no image has a mask.
    """
    images = image_files(root / "leftImg8bit" / split)
    samples = each_sample(images, lambda image: _sample(root, split, image))
    if samples and not any(s.masks[0] for s in samples):
        raise InputError(
            f"{root / 'gtFine' / split}: no mask belongs to an image of split {split!r}, "
            f"expected <city>/{_name(images[0])}{MASK_END}",
            remedy="unpack gtFine beside leftImg8bit",
        )
    return Dataset(f"{root.name}/{split}", (), samples, layers=(LAYER,))


def _sample(root: Path, split: str, image: Path) -> Sample:
    name = _name(image)
    mask = root / "gtFine" / split / image.parent.name / f"{name}{MASK_END}"
    parts = name.rsplit("_", 1)  # city_sequence_frame
    return dataclasses.replace(unlabelled(image), group=parts[0], masks=(mask if mask.is_file() else None,))


def _name(image: Path) -> str:
    return image.stem.removesuffix(IMAGE_END)
