"""COCO JSON: `annotations/<split>.json` beside the images (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgetl.data.dataset import Dataset, Sample, different_names, each_sample, make_sample
from edgetl.data.header import refuse_turned
from edgetl_runtime.errors import InputError


def coco_splits(root: Path) -> dict[str, Path]:
    """Split name -> annotation file; `instances_train2017.json` counts as `train`, unless there is another year's."""
    splits: dict[str, Path] = {}
    for file in sorted((root / "annotations").glob("*.json")):
        name = file.stem.removeprefix("instances_")
        short = re.sub(r"(?<=.)[_-]?(19|20)\d\d$", "", name)
        splits[name if short in splits else short] = file
    return splits


def read_coco(root: Path, annotation_file: Path, *, name: str) -> Dataset:
    """One COCO annotation file as a Dataset.

    Category ids are mapped to 0..C-1 in the order of their ids; `iscrowd` becomes ignore; images may carry
    `group` and `domain`. Raises InputError naming the file for bad JSON, unknown ids and missing images.
    """
    document = _load(annotation_file)
    try:
        return _dataset(root, annotation_file, document, name=name)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"{annotation_file}: not in COCO's form ({type(error).__name__}: {error})", remedy="correct the entry"
        ) from error


def _dataset(root: Path, annotation_file: Path, document: dict[str, Any], *, name: str) -> Dataset:
    for what in ("categories", "images"):
        _refuse_twice(annotation_file, what, "id", [int(entry["id"]) for entry in document[what]])
    _refuse_twice(annotation_file, "images", "file_name", [str(entry["file_name"]) for entry in document["images"]])
    categories = sorted(document["categories"], key=lambda c: int(c["id"]))
    index_of = {int(c["id"]): i for i, c in enumerate(categories)}
    names = different_names((str(c["name"]) for c in categories), annotation_file)
    boxes_of: dict[int, list[dict[str, Any]]] = {int(i["id"]): [] for i in document["images"]}
    for a in document["annotations"]:
        if int(a["image_id"]) not in boxes_of:
            raise InputError(
                f"{annotation_file}: annotation {a.get('id')} belongs to image id {a['image_id']}, which is not listed",
                remedy="remove the annotation or list the image",
            )
        if int(a["category_id"]) not in index_of:
            raise InputError(
                f"{annotation_file}: annotation {a.get('id')} has unknown class id {a['category_id']}, "
                f"expected one of {sorted(index_of)}",
                remedy="correct the annotation or add the category",
            )
        boxes_of[int(a["image_id"])].append(a)
    domain = _stated((document.get("info") or {}).get("domain"), "")
    samples = each_sample(
        document["images"],
        lambda image: _sample(root, annotation_file, image, boxes_of[int(image["id"])], index_of, domain),
    )
    return Dataset(name, names, samples)


def _refuse_twice(annotation_file: Path, what: str, key: str, values: Sequence[int | str]) -> None:
    """Raise InputError for an id or file that two entries have: labels would count for both, or lack in one of them."""
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            raise InputError(f"{annotation_file}: two of the {what} have the {key} {value}", remedy="give each its own")
        seen.add(value)


def _load(annotation_file: Path) -> dict[str, Any]:
    try:
        document = json.loads(annotation_file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{annotation_file}: not readable as JSON ({error})", remedy="restore the file") from error
    missing = [k for k in ("images", "annotations", "categories") if k not in document]
    if missing:
        raise InputError(f"{annotation_file}: not a COCO file, it lacks {', '.join(missing)}")
    return dict(document)


def _sample(
    root: Path,
    annotation_file: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    index_of: dict[int, int],
    domain: str,
) -> Sample:
    width, height = float(image["width"]), float(image["height"])
    boxes = []
    for a in annotations:
        x, y, w, h = (float(v) for v in a["bbox"])
        boxes.append((x / width, y / height, (x + w) / width, (y + h) / height))
    file = _find(root, annotation_file, str(image["file_name"]))
    refuse_turned(file, (width, height), annotation_file)
    return make_sample(
        file,
        boxes,
        [index_of[int(a["category_id"])] for a in annotations],
        [bool(a.get("iscrowd", 0)) for a in annotations],
        classes=len(index_of),
        label_file=annotation_file,
        group=_stated(image.get("group"), ""),
        domain=_stated(image.get("domain"), domain),
    )


def _stated(value: object, default: str) -> str:
    return default if value is None else str(value)


def _find(root: Path, annotation_file: Path, file_name: str) -> Path:
    split = annotation_file.stem.removeprefix("instances_")
    places = [
        root / file_name,
        root / "images" / file_name,
        root / "images" / split / file_name,
        root / split / file_name,
    ]
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{annotation_file}: image {file_name} is missing under {root}", remedy="restore or unlist it")
