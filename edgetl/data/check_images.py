"""Findings about the image files of one split: broken, odd, and repeated ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset, Sample, read_image
from edgetl.data.findings import Finding, about_images
from edgetl.data.leaks import grouped
from edgetl.data.looks import UNREAD, Indices, Looks, most_alike
from edgetl_runtime.errors import InputError

TINY_PX = 16
LARGE_PIXELS = 24_000_000
BYTES_A_PIXEL = 3
SHAPES_APART = 2.0
"""Shapes (width over height) this far apart don't fit one network input."""


def image_findings(split: str, dataset: Dataset, looks: Looks) -> list[Finding]:
    """All findings about the files of a split."""
    return [*_broken(split, dataset, looks), *_odd(split, dataset, looks), *_repeated(split, dataset, looks)]


def _broken(split: str, dataset: Dataset, looks: Looks) -> list[Finding]:
    bad = np.flatnonzero(~looks.readable).tolist()
    cut = np.flatnonzero(looks.readable & ~looks.whole).tolist()
    findings = []
    if bad:
        findings = about_images(
            "error", "image-unreadable", split, dataset, bad, f"can't be used; {_reason(dataset.samples[bad[0]])}",
            "replace the files or take them out of the dataset",
        )  # fmt: skip
    return findings + about_images(
        "error", "image-truncated", split, dataset, cut, "end before their picture does",
        "copy the files anew: what is missing is grey, or the image is refused, depending on the decoder",
    )  # fmt: skip


def _reason(sample: Sample) -> str:
    try:
        read_image(sample.image)
    except InputError as error:
        return error.message
    return f"{sample.image} could not, but can be now"


def _odd(split: str, dataset: Dataset, looks: Looks) -> list[Finding]:
    height, width = looks.size_hw[looks.readable].astype(np.int64).T
    usable = np.flatnonzero(looks.readable)
    if not len(usable):
        return []
    pixels = height * width
    findings = []

    def note(mask: NDArray[np.bool_], code: str, text: str, remedy: str) -> None:
        findings.extend(about_images("note", code, split, dataset, usable[mask].tolist(), text, remedy))

    small = np.minimum(height, width) < TINY_PX
    note(small, "image-tiny", f"have a side below {TINY_PX} px", "look whether these are icons or thumbnails")
    megabytes = int(pixels.max()) * BYTES_A_PIXEL / 1e6
    text = f"are above {LARGE_PIXELS // 1_000_000} megapixels; the largest takes {megabytes:.0f} MB when read"
    note(pixels > LARGE_PIXELS, "image-large", text, "shrink them once: reading them costs every epoch anew")
    text = "have 16 bits a channel, of which the upper 8 are used"
    note(looks.bits[usable] > 8, "image-16-bit", text, "convert them to 8 bits as the vehicle's camera does")
    grey = looks.grey[usable]
    if not grey.all():
        note(grey, "image-grey", "are grey, the others in colour", "look whether they are of another camera")
    shape = width / height
    if shape.max() / shape.min() > SHAPES_APART:
        usual = float(np.median(shape))
        odd = np.maximum(shape / usual, usual / shape) > np.sqrt(SHAPES_APART)
        text = f"are of another shape than most: {shape.min():.2f} to {shape.max():.2f} times as wide as high"
        note(odd, "image-shapes", text, "the network's input has one shape: such images get broad borders")
    return findings


def _repeated(split: str, dataset: Dataset, looks: Looks) -> list[Finding]:
    original = originals(looks)
    copies = np.flatnonzero(original != np.arange(len(original)))
    samples = dataset.samples
    torn = [j for j in copies.tolist() if _labels(samples[original[j]]) != _labels(samples[j])]
    alike = look_alikes(dataset, looks)
    findings = about_images(
        "warning", "duplicate-file", split, dataset, copies.tolist(),
        f"are copies of another file, such as {_first(dataset, copies, original)}", "remove them: they count twice",
    )  # fmt: skip
    findings += about_images(
        "error", "duplicate-labels", split, dataset, torn,
        f"are copies of another file with other labels, such as {_first(dataset, torn, original)}",
        "keep the one that is labelled right",
    )  # fmt: skip
    later = np.flatnonzero(alike >= 0)
    return findings + about_images(
        "note", "near-duplicate", split, dataset, later.tolist(),
        f"are nearly the same picture as an earlier one, such as {_first(dataset, later, alike)}",
        "they teach little that is new; `edgetl data split --by look` keeps them on one side",
    )  # fmt: skip


def originals(looks: Looks) -> Indices:
    """(N,) int64: for every image the first one with the same bytes, itself where there is none before it."""
    first: dict[bytes, int] = {}
    rows = [row.tobytes() for row in looks.sha256]
    return np.array([i if row == UNREAD else first.setdefault(row, i) for i, row in enumerate(rows)], np.int64)


def look_alikes(dataset: Dataset, looks: Looks) -> Indices:
    """(N,) int64: for every image the most alike earlier one of another group and other bytes, -1 where there is none.

    Frames of one drive that look the same are what a drive is, so they don't count.
    """
    file = originals(looks)
    names: dict[str, int] = {}
    group = np.array(
        [names.setdefault(s.group, i) if grouped(s) else i for i, s in enumerate(dataset.samples)], np.int64
    )
    partner, _ = most_alike(looks, looks, among=lambda i, j: (i < j) & (file[i] != file[j]) & (group[i] != group[j]))
    return partner


def _labels(sample: Sample) -> tuple[object, ...]:
    """What is known of the sample, in a form that compares; of masks the file's size."""
    rows = sorted(zip(sample.labels.tolist(), sample.boxes.round(4).tolist(), strict=True))
    masks = tuple(m.stat().st_size if m and m.is_file() else None for m in sample.masks)
    return rows, sample.category, masks


def _first(dataset: Dataset, later: Indices | list[int], partner: Indices) -> str:
    """`b.png of a.png`, the first pair."""
    if not len(later):
        return ""
    return f"{dataset.samples[later[0]].image.name} of {dataset.samples[partner[later[0]]].image.name}"
