"""Write a dataset in another format: what the format can't hold is refused, or left out and counted."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgetl.data.dataset import Dataset, Sample
from edgetl.data.folders import NOT_SPLITS as NOT_FOLDER_SPLITS
from edgetl.data.kitti import written_name
from edgetl.data.leaks import stated_groups
from edgetl.data.listed import GROUPS_FILE, GROUPS_HEADER
from edgetl.data.read import same_classes
from edgetl.data.writers import WRITERS, Placed, write_masks
from edgetl.data.yolo import NOT_SPLITS as NOT_YOLO_SPLITS
from edgetl_export.publish import publish_directory
from edgetl_runtime.errors import InputError

BOX_FORMATS = frozenset({"coco", "yolo", "voc", "kitti", "bdd"})
OWN_GROUPS = frozenset({"coco", "bdd"})
"""Formats whose labels carry groups and domains; beside the others lies groups.csv."""
ONE_FOLDER = frozenset({"voc", "kitti"})
"""Formats that keep the images of all splits in one folder, named in lists of one name a line."""
INSTEAD = {"cityscapes": "masks"}
"""What a dataset is written as whose own format is only read."""


@dataclass(frozen=True, slots=True)
class WrittenDataset:
    """What was written. splits: images and boxes of each. dropped: what was left out, by kind."""

    path: Path
    format: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


def written_format(name: str) -> str:
    """The format in which a dataset read as `name` is written again. Raises InputError for an unknown one."""
    chosen = INSTEAD.get(name, name)
    _check_format(chosen)
    return chosen


def write_dataset_as(
    format: str,  # noqa: A002
    splits: Mapping[str, Dataset],
    out: Path,
    *,
    drop: bool = False,
    force: bool = False,
    on_image: Callable[[], None] | None = None,
) -> WrittenDataset:
    """Write these splits to the directory `out`; images and masks are copied byte for byte.

    Groups and domains go along, in groups.csv where the labels can't carry them. Images of one name get different
    ones. Without `drop`, what the format can't hold raises InputError that names and counts it. Raises InputError too
    for splits whose classes differ, names that the format can't hold, and an existing `out` without `force`.
    """
    fitted, dropped = check_writable(format, splits, out, drop=drop)
    placed = _place(format, fitted)
    with publish_directory(out, force=force) as work:
        files = WRITERS[format](fitted, placed, work, on_image or _nothing)
        if format != "folders":
            write_masks(fitted, placed, work, plain=format == "masks")
        if format not in OWN_GROUPS:
            _write_groups(fitted, placed, files, work)
    counts = {n: {"images": len(d), "objects": sum(len(s.labels) for s in d.samples)} for n, d in fitted.items()}
    return WrittenDataset(out, format, counts, dropped)


def check_writable(
    format: str,  # noqa: A002
    splits: Mapping[str, Dataset],
    out: Path,
    *,
    drop: bool,
) -> tuple[dict[str, Dataset], dict[str, int]]:
    """What would be written of these splits, and what left out. Raises InputError as write_dataset_as does."""
    _check_format(format)
    _check_splits(format, splits)
    dropped = Counter[str]()
    fitted = {name: _fit(format, dataset, dropped) for name, dataset in splits.items()}
    first = next(iter(fitted.values()))
    if not any(d.samples for d in fitted.values()) or not (first.classes or first.categories or first.layers):
        raise InputError(f"the data set has nothing that format {format} can hold", remedy="choose another format")
    if dropped and not drop:
        found = ", ".join(f"{count} {what}" for what, count in dropped.items())
        raise InputError(f"format {format} can't hold {found}", remedy="leave them out with --drop, or choose another")
    _refuse_source(fitted, out)
    return {name: d for name, d in fitted.items() if d.samples}, dict(dropped)


def _check_format(name: str) -> None:
    if name not in WRITERS:
        raise InputError(f"format {name!r} can't be written", remedy=f"formats: {', '.join(WRITERS)}")


def _nothing() -> None:
    """Nobody counts."""


def _refuse_source(splits: Mapping[str, Dataset], out: Path) -> None:
    """Raise InputError where replacing `out` would delete what is being written."""
    place = out.resolve()
    for dataset in splits.values():
        source = next((s.image for s in dataset.samples if s.image.resolve().is_relative_to(place)), None)
        if source is not None:
            raise InputError(f"{out}: holds the images that are to be written", remedy="choose another directory")


def _check_splits(format: str, splits: Mapping[str, Dataset]) -> None:  # noqa: A002
    if not splits:
        raise InputError("there is no split to write")
    taken = {"yolo": NOT_YOLO_SPLITS, "folders": NOT_FOLDER_SPLITS}.get(format, frozenset())
    for name in splits:
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name) or name in taken:
            raise InputError(f"{name!r} can't be the name of a split of format {format}", remedy="choose another name")
    first, *others = splits.values()
    for other in others:
        same_classes(first, other)
        if first.layers != other.layers:
            raise InputError(f"the masks of {first.name} and {other.name} mean their classes by different values")
    names = (*first.classes, *first.categories, *(c for x in first.layers for c in x.classes))
    wrong = next((n for n in names if n != n.strip() or not n or not n.isprintable()), None)
    if wrong is None and format == "folders":
        wrong = next((n for n in first.categories if re.search(r"[/\\]|^\.", n)), None)
    if wrong is None and format == "kitti":
        written = Counter(written_name(n) for n in first.classes)
        wrong = next((n for n in first.classes if written[written_name(n)] > 1 or n == "DontCare"), None)
    if wrong is not None:
        raise InputError(f"the class name {wrong!r} can't be written in format {format}", remedy="rename the class")


def _fit(format: str, dataset: Dataset, dropped: Counter[str]) -> Dataset:  # noqa: A002
    """The part of a dataset that the format can hold; the rest is counted."""
    samples = []
    for s in dataset.samples:
        if format == "folders" and s.category < 0:
            dropped["images without a category"] += 1
        else:
            samples.append(_fit_sample(format, s, dataset, dropped))
    return Dataset(
        dataset.name,
        dataset.classes if format in BOX_FORMATS else (),
        tuple(samples),
        dataset.categories if format == "folders" else (),
        dataset.layers if format != "folders" else (),
    )


def _fit_sample(format: str, sample: Sample, dataset: Dataset, dropped: Counter[str]) -> Sample:  # noqa: A002
    keep = np.full(len(sample.labels), format in BOX_FORMATS)
    if format not in BOX_FORMATS:
        _count(dropped, "boxes", len(sample.labels))
    elif format == "yolo":
        keep = ~sample.ignore
        _count(dropped, "ignored boxes", int(sample.ignore.sum()))
    elif format == "kitti":
        _count(dropped, "classes of ignored boxes (all become DontCare)", _of_some_classes(sample, dataset))
    if format != "folders":
        _count(dropped, "categories of images", int(sample.category >= 0))
    else:
        _count(dropped, "masks", sum(m is not None for m in sample.masks))
    return dataclasses.replace(
        sample,
        boxes=sample.boxes[keep], labels=sample.labels[keep], ignore=sample.ignore[keep],
        category=sample.category if format == "folders" else -1, masks=sample.masks if format != "folders" else (),
    )  # fmt: skip


def _count(dropped: Counter[str], what: str, count: int) -> None:
    if count:
        dropped[what] += count


def _of_some_classes(sample: Sample, dataset: Dataset) -> int:
    """Ignored boxes that are not there for every class: DontCare says less than they do."""
    classes_of: dict[bytes, list[int]] = {}
    for box, label in zip(sample.boxes[sample.ignore], sample.labels[sample.ignore].tolist(), strict=True):
        classes_of.setdefault(box.tobytes(), []).append(label)
    every = list(range(len(dataset.classes)))
    return sum(len(found) for found in classes_of.values() if sorted(found) != every)


def _place(format: str, splits: Mapping[str, Dataset]) -> dict[str, list[Placed]]:  # noqa: A002
    """A file name for every image, its stem different from all others in the same folder."""
    placed: dict[str, list[Placed]] = {}
    taken: set[str] = set()
    stated = set[str]().union(*map(stated_groups, splits.values()))
    for split, dataset in splits.items():
        placed[split] = []
        if format not in ONE_FOLDER:
            taken = set()
        for s in dataset.samples:
            stem = s.image.stem.lstrip(".") or "image"
            if format in ONE_FOLDER:
                stem = "_".join(stem.split())
            place = f"{s.category}/" if format == "folders" else ""
            parent = split if format in ONE_FOLDER else s.image.parent.name
            name = _free(place, stem, parent, taken)
            taken.add(place + name)
            own = s if s.group in stated else dataclasses.replace(s, group=_unstated(dataset, s, name))
            suffix = s.image.suffix.lower() if format in ONE_FOLDER else s.image.suffix  # found by its name alone
            placed[split].append(Placed(own, f"{name}{suffix}"))
    return placed


def _unstated(dataset: Dataset, sample: Sample, stem: str) -> str:
    """The group that a reader gives to an image of this name about which nothing is stated."""
    return f"{dataset.categories[sample.category]}/{stem}" if sample.category >= 0 else stem


def _free(place: str, stem: str, parent: str, taken: set[str]) -> str:
    if place + stem not in taken:
        return stem
    stem, number = f"{parent}_{stem}", 1
    name = stem
    while place + name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _write_groups(
    splits: Mapping[str, Dataset], placed: Mapping[str, list[Placed]], files: Mapping[str, list[Path]], work: Path
) -> None:
    """groups.csv, with the images whose group or domain a reader wouldn't know."""
    rows = []
    for split, places in placed.items():
        for sample, file in zip((p.sample for p in places), files[split], strict=True):
            if sample.group != _unstated(splits[split], sample, file.stem) or sample.domain:
                rows.append((file.relative_to(work).as_posix(), sample.group, sample.domain))
    if rows:
        with (work / GROUPS_FILE).open("w", encoding="utf-8", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerows([GROUPS_HEADER, *rows])
