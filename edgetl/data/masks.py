"""Masks: alone beside their images, or as further layers of a dataset of boxes.

    root/images/<split>/*.jpg    root/masks/<split>/<same name>.png            root/classes.txt
    root/images/<split>/*.jpg    root/masks/<layer>/<split>/<same name>.png    root/masks/<layer>/classes.txt

classes.txt holds one name a line: pixel value 0 is the first. A line may state its values after a tab, with
commas between. A value that no line states is void.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from edgetl.data.dataset import Dataset, MaskLayer, Sample, image_files
from edgetl_runtime.errors import InputError

ONE_LAYER = "classes"
"""The name of the only layer of a dataset that names none."""


def has_mask_pairs(root: Path) -> bool:
    """Whether images and masks lie side by side."""
    return (root / "images").is_dir() and (root / "masks").is_dir()


def mask_splits(root: Path) -> dict[str, Path]:
    """Split name -> image directory."""
    return {p.name: p for p in sorted((root / "images").iterdir()) if p.is_dir()}


def read_mask_pairs(root: Path, split: str) -> Dataset:
    """Images with masks and no boxes. Raises InputError where no image of the split has a mask."""
    images = image_files(root / "images" / split)
    bare = Dataset(f"{root.name}/{split}", (), tuple(unlabelled(image) for image in images))
    dataset = with_masks(bare, root, split)
    if images and not any(mask for s in dataset.samples for mask in s.masks):
        raise InputError(
            f"{root / 'masks'}: no mask belongs to an image of split {split!r}; the first image is {images[0].name}",
            remedy=f"name its mask {images[0].stem}.png, in a folder {split} below masks or below masks/<layer>",
        )
    return dataset


def unlabelled(image: Path) -> Sample:
    """An image with neither boxes nor anything else, a group of its own."""
    return Sample(
        image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_), image.stem
    )  # fmt: skip


def with_masks(dataset: Dataset, root: Path, split: str, *, one_layer: bool = True) -> Dataset:
    """The same dataset with the layers below root/masks, as it was where there are none.

    A mask lies below its layer as its image below root/images, or else in the split's folder. An image may have none.
    one_layer: whether root/classes.txt may name the classes of an only layer; in some formats it names the boxes'.
    Raises InputError for a layer without classes.txt or with a name that a head can't have.
    """
    if not (root / "masks").is_dir():
        return dataset
    folders = _layer_folders(root, one_layer)
    layers = tuple(_layer(name, root, classes_file) for name, (_, classes_file) in folders.items())
    samples = tuple(
        dataclasses.replace(s, masks=tuple(_mask_of(s.image, root, f, split) for f, _ in folders.values()))
        for s in dataset.samples
    )
    return dataclasses.replace(dataset, samples=samples, layers=layers)


def _layer_folders(root: Path, one_layer: bool) -> dict[str, tuple[Path, Path]]:
    """Layer name -> its folder and its list of classes."""
    masks = root / "masks"
    named = [p for p in sorted(masks.iterdir()) if (p / "classes.txt").is_file()]
    if named:
        without = [p.name for p in sorted(masks.iterdir()) if p.is_dir() and p not in named]
        if without:
            raise InputError(
                f"{masks}: {without[0]} has no classes.txt, {named[0].name} has",
                remedy="write one class name a line, the first for pixel value 0",
            )
        return {p.name: (p, p / "classes.txt") for p in named}
    if one_layer and (root / "classes.txt").is_file():
        return {ONE_LAYER: (masks, root / "classes.txt")}
    raise InputError(
        f"{masks}: nothing says what the masks' values mean; looked for {root / 'classes.txt'} and "
        f"{masks / '<layer>' / 'classes.txt'}",
        remedy="write one class name a line, the first for pixel value 0",
    )


def _layer(name: str, root: Path, classes_file: Path) -> MaskLayer:
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(
            f"{root / 'masks' / name}: a layer's name becomes the name of a head: a to z, 0 to 9 and _ only",
            remedy="rename the folder",
        )
    classes, values = read_class_list(classes_file)
    return MaskLayer(name, classes, values)


def read_class_list(file: Path) -> tuple[tuple[str, ...], tuple[int | tuple[int, ...], ...]]:
    """Class names, and each one's pixel value or values where the file states them (else empty)."""
    try:
        lines = [line.rstrip("\r\n") for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as text ({error})", remedy="restore the file") from error
    rows = [line.split("\t") for line in lines]
    classes = tuple(row[0].strip() for row in rows)
    if not classes or len(set(classes)) != len(classes) or "" in classes or len(classes) > 255:
        raise InputError(f"{file}: expected 1 to 255 different class names, one a line", remedy="correct the list")
    if all(len(row) == 1 for row in rows):
        return classes, ()
    try:
        sets = [tuple(int(v) for v in row[1].split(",")) for row in rows if len(row) == 2]
    except ValueError:
        sets = []
    flat = [v for values in sets for v in values]
    if len(sets) != len(classes) or len(set(flat)) != len(flat) or min(flat) < 0 or max(flat) > 255:
        raise InputError(
            f"{file}: expected pixel values, 0 to 255 and no one twice, after the tab of every line, or no tab at all",
            remedy="correct the list",
        )
    return classes, tuple(v[0] if len(v) == 1 else v for v in sets)


def _mask_of(image: Path, root: Path, folder: Path, split: str) -> Path | None:
    images = root / "images"
    below = image.relative_to(images) if image.is_relative_to(images) else Path(split, image.name)
    places = (folder / below.with_suffix(".png"), folder / split / f"{image.stem}.png")
    return next((p for p in places if p.is_file()), None)
