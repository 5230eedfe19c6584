"""YOLO directories: a data.yaml, `images/<split>/` and `labels/<split>/` with `class cx cy w h` lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgetl.data.dataset import (
    IMAGE_SUFFIXES,
    Dataset,
    Sample,
    different_names,
    each_sample,
    image_files,
    make_sample,
)
from edgetl.data.listed import group_of
from edgetl_runtime.errors import InputError

NOT_SPLITS = frozenset({"path", "names", "nc", "download", "group_pattern", "domain"})


def is_yolo(root: Path) -> bool:
    """Whether this is a data.yaml, or a directory that holds one."""
    return _description(root).is_file()


def yolo_splits(root: Path) -> dict[str, Path]:
    """Split name -> image directory, as data.yaml names them."""
    description = _description(root)
    document = _load(description)
    base = description.parent / str(document.get("path") or ".")
    return {
        str(key): base / str(value)
        for key, value in document.items()
        if key not in NOT_SPLITS and isinstance(value, str) and value
    }


def folders_of(root: Path) -> list[Path]:
    """The folders of images and labels that a data.yaml names outside its own; none where there is no data.yaml."""
    if not is_yolo(root):
        return []
    own = _description(root).parent.resolve()
    images = [folder.resolve() for folder in yolo_splits(root).values()]
    both = [part for folder in images for part in (folder, label_file_of(folder / "image.jpg").parent)]
    return [folder for folder in dict.fromkeys(both) if not folder.is_relative_to(own)]


def read_yolo(root: Path, image_dir: Path, *, name: str) -> Dataset:
    """One split of a YOLO directory as a Dataset.

    An image without a label file has no objects, as the format says. `group_pattern` in data.yaml is a
    regular expression searched in the file stem: see listed.group_of. Raises InputError naming
    the file and line for anything malformed.
    """
    description = _description(root)
    document = _load(description)
    classes = _classes(description, document)
    try:
        pattern = re.compile(str(document.get("group_pattern") or ".*"))
    except re.error as error:
        raise InputError(f"{description}: group_pattern is not a regular expression ({error})") from error
    if not image_dir.is_dir():
        raise InputError(f"{description}: split {name!r} points to {image_dir}, which is not a directory")
    images = image_files(image_dir)
    if not images:
        raise InputError(f"{image_dir}: no images found, expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")
    return Dataset(name, classes, each_sample(images, lambda image: _sample(image, len(classes), pattern)))


def _description(root: Path) -> Path:
    return root if root.suffix in {".yaml", ".yml"} else root / "data.yaml"


def _load(description: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(description.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{description}: not readable as YAML ({error})", remedy="restore the file") from error
    if not isinstance(document, dict) or "names" not in document:
        raise InputError(f"{description}: not a YOLO description, it lacks names")
    return document


def _classes(description: Path, document: dict[str, Any]) -> tuple[str, ...]:
    names = document["names"]
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{description}: names must be a list, or a mapping from 0 upwards")
    if document.get("nc", len(names)) != len(names):
        raise InputError(f"{description}: nc is {document['nc']}, but {len(names)} names are given")
    return different_names(map(str, names), description)


def label_file_of(image: Path) -> Path:
    """The label file beside an image: the last `images` folder of its path becomes `labels`."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _sample(image: Path, classes: int, pattern: re.Pattern[str]) -> Sample:
    label_file = label_file_of(image)
    boxes, labels = [], []
    lines = label_file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if label_file.is_file() else []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            label = int(fields[0])
            cx, cy, w, h = (float(v) for v in fields[1:])
        except ValueError:
            raise InputError(
                f"{label_file}:{number}: expected `class cx cy w h`, found {line[:60]!r}",
                remedy="correct the line",
            ) from None
        boxes.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
        labels.append(label)
    return make_sample(
        image,
        boxes,
        labels,
        [False] * len(labels),
        classes=classes,
        label_file=label_file,
        group=group_of(image, pattern),
    )
