"""Findings about the boxes of one split: too small to be learnt, twice in one place, as large as the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset
from edgetl.data.findings import Finding, Severity, counted, examples
from edgetl.data.looks import Looks

BOX_EDGES = (8, 16, 32, 64, 128)
"""Edges between the sizes that are counted, in pixels of the network's input."""
SMALL_BOX_PX = 8
MANY_SMALL = 0.2
WHOLE_IMAGE = 0.95
FEW = 1e-3
"""Up to this share of the boxes a flaw is a note: no figure will move."""
SAME_PLACE = 1e-3
A_PIXEL = 1 - 1e-2
"""Sides are shares of the image in single precision: a box of one pixel comes out a little smaller or larger."""


def box_sizes_px(dataset: Dataset, looks: Looks, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """(B,) the square root of every box's area after letterboxing to size_hw, of those that aren't ignored."""
    sides = _sides_px(dataset, looks)
    scale = [
        min(size_hw[0] / max(h, 1), size_hw[1] / max(w, 1)) if h else 0.0 for h, w in looks.size_hw.tolist()
    ]  # fmt: skip
    parts = [np.sqrt(s.prod(axis=1)) * k for s, k in zip(sides, scale, strict=True)]
    return np.concatenate([*parts, np.zeros(0)])


def box_findings(split: str, dataset: Dataset, looks: Looks, size_hw: tuple[int, int]) -> list[Finding]:
    """All findings about the boxes of a split. size_hw: the network's input that sizes are stated for."""
    sides = _sides_px(dataset, looks)
    thin = [int((s.min(axis=1) < A_PIXEL).sum()) if looks.size_hw[i, 0] else 0 for i, s in enumerate(sides)]
    whole = [int((_shares(dataset, i).min(axis=1) > WHOLE_IMAGE).sum()) for i in range(len(dataset))]
    twice = [_repeated(dataset, i) for i in range(len(dataset))]
    found = [
        *_about_boxes(
            "warning", "box-degenerate", split, dataset, thin, "are less than a pixel wide or high",
            "remove them: no network can find them",
        ),
        *_about_boxes(
            "warning", "box-repeated", split, dataset, twice, "stand where one of the same class already does",
            "remove them: the second can never be found and counts as missed",
        ),
        *_about_boxes(
            "note", "box-whole-image", split, dataset, whole, "are as large as their image",
            "look whether they are labels of the whole image",
        ),
    ]  # fmt: skip
    return found + _small(split, dataset, looks, size_hw)


def _small(split: str, dataset: Dataset, looks: Looks, size_hw: tuple[int, int]) -> list[Finding]:
    sizes = box_sizes_px(dataset, looks, size_hw)
    sizes = sizes[sizes > 0]
    small = int((sizes < SMALL_BOX_PX).sum())
    if not small:
        return []
    return [
        Finding(
            severity="warning" if small / len(sizes) > MANY_SMALL else "note",
            code="box-small",
            split=split,
            text=f"{counted(small, len(sizes), 'boxes')} are smaller than {SMALL_BOX_PX}x{SMALL_BOX_PX} px "
            f"in a network input of {size_hw[1]}x{size_hw[0]}",
            remedy="expect to miss them, or tune with a larger --size",
            count=small,
        )
    ]


def _about_boxes(
    severity: Severity, code: str, split: str, dataset: Dataset, per_sample: list[int], text: str, remedy: str
) -> list[Finding]:
    count, total = sum(per_sample), sum(len(s.labels) for s in dataset.samples)
    if not count:
        return []
    files = [dataset.samples[i].image for i, n in enumerate(per_sample) if n]
    return [
        Finding(
            severity=severity if count > FEW * total else "note",
            code=code,
            split=split,
            text=f"{counted(count, total, 'boxes')} {text}",
            remedy=remedy,
            files=examples(files),
            count=count,
        )
    ]


def _shares(dataset: Dataset, index: int) -> NDArray[np.float64]:
    """(B, 2) width and height as shares of the image, of the boxes that aren't ignored."""
    sample = dataset.samples[index]
    boxes = sample.boxes[~sample.ignore].astype(np.float64)
    return np.asarray(boxes[:, 2:] - boxes[:, :2])


def _sides_px(dataset: Dataset, looks: Looks) -> list[NDArray[np.float64]]:
    """For every sample (B, 2) width and height in pixels of its image; zero where it can't be read."""
    return [_shares(dataset, i) * looks.size_hw[i, ::-1] for i in range(len(dataset))]


def _repeated(dataset: Dataset, index: int) -> int:
    sample = dataset.samples[index]
    places = np.round(sample.boxes / SAME_PLACE).astype(np.int64)
    rows = np.concatenate([sample.labels[:, None], places], axis=1)[~sample.ignore]
    return len(rows) - len(np.unique(rows, axis=0))
