"""Findings about the masks of one split: unreadable, of another size than their image, or meaning nothing."""

from __future__ import annotations

import numpy as np

from edgetl.data.dataset import VOID, Dataset, MaskLayer, read_mask
from edgetl.data.findings import Finding, about_images
from edgetl.data.histograms import MaskCounts, mask_counts
from edgetl.data.looks import Looks
from edgetl_runtime.errors import InputError

MOSTLY_VOID = 0.5
LISTED = 6


def mask_findings(split: str, dataset: Dataset, looks: Looks) -> list[Finding]:
    """All findings about the masks of a split."""
    findings: list[Finding] = []
    for index, layer in enumerate(dataset.layers):
        counts = mask_counts(dataset, index)
        findings += _files(split, dataset, index, counts, looks)
        findings += _void(split, dataset, layer, counts)
    return findings


def _files(split: str, dataset: Dataset, index: int, counts: MaskCounts, looks: Looks) -> list[Finding]:
    name = dataset.layers[index].name
    bad = np.flatnonzero(counts.size_hw[:, 0] < 0).tolist()
    missing = np.flatnonzero(counts.size_hw[:, 0] == 0).tolist()
    known = (counts.size_hw[:, 0] > 0) & looks.readable
    other = np.flatnonzero(known & (counts.size_hw != looks.size_hw).any(axis=1)).tolist()
    findings = []
    if bad:
        findings += about_images(
            "error", "mask-unreadable", split, dataset, bad,
            f"have a mask of {name} that can't be used; {_reason(dataset, index, bad[0])}",
            "write masks as PNG with one 8-bit channel",
        )  # fmt: skip
    if other:
        (mh, mw), (h, w) = counts.size_hw[other[0]].tolist(), looks.size_hw[other[0]].tolist()
        findings += about_images(
            "error", "mask-size", split, dataset, other,
            f"have a mask of {name} of another size; the first mask is {mw}x{mh}, its image {w}x{h}",
            "resize the masks to their images, without interpolation",
        )  # fmt: skip
    if len(missing) < len(dataset):
        findings += about_images(
            "note", "mask-missing", split, dataset, missing, f"have no mask of {name}, the others have one",
            "they teach this layer nothing",
        )  # fmt: skip
    return findings


def _void(split: str, dataset: Dataset, layer: MaskLayer, counts: MaskCounts) -> list[Finding]:
    per_value = counts.pixels.sum(axis=0)
    total = int(per_value.sum())
    void = layer.table() == VOID
    if not total or not per_value[void].any():
        return []
    share = per_value[void].sum() / total
    values = [int(v) for v in np.flatnonzero(void & (per_value > 0))]
    values.sort(key=lambda v: -int(per_value[v]))
    listed = ", ".join(f"{v} ({100 * per_value[v] / total:.1f} %)" for v in values[:LISTED])
    text = (
        f"{100 * share:.1f} % of the pixels of {layer.name} have values that no class has and count as void: {listed}"
    )
    findings = [
        Finding(
            severity="warning" if share > MOSTLY_VOID else "note",
            code="mask-void",
            split=split,
            text=text + (f" and {len(values) - LISTED} more values" if len(values) > LISTED else ""),
            remedy="right for borders and unlabelled parts; else name the values in classes.txt",
            count=int(per_value[void].sum()),
        )
    ]
    empty = (counts.pixels.sum(axis=1) > 0) & (counts.pixels[:, ~void].sum(axis=1) == 0)
    return findings + about_images(
        "warning", "mask-empty", split, dataset, np.flatnonzero(empty).tolist(),
        f"have a mask of {layer.name} that is all void",
        "check that the masks hold class indices, not colours or 0 and 255",
    )  # fmt: skip


def _reason(dataset: Dataset, index: int, row: int) -> str:
    mask = dataset.samples[row].masks[index]
    try:
        if mask:
            read_mask(mask, dataset.layers[index])
    except InputError as error:
        return error.message
    return f"{mask} could not, but can be now"
