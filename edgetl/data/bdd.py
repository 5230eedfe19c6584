"""BDD100K: labels/det_20/det_<split>.json, or the older bdd100k_labels_images_<split>.json (arXiv:1805.04687).

Images lie in images/100k/<split>, pixels count from 0 as in COCO. A frame's time of day is its domain, its video its
group: `videoName`, or the part of the name before the dash. Bitmaps in labels/drivable/masks/<split> and
labels/lane/masks/<split> are read as layers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgetl.data.dataset import Dataset, MaskLayer, Sample, each_sample, make_sample
from edgetl.data.header import image_size
from edgetl.data.listed import check_listed, listed_classes
from edgetl_runtime.errors import InputError

CLASSES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light", "traffic sign",
)  # fmt: skip
"""Of the 2020 labels, in the order of their evaluation."""
IGNORED_AS = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
"""Classes that the evaluation neither asks for nor counts as wrong."""
OLDER = "bdd100k_labels_images_"
NO_TIME = "undefined"
LAYERS = (
    MaskLayer("drivable", ("background", "direct", "alternative"), (2, 0, 1)),
    # Bits 0 to 2: kind, 3: background, 4: style, 5: direction.
    MaskLayer(
        "lane",
        ("background", "lane"),
        (tuple(v for v in range(256) if v & 8), tuple(v for v in range(64) if not v & 8)),
    ),
)


def bdd_splits(root: Path) -> dict[str, Path]:
    """Split name -> its JSON; the labels of 2020 win over the older."""
    splits: dict[str, Path] = {}
    for folder, start in ((".", OLDER), ("labels", OLDER), ("labels/det_20", "det_")):
        for file in sorted((root / folder).glob(f"{start}*.json")):
            splits[file.stem.removeprefix(start)] = file
    return splits


def read_bdd(root: Path, split: str) -> Dataset:
    """One split as a Dataset; `crowd` and the classes that the evaluation leaves out become ignore.

    Classes are the lines of root/classes.txt, or those of 2020 where no others occur, or else all that occur. Raises
    InputError naming the file for anything malformed and for missing images.
    """
    files = bdd_splits(root)
    documents = {files[split]: _load(files[split])}
    try:
        classes = listed_classes(root) or _classes(documents, files.values())
        frames = _frames(documents[files[split]])
        samples = each_sample(frames, lambda frame: _sample(root, split, files[split], frame, classes))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{files[split]}: not in BDD100K's form ({type(error).__name__}: {error})", remedy="correct the entry"
        ) from error
    layers = tuple(x for x in LAYERS if (root / "labels" / x.name / "masks").is_dir())
    samples = tuple(dataclasses.replace(s, masks=tuple(_mask(root, split, s, x) for x in layers)) for s in samples)
    return Dataset(f"{root.name}/{split}", classes, samples, layers=layers)


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable as JSON ({error})", remedy="restore the file") from error


def _frames(document: Any) -> list[dict[str, Any]]:
    frames = document["frames"] if isinstance(document, dict) else document
    if not isinstance(frames, list):
        raise TypeError("expected a list of frames")
    return frames


def _boxes(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Labels with a box; lanes and drivable areas have none."""
    return (label for label in frame.get("labels") or () if label.get("box2d"))


def _classes(documents: dict[Path, Any], files: Iterable[Path]) -> tuple[str, ...]:
    """What any of the files names or holds, so that all splits agree."""
    found: set[str] = set()
    for file in files:
        document = documents.get(file) or _load(file)
        found |= {str(label["category"]) for frame in _frames(document) for label in _boxes(frame)}
    found = {IGNORED_AS.get(name, name) for name in found}
    return CLASSES if found and found <= set(CLASSES) else tuple(sorted(found))


def _sample(root: Path, split: str, file: Path, frame: dict[str, Any], classes: tuple[str, ...]) -> Sample:
    name = str(frame["name"])
    image = next((p for p in _places(root, split, name) if p.is_file()), None)
    if image is None:
        raise InputError(f"{file}: image {name} is missing in {root / 'images/100k' / split}", remedy="restore it")
    boxes, labels, ignore = [], [], []
    width, height = image_size(image)
    for label in _boxes(frame):
        category = str(label["category"])
        stand_in = IGNORED_AS.get(category, "") if category not in classes else ""
        x1, y1, x2, y2 = (float(label["box2d"][k]) for k in ("x1", "y1", "x2", "y2"))
        boxes.append((x1 / width, y1 / height, x2 / width, y2 / height))
        labels.append(check_listed(stand_in or category, classes, file))
        ignore.append(bool(stand_in) or bool((label.get("attributes") or {}).get("crowd")))
    time = str((frame.get("attributes") or {}).get("timeofday") or NO_TIME)
    return make_sample(
        image, boxes, labels, ignore, classes=len(classes), label_file=file,
        group=str(frame.get("videoName") or image.stem.split("-")[0]), domain="" if time == NO_TIME else time,
    )  # fmt: skip


def _places(root: Path, split: str, name: str) -> Iterator[Path]:
    for folder in ("100k", "10k", "."):
        yield root / "images" / folder / split / name
    yield root / "images" / name


def _mask(root: Path, split: str, sample: Sample, layer: MaskLayer) -> Path | None:
    file = root / "labels" / layer.name / "masks" / split / f"{sample.image.stem}.png"
    return file if file.is_file() else None
