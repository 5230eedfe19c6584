"""The formats that can be read: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgetl.data.bdd import OLDER, bdd_splits, read_bdd
from edgetl.data.cityscapes import cityscapes_splits, is_cityscapes, read_cityscapes
from edgetl.data.coco import coco_splits, read_coco
from edgetl.data.dataset import Dataset
from edgetl.data.folders import folder_splits, read_folders
from edgetl.data.kitti import is_kitti, kitti_splits, read_kitti
from edgetl.data.masks import has_mask_pairs, mask_splits, read_mask_pairs, with_masks
from edgetl.data.voc import is_voc, read_voc, voc_splits
from edgetl.data.yolo import is_yolo, read_yolo, yolo_splits
from edgetl_runtime.errors import InputError


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is known and read.

    looks_for: what must lie in the directory, for people. splits: split name -> where it lies. read: one split.
    """

    name: str
    looks_for: str
    detect: Callable[[Path], bool]
    splits: Callable[[Path], dict[str, Path]]
    read: Callable[[Path, str], Dataset]


def _read_coco(root: Path, split: str) -> Dataset:
    return with_masks(read_coco(root, coco_splits(root)[split], name=f"{root.name}/{split}"), root, split)


def _read_yolo(root: Path, split: str) -> Dataset:
    dataset = read_yolo(root, yolo_splits(root)[split], name=f"{root.name}/{split}")
    return with_masks(dataset, root if root.is_dir() else root.parent, split)


def _masked(read: Callable[[Path, str], Dataset]) -> Callable[[Path, str], Dataset]:
    """The same reading, and the layers below root/masks; root/classes.txt names the boxes' classes here."""

    def masked(root: Path, split: str) -> Dataset:
        dataset = read(root, split)
        return dataset if dataset.layers else with_masks(dataset, root, split, one_layer=False)

    return masked


FORMATS: tuple[Format, ...] = (
    Format("coco", "annotations/*.json", lambda r: bool(coco_splits(r)), coco_splits, _read_coco),
    Format("yolo", "data.yaml", is_yolo, yolo_splits, _read_yolo),
    Format("voc", "Annotations/ and JPEGImages/", is_voc, voc_splits, _masked(read_voc)),
    Format("kitti", "training/image_2/ and label_2/", is_kitti, kitti_splits, _masked(read_kitti)),
    Format(
        "bdd",
        f"labels/det_20/det_*.json or {OLDER}*.json",
        lambda r: bool(bdd_splits(r)),
        bdd_splits,
        _masked(read_bdd),
    ),
    Format("cityscapes", "leftImg8bit/ and gtFine/", is_cityscapes, cityscapes_splits, read_cityscapes),
    Format("folders", "<split>/<class>/ with images", lambda r: bool(folder_splits(r)), folder_splits, read_folders),
    Format("masks", "images/<split>/ and masks/", has_mask_pairs, mask_splits, read_mask_pairs),
)
"""In this order they are tried; `masks` counts only where no other fits, since others may have masks beside them."""


def format_named(name: str) -> Format:
    """The format of this name. Raises InputError that lists the names there are."""
    for f in FORMATS:
        if f.name == name:
            return f
    raise InputError(f"there is no dataset format {name!r}", remedy=f"formats: {', '.join(f.name for f in FORMATS)}")


def format_of(root: Path) -> Format:
    """What a dataset directory is (or a data.yaml). Raises InputError where no format fits, or two do."""
    if not root.exists():
        raise InputError(f"{root}: no such dataset directory")
    try:
        fitting = [f for f in FORMATS if (root.is_dir() or f.name == "yolo") and f.detect(root)]
    except OSError as error:
        raise InputError(f"{error.filename or root}: can't be read ({error.strerror})") from error
    if len(fitting) > 1:
        fitting = [f for f in fitting if f.name != "masks"]
    if len(fitting) > 1:
        names = " and ".join(f"{f.name} ({f.looks_for})" for f in fitting)
        raise InputError(
            f"{root}: is of {len(fitting)} formats at once: {names}",
            remedy=f"name one, like --format {fitting[0].name}, or remove the other's files",
        )
    if not fitting:
        if root.is_dir() and not any(root.iterdir()):
            raise InputError(f"{root}: the dataset directory is empty")
        wanted = ", ".join(f"{f.looks_for} ({f.name})" for f in FORMATS)
        raise InputError(f"{root}: no known dataset format found; looked for {wanted}")
    return fitting[0]
