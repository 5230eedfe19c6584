"""Find out what a dataset directory is, and read a split of it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from edgetl.data.dataset import Dataset, Sample
from edgetl.data.formats import format_named, format_of
from edgetl.data.listed import compiled_pattern, group_of, with_groups
from edgetl_runtime.errors import InputError


def read_dataset(root: Path, split: str, group_pattern: str | None = None, format: str | None = None) -> Dataset:  # noqa: A002
    """A split of a dataset directory in any format of edgetl.data.formats; `root` may also be a data.yaml.

    group_pattern: a regular expression searched in each file's stem; its first group, or else all that it matched,
    becomes the sample's group (after the category's name, where an image has one). format: the name of the
    format, found out where it is None. Raises InputError for a missing or empty directory, an unknown format or
    split, two formats at once, and malformed labels.
    """
    chosen = format_named(format) if format else format_of(root)
    splits = splits_of(root, format=chosen.name)
    if split not in splits:
        raise InputError(f"{root}: no split {split!r}, there are {', '.join(sorted(splits)) or 'none'}")
    dataset = chosen.read(root, split)
    if not dataset.samples:
        raise InputError(f"{root}: split {split!r} has no images")
    dataset = with_groups(dataset, root if root.is_dir() else root.parent)
    if group_pattern is None:
        return dataset
    others = (chosen.read(root, name) for name in splits if name != split)
    return _grouped(dataset, group_pattern, others, root)


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How a dataset directory is to be read, as `read_dataset` has it."""

    group_pattern: str | None = None
    format: str | None = None

    def read(self, root: Path, split: str) -> Dataset:
        """A split of it."""
        return read_dataset(root, split, self.group_pattern, self.format)

    def over(self, other: Reading) -> Reading:
        """What is said here, else what the other says."""
        return Reading(self.group_pattern or other.group_pattern, self.format or other.format)


def splits_of(root: Path, format: str | None = None) -> tuple[str, ...]:  # noqa: A002
    """The names of a dataset's splits. Raises InputError as read_dataset does."""
    if not root.exists():
        raise InputError(f"{root}: no such dataset directory")
    chosen = format_named(format) if format else format_of(root)
    if format and not ((root.is_dir() or chosen.name == "yolo") and chosen.detect(root)):
        raise InputError(f"{root}: is not of format {chosen.name}; looked for {chosen.looks_for}")
    return tuple(chosen.splits(root))


def same_classes(train: Dataset, val: Dataset) -> None:
    """Raise InputError, with the difference named, unless both know the same classes in the same order."""
    kinds = [("classes", train.classes, val.classes), ("categories", train.categories, val.categories)]
    kinds.append(("mask layers", tuple(x.name for x in train.layers), tuple(x.name for x in val.layers)))
    kinds += [
        (f"classes of the mask layer {a.name}", a.classes, b.classes)
        for a, b in zip(train.layers, val.layers, strict=False)
    ]
    for what, ours, theirs in kinds:
        if ours == theirs:
            continue
        missing, extra = [c for c in ours if c not in theirs], [c for c in theirs if c not in ours]
        parts = [f"only {train.name} has {', '.join(missing)}"] if missing else []
        parts += [f"only {val.name} has {', '.join(extra)}"] if extra else []
        raise InputError(
            f"the {what} of {train.name} and {val.name} differ: {'; '.join(parts) or 'they are in another order'}",
            remedy="give both splits the same classes",
        )


def _grouped(dataset: Dataset, text: str, others: Iterable[Dataset], root: Path) -> Dataset:
    """The dataset with groups by file name. Raises InputError for a pattern that fits no name of any split."""
    pattern = compiled_pattern(text)
    if not any(pattern.search(s.image.stem) for d in itertools.chain([dataset], others) for s in d.samples):
        raise InputError(
            f"{root}: the group pattern {text!r} fits no file name; the first is {dataset.samples[0].image.stem}",
            remedy="correct the pattern",
        )
    return dataclasses.replace(dataset, samples=tuple(_with_group(dataset, s, pattern) for s in dataset.samples))


def _with_group(dataset: Dataset, sample: Sample, pattern: re.Pattern[str]) -> Sample:
    group = group_of(sample.image, pattern)
    if sample.category >= 0:  # file names in folders of classes often begin again with every class
        group = f"{dataset.categories[sample.category]}/{group}"
    return dataclasses.replace(sample, group=group)
