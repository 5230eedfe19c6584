"""A folder for each class: root/<split>/<class>/*.png, every image of one class as a whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgetl.data.dataset import IMAGE_SUFFIXES, Dataset, image_files
from edgetl.data.listed import CLASSES_FILE, listed_classes
from edgetl.data.masks import unlabelled
from edgetl_runtime.errors import InputError

NOT_SPLITS = frozenset(
    {"images", "labels", "annotations", "masks", "Annotations", "JPEGImages", "ImageSets", "leftImg8bit", "gtFine"}
)
"""Folders that other formats use, and whose folders are not classes."""

KITTI_SPLITS = frozenset({"training", "testing"})
"""Splits in which a folder image_2 is KITTI's, and not a class."""


def folder_splits(root: Path) -> dict[str, Path]:
    """Split name -> its folder: those that hold folders with images."""
    return {
        p.name: p
        for p in sorted(root.iterdir())
        if p.is_dir() and not p.name.startswith(".") and p.name not in NOT_SPLITS and _has_classes(p)
    }


def _has_classes(split: Path) -> bool:
    if split.name in KITTI_SPLITS and (split / "image_2").is_dir():
        return False
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES
        for folder in split.iterdir()
        if folder.is_dir()
        for file in folder.iterdir()
    )


def read_folders(root: Path, split: str) -> Dataset:
    """One split as a Dataset of categories and no boxes; a sample's group is its class and file stem.

    Categories are the sorted folder names, empty folders too; root/classes.txt may put them into another order.
    Raises InputError for a list that doesn't name the folders.
    """
    folders = sorted(p.name for p in (root / split).iterdir() if p.is_dir() and not p.name.startswith("."))
    categories = _ordered(root, split, folders)
    samples = [
        dataclasses.replace(unlabelled(image), category=index, group=f"{name}/{image.stem}")
        for index, name in enumerate(categories)
        for image in image_files(root / split / name)
    ]
    return Dataset(f"{root.name}/{split}", (), tuple(samples), categories)


def _ordered(root: Path, split: str, folders: list[str]) -> tuple[str, ...]:
    names = listed_classes(root)
    unlisted = [name for name in folders if name not in names]
    if names and unlisted:
        raise InputError(
            f"{root / CLASSES_FILE}: doesn't name the folder {unlisted[0]} of split {split!r}",
            remedy="add its line or remove the list",
        )
    return names or tuple(folders)
