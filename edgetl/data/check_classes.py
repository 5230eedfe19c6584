"""Findings about classes: unseen, rare, in one split only, in other proportions; and images without any label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset
from edgetl.data.findings import Finding, Severity, about_images, counted
from edgetl.data.histograms import box_counts, category_counts, mask_counts
from edgetl.data.read import same_classes
from edgetl_runtime.errors import InputError

RARE = 20
"""Fewer objects than this of a class, in all splits together, are rare."""
IMBALANCE_NOTE, IMBALANCE_WARNING = 20, 100
SHIFT = 0.15
"""Total variation distance between two splits' shares of the classes that is worth a warning."""
ENOUGH = 50
"""Fewer objects than this say nothing about shares."""
MOST = 0.5


@dataclass(frozen=True, slots=True)
class Tally:
    """One kind of label of a split. what: boxes, images or `pixels of LAYER`. counts: (N, C) int64 by sample."""

    what: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def totals(self) -> NDArray[np.int64]:
        """(C,) over all samples."""
        return np.asarray(self.counts.sum(axis=0))

    @property
    def objects(self) -> NDArray[np.int64]:
        """(C,) as totals, but of pixels the number of images in which the class occurs."""
        return np.asarray((self.counts > 0).sum(axis=0)) if self.what.startswith("pixels") else self.totals

    @property
    def unit(self) -> str:
        """What `objects` counts."""
        return "images" if self.what.startswith("pixels") else self.what


def tallies(dataset: Dataset) -> list[Tally]:
    """Every kind of label that the dataset knows."""
    found = [Tally("boxes", dataset.classes, box_counts(dataset))] if dataset.classes else []
    found += [Tally("images", dataset.categories, category_counts(dataset))] if dataset.categories else []
    for index, layer in enumerate(dataset.layers):
        counts = mask_counts(dataset, index).per_class(layer)
        found.append(Tally(f"pixels of {layer.name}", layer.classes, counts))
    return found


def unlabelled(dataset: Dataset, of: list[Tally]) -> NDArray[np.bool_]:
    """(N,) bool, samples without any label at all; an ignored box is one."""
    has = np.array([len(s.labels) > 0 for s in dataset.samples], np.bool_)
    for tally in of:
        has |= tally.counts.any(axis=1)
    return ~has


def unlabelled_findings(split: str, dataset: Dataset, of: list[Tally]) -> list[Finding]:
    """How many images carry no label; a split without any is a note, since adapting needs none."""
    missing = np.flatnonzero(unlabelled(dataset, of)).tolist()
    all_of_them = len(missing) == len(dataset)
    return about_images(
        "warning" if not all_of_them and len(missing) > MOST * len(dataset) else "note",
        "unlabelled", split, dataset, missing, "have no label",
        "use them to adapt or to measure shift" if all_of_them else "make sure that they show nothing to label",
    )  # fmt: skip


def class_findings(datasets: Mapping[str, Dataset], by_split: Mapping[str, list[Tally]]) -> list[Finding]:
    """Findings about the classes over all splits."""
    findings = _differing(datasets)
    if findings:  # counts of different lists can't be compared
        return findings
    for index, first in enumerate(next(iter(by_split.values()), [])):
        of_kind = {split: all_of[index] for split, all_of in by_split.items() if all_of[index].counts.any()}
        if of_kind:
            findings += [*_unseen(first, of_kind), *_imbalance(first, of_kind), *_shift(of_kind)]
    return findings


def _differing(datasets: Mapping[str, Dataset]) -> list[Finding]:
    names = list(datasets)
    findings = []
    for name in names[1:]:
        try:
            same_classes(datasets[names[0]], datasets[name])
        except InputError as error:
            findings.append(_finding("error", "classes-differ", f"{names[0]}, {name}", error.message, error.remedy))
    return findings


def _unseen(kind: Tally, of_kind: Mapping[str, Tally]) -> list[Finding]:
    seen = {split: tally.objects > 0 for split, tally in of_kind.items()}
    everywhere = np.array(list(seen.values()))
    never = [c for c, any_seen in zip(kind.classes, np.any(everywhere, axis=0).tolist(), strict=True) if not any_seen]
    findings = []
    if never:
        text = f"{counted(len(never), len(kind.classes), 'classes')} never occur: {_listed(never)}"
        remedy = "label some, or take the class out: nothing can be learnt about it"
        findings.append(_finding("warning", "class-unseen", "all", text, remedy, len(never)))
    if len(of_kind) < 2:
        return findings
    for split, has in seen.items():
        lacking = [c for i, c in enumerate(kind.classes) if everywhere[:, i].any() and not has[i]]
        if lacking:
            text = f"no {kind.what} of {_listed(lacking)}, which other splits have"
            remedy = "split anew with `edgetl data split`, which keeps classes in balance"
            findings.append(_finding("warning", "class-missing-in-split", split, text, remedy, len(lacking)))
    return findings


def _imbalance(kind: Tally, of_kind: Mapping[str, Tally]) -> list[Finding]:
    objects = np.sum([t.objects for t in of_kind.values()], axis=0)
    totals = np.sum([t.totals for t in of_kind.values()], axis=0)
    findings = []
    rare = [f"{c} ({n})" for c, n in zip(kind.classes, objects.tolist(), strict=True) if 0 < n < RARE]
    if rare:
        text = f"fewer than {RARE} {kind.unit} in all splits: {_listed(rare)}"
        remedy = "label more of them, or merge the class into another"
        findings.append(_finding("warning", "class-rare", "all", text, remedy, len(rare)))
    present = np.flatnonzero(totals)
    most, least = present[totals[present].argmax()], present[totals[present].argmin()]
    ratio = float(totals[most] / totals[least])
    if ratio >= IMBALANCE_NOTE:
        text = (
            f"{kind.classes[most]} has {_number(int(totals[most]))} {kind.what}, {kind.classes[least]} "
            f"{_number(int(totals[least]))}: {_number(round(ratio))} to 1"
        )
        severity: Severity = "warning" if ratio >= IMBALANCE_WARNING and kind.unit == kind.what else "note"
        remedy = "judge by the metric of each class, not by the mean alone"
        findings.append(_finding(severity, "class-imbalance", "all", text, remedy))
    return findings


def _shift(of_kind: Mapping[str, Tally]) -> list[Finding]:
    """Splits whose classes come in other proportions than in the largest split."""
    usable = {split: t for split, t in of_kind.items() if t.objects.sum() >= ENOUGH}
    if len(usable) < 2:
        return []
    largest = max(usable, key=lambda split: len(usable[split].counts))
    reference = usable[largest].totals / usable[largest].totals.sum()
    findings = []
    for split, tally in usable.items():
        shares = tally.totals / tally.totals.sum()
        distance = float(np.abs(shares - reference).sum() / 2)
        if distance >= SHIFT:
            i = int(np.abs(shares - reference).argmax())
            text = (
                f"{100 * distance:.0f} % of the {tally.what} are of other classes than in {largest}: "
                f"{tally.classes[i]} makes {100 * shares[i]:.1f} %, there {100 * reference[i]:.1f} %"
            )
            remedy = "intended where the split is another domain; else split anew with `edgetl data split`"
            findings.append(_finding("warning", "class-shift", split, text, remedy))
    return findings


def _finding(severity: Severity, code: str, split: str, text: str, remedy: str, count: int = 1) -> Finding:
    return Finding(severity=severity, code=code, split=split, text=text, remedy=remedy, count=count)


def _listed(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")
