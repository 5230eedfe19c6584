"""What a check of a dataset found: plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgetl.data.dataset import Dataset

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 8
"""How many files a finding names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found. code: a stable word for programs. files: examples. count: all that are concerned."""

    severity: Severity
    code: str
    split: str
    text: str
    remedy: str = ""
    files: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """A split in figures.

    classes: what is counted ("boxes", "images" or "pixels of LAYER") -> class name -> count. box_px: how many boxes
    fall between the edges BOX_EDGES, by the square root of their area in pixels of the network's input.
    """

    images: int
    groups: int
    boxes: int
    unlabelled: int
    size_hw_min: tuple[int, int]
    size_hw_max: tuple[int, int]
    classes: dict[str, dict[str, int]]
    box_px: tuple[int, ...]


def about_images(
    severity: Severity, code: str, split: str, dataset: Dataset, indices: Sequence[int], text: str, remedy: str
) -> list[Finding]:
    """A finding about these samples, none where there are none. text: what they are, after their number."""
    if not len(indices):
        return []
    files = [dataset.samples[i].image for i in indices]
    return [
        Finding(
            severity=severity,
            code=code,
            split=split,
            text=f"{counted(len(files), len(dataset), 'images')} {text}",
            remedy=remedy,
            files=examples(files),
            count=len(files),
        )
    ]


def examples(files: Sequence[Path]) -> tuple[str, ...]:
    """The first few of the files as text."""
    return tuple(str(f) for f in files[:EXAMPLES])


def counted(count: int, total: int, what: str) -> str:
    """`3 of 250 images (1.2 %)`."""
    if not 0 < count < total:
        return f"{count} of {total} {what}"
    percent = 100 * count / total
    return f"{count} of {total} {what} ({f'{percent:.1f}' if percent >= 0.1 else 'under 0.1'} %)"
