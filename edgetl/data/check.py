"""Check a dataset before anything is trained on it: files, labels, classes, and leaks between splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edgetl.data.check_boxes import BOX_EDGES, box_findings, box_sizes_px
from edgetl.data.check_classes import Tally, class_findings, tallies, unlabelled, unlabelled_findings
from edgetl.data.check_images import image_findings
from edgetl.data.check_masks import mask_findings
from edgetl.data.dataset import Dataset, LabelErrors
from edgetl.data.findings import EXAMPLES, SEVERITIES, Finding, SplitFacts, counted, examples
from edgetl.data.leaks import WHYS, Leaks, Why, find_leaks, groups_of
from edgetl.data.looks import Looks, looks_of
from edgetl_runtime.errors import InputError

DEFAULT_SIZE_HW = (352, 640)
MOST_ERRORS = 50
"""How many wrong labels of a split are listed."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a check found, worst first; figures of every split that could be read; leaks between pairs of them."""

    findings: tuple[Finding, ...]
    splits: dict[str, SplitFacts]
    leaks: tuple[Leaks, ...]

    def count(self, severity: str) -> int:
        """How many findings are of this severity."""
        return sum(f.severity == severity for f in self.findings)


def check(
    datasets: Mapping[str, Dataset],
    *,
    size_hw: tuple[int, int] = DEFAULT_SIZE_HW,
    unreadable: Mapping[str, InputError] | None = None,
    without_file: Sequence[str] = (),
) -> Findings:
    """Check all splits of a dataset.

    datasets: split name -> what could be read. size_hw: the network's input that box sizes are stated for.
    unreadable: split name -> why its labels could not be read. without_file: what groups.csv names and is not there.
    Images are looked at once and cached.
    """
    findings = [f for split, error in (unreadable or {}).items() for f in _label_errors(split, error)]
    if without_file:
        text = f"{len(without_file)} lines of groups.csv name no file: {without_file[0]!r}"
        remedy = "remove them, or correct their paths: the images that were meant are in groups of their own"
        findings.append(
            Finding(
                severity="warning",
                code="group-line",
                split="all",
                text=text,
                remedy=remedy,
                files=tuple(without_file[:EXAMPLES]),
                count=len(without_file),
            )
        )
    facts: dict[str, SplitFacts] = {}
    by_split: dict[str, list[Tally]] = {}
    leaks: list[Leaks] = []
    for split, dataset in datasets.items():
        looks = looks_of(dataset)
        by_split[split] = tallies(dataset)
        facts[split] = _facts(dataset, looks, by_split[split], size_hw)
        findings += image_findings(split, dataset, looks)
        findings += unlabelled_findings(split, dataset, by_split[split])
        findings += box_findings(split, dataset, looks, size_hw)
        findings += mask_findings(split, dataset, looks)
    findings += class_findings(datasets, by_split)
    for a, b in combinations(datasets, 2):
        found = find_leaks(datasets[a], datasets[b])
        findings += _leak_findings(a, b, found, matters=_matters(a, b, facts))
        leaks += [found] if found else []
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), not f.code.startswith("leak")))
    return Findings(tuple(findings), facts, tuple(leaks))


def _label_errors(split: str, error: InputError) -> list[Finding]:
    """A finding for each of the wrong entries up to MOST_ERRORS, and one for the rest."""
    errors = error.errors if isinstance(error, LabelErrors) else (error,)
    shown = [(e.message, e.remedy, 1) for e in errors[:MOST_ERRORS]]
    if more := len(errors) - len(shown):
        shown.append((f"{more} more entries are wrong", "mend those above and check again", more))
    return [
        Finding(severity="error", code="labels-unreadable", split=split, text=text, remedy=remedy, count=count)
        for text, remedy, count in shown
    ]


def _facts(dataset: Dataset, looks: Looks, of: list[Tally], size_hw: tuple[int, int]) -> SplitFacts:
    sizes = looks.size_hw[looks.readable]
    low, high = (sizes.min(axis=0), sizes.max(axis=0)) if len(sizes) else (np.zeros(2, int), np.zeros(2, int))
    px = box_sizes_px(dataset, looks, size_hw)
    bins = np.bincount(np.digitize(px, BOX_EDGES), minlength=len(BOX_EDGES) + 1)
    return SplitFacts(
        images=len(dataset),
        groups=len(groups_of(dataset)),
        boxes=sum(len(s.labels) for s in dataset.samples),
        unlabelled=int(unlabelled(dataset, of).sum()),
        size_hw_min=(int(low[0]), int(low[1])),
        size_hw_max=(int(high[0]), int(high[1])),
        classes={t.what: dict(zip(t.classes, t.totals.tolist(), strict=True)) for t in of},
        box_px=tuple(bins.tolist()),
    )


LEAK_TEXTS: dict[Why, tuple[str, str, str]] = {
    "same group": (
        "leak-group", "are of a group that is also in", "split anew with `edgetl data split`, which keeps groups whole",
    ),
    "same file": ("leak-file", "are the same file as one of", "remove them from one of the splits"),
    "same picture": (
        "leak-picture", "are the same picture as one of", "split anew with `edgetl data split --by look`",
    ),
}  # fmt: skip
"""Code, what is the matter, remedy."""


def _matters(a: str, b: str, facts: Mapping[str, SplitFacts]) -> bool:
    """Whether a leak between two splits spoils a figure: one is trained on, and the other has labels to score by.

    Where no split's name begins with `train` any of them may be the one.
    """
    trained = [split for split in facts if split.startswith("train")] or list(facts)
    labelled = all(facts[split].unlabelled < facts[split].images for split in (a, b))
    return labelled and (a in trained or b in trained)


def _leak_findings(a: str, b: str, leaks: Leaks, *, matters: bool) -> list[Finding]:
    findings = []
    for why in WHYS:
        pairs = [p for p in leaks.pairs if p.why == why]
        if not pairs:
            continue
        code, what, remedy = LEAK_TEXTS[why]
        files = [(leaks.first.samples[p.first].image, leaks.second.samples[p.second].image) for p in pairs]
        share = counted(leaks.images[why], len(leaks.second), f"images of {b}")
        findings.append(
            Finding(
                severity="error" if matters else "warning",
                code=code,
                split=f"{a}, {b}",
                text=f"{share} {what} {a}: {leaks.line(pairs[0])}",
                remedy=remedy,
                files=examples([f for pair in files for f in pair]),
                count=leaks.images[why],
            )
        )
    return findings
