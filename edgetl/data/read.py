"""Find out what a dataset directory is, and read a split of it."""

from __future__ import annotations

from pathlib import Path

from edgetl.data.coco import coco_splits, read_coco
from edgetl.data.dataset import Dataset
from edgetl.data.yolo import read_yolo, yolo_splits
from edgetl_runtime.errors import InputError


def read_dataset(root: Path, split: str) -> Dataset:
    """The split of a COCO or YOLO directory; `root` may also be the data.yaml itself.

    Raises InputError for a missing or empty directory, an unknown format or split, and malformed labels.
    """
    if not root.exists():
        raise InputError(f"{root}: no such dataset directory")
    description = root if root.suffix in {".yaml", ".yml"} else root / "data.yaml"
    if description.is_file():
        splits = yolo_splits(description)
        dataset = read_yolo(description, _pick(root, splits, split), name=f"{root.name}/{split}")
    elif root.is_dir() and (splits := coco_splits(root)):
        dataset = read_coco(root, _pick(root, splits, split), name=f"{root.name}/{split}")
    elif root.is_dir() and not any(root.iterdir()):
        raise InputError(f"{root}: the dataset directory is empty")
    else:
        raise InputError(
            f"{root}: no known dataset format found; looked for annotations/*.json (COCO) and data.yaml (YOLO)"
        )
    if not dataset.samples:
        raise InputError(f"{root}: split {split!r} has no images")
    return dataset


def _pick(root: Path, splits: dict[str, Path], split: str) -> Path:
    if split not in splits:
        raise InputError(f"{root}: no split {split!r}, there are {', '.join(sorted(splits)) or 'none'}")
    return splits[split]
