"""Leaks between two splits: what stands on both sides makes a validation figure look better than it is.

Three kinds: a group (a drive, a physical object) with images on both sides; the same file; the same picture,
compressed, resized or made brighter. Crops and mirrored copies are not found.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgetl.data.dataset import Dataset, Sample
from edgetl.data.looks import UNREAD, Looks, file_sha256, looks_of, most_alike
from edgetl_runtime.errors import InputError

Why = Literal["same group", "same file", "same picture"]
WHYS: tuple[Why, ...] = ("same group", "same file", "same picture")
NAMED = 3
"""How many pairs an error names."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One pair: indices of a sample of the first and of the second dataset. group: of a `same group`.

    likeness: 1 for the same file, the product of the descriptors for the same picture, 0 for a group.
    """

    first: int
    second: int
    why: Why
    group: str = ""
    likeness: float = 0.0


@dataclass(frozen=True, slots=True)
class Leaks:
    """All that stands in both datasets.

    pairs: one for every common group, and one for every image of the second dataset that is also in the first.
    images: for each kind, how many images of the second dataset are concerned. total: those of any kind.
    """

    first: Dataset
    second: Dataset
    pairs: tuple[Leak, ...]
    images: dict[Why, int]
    total: int

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def line(self, leak: Leak) -> str:
        """One pair for a person, its files named from the folder that holds both."""
        a, b = self.first.samples[leak.first].image, self.second.samples[leak.second].image
        folder = Path(os.path.commonpath([a.parent.absolute(), b.parent.absolute()]))
        ours, theirs = (p.absolute().relative_to(folder) for p in (a, b))
        if leak.why == "same group":
            return f"group {leak.group} is in both ({ours} and {theirs})"
        relation = "the same file as" if leak.why == "same file" else f"the same picture ({leak.likeness:.2f}) as"
        return f"{theirs} is {relation} {ours}"

    def summary(self) -> str:
        """How many images of the second dataset leak, and why."""
        parts = ", ".join(f"{self.images[why]} by {why.removeprefix('same ')}" for why in WHYS if self.images[why])
        return (
            f"{self.total} of {len(self.second)} images of {self.second.name} leak from {self.first.name} "
            f"({parts or 'none'})"
        )


def find_leaks(first: Dataset, second: Dataset, *, full: bool = True) -> Leaks:
    """What stands in both datasets.

    full: look at every image (cached, with a progress bar) for the same picture in other bytes; else groups and equal
    bytes only, and only files of equal size are read. Raises InputError for a file that can't be read.
    """
    stated = stated_groups(first) | stated_groups(second)
    groups = _by_group(first, second, stated)
    theirs = _members(second, stated)
    concerned = {why: set[int]() for why in WHYS}
    concerned["same group"] = {index for leak in groups for index in theirs[leak.group]}
    if full:
        a, b = looks_of(first), looks_of(second)
        files = _by_hash(a, b)
        known = {leak.second for leak in files}
        pictures = [leak for leak in _by_looks(a, b) if leak.second not in known]
    else:
        files, pictures = _by_bytes(first, second), []
    for leak in files + pictures:
        concerned[leak.why].add(leak.second)
    total = len(set().union(*concerned.values()))
    images = {why: len(found) for why, found in concerned.items()}
    return Leaks(first, second, (*groups, *files, *pictures), images, total)


def refuse_leaks(train: Dataset, val: Dataset, *, allow: bool = False, full: bool = False) -> Leaks:
    """The leaks between two splits; raises InputError that names the first ones unless they are allowed."""
    leaks = find_leaks(train, val, full=full)
    if leaks and not allow:
        shown = "; ".join(leaks.line(leak) for leak in leaks.pairs[:NAMED])
        more = len(leaks.pairs) - NAMED
        raise InputError(
            f"{leaks.summary()}: {shown}" + (f"; and {more} more" if more > 0 else ""),
            remedy="split anew with `edgetl data split`, or go on with --allow-leaks",
        )
    return leaks


def grouped(sample: Sample) -> bool:
    """Whether the sample's group says more than the file's own name, which is the default."""
    stem = sample.image.stem
    return sample.group != stem and not sample.group.endswith("/" + stem)


def stated_groups(dataset: Dataset) -> set[str]:
    """The groups that the dataset states. A file that bears its group's name, as a drive's first may, is of it too."""
    return {s.group for s in dataset.samples if grouped(s)}


def groups_of(dataset: Dataset) -> dict[str, list[int]]:
    """Group -> its samples, of all groups that the dataset states."""
    return _members(dataset, stated_groups(dataset))


def _members(dataset: Dataset, stated: AbstractSet[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, sample in enumerate(dataset.samples):
        if sample.group in stated:
            groups[sample.group].append(index)
    return dict(groups)


def copies(dataset: Dataset) -> list[tuple[int, int]]:
    """Pairs of samples with equal bytes. Raises InputError for a file that can't be read."""
    return [(leak.first, leak.second) for leak in _by_bytes(dataset, dataset) if leak.first != leak.second]


def _by_group(first: Dataset, second: Dataset, stated: AbstractSet[str]) -> list[Leak]:
    ours, theirs = _members(first, stated), _members(second, stated)
    return [Leak(ours[g][0], theirs[g][0], "same group", group=g) for g in ours if g in theirs]


def _by_bytes(first: Dataset, second: Dataset) -> list[Leak]:
    """Equal files. Two of different sizes can't be equal, so most are never read."""
    ours, theirs = _by_size(first), _by_size(second)
    leaks = []
    for size in sorted(ours.keys() & theirs.keys()):
        known: dict[bytes, int] = {}
        for index in ours[size]:
            known.setdefault(file_sha256(first.samples[index].image), index)
        for index in theirs[size]:
            partner = known.get(file_sha256(second.samples[index].image))
            if partner is not None:
                leaks.append(Leak(partner, index, "same file", likeness=1.0))
    return sorted(leaks, key=lambda leak: leak.second)


def _by_hash(first: Looks, second: Looks) -> list[Leak]:
    known: dict[bytes, int] = {}
    for index, row in enumerate(first.sha256):
        known.setdefault(row.tobytes(), index)
    known.pop(UNREAD, None)
    partners = [(known.get(row.tobytes()), index) for index, row in enumerate(second.sha256)]
    return [Leak(partner, index, "same file", likeness=1.0) for partner, index in partners if partner is not None]


def _by_size(dataset: Dataset) -> dict[int, list[int]]:
    sizes: dict[int, list[int]] = defaultdict(list)
    for index, sample in enumerate(dataset.samples):
        try:
            sizes[sample.image.stat().st_size].append(index)
        except OSError as error:
            raise InputError(
                f"{sample.image}: can't be read ({error.strerror})", remedy="restore or unlist it"
            ) from error
    return sizes


def _by_looks(first: Looks, second: Looks) -> list[Leak]:
    """The most alike image of the first for every image of the second that has one."""
    partner, likeness = most_alike(first, second)
    found = np.flatnonzero(partner >= 0)
    return [Leak(int(partner[j]), int(j), "same picture", likeness=float(likeness[j])) for j in found]
