"""The one form in which every dataset is held: samples with boxes, classes, groups and a domain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
OUTSIDE_TOLERANCE = 0.01
"""How far a box may stand out of its image, as a share of the image's side, before it is an error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    boxes: (N, 4) float32, x1, y1, x2, y2 as shares of the image's width and height (0..1).
    labels: (N,) int64 index into the dataset's classes. ignore: (N,) bool, neither right nor wrong to find.
    group: what must stay on one side of a split (a drive, a camera, a physical object).
    """

    image: Path
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    group: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled images of one split, with the names of their classes."""

    name: str
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def fingerprint(self) -> str:
        """SHA-256 over class names, file names, file sizes and labels: equal for equal content."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for s in self.samples:
            digest.update(f"{s.image.name}:{s.image.stat().st_size}".encode())
            digest.update(s.boxes.tobytes())
            digest.update(s.labels.tobytes())
        return digest.hexdigest()

    def take(self, count: int) -> Dataset:
        """At most `count` samples, evenly spread over the whole set."""
        if count >= len(self.samples):
            return self
        chosen = np.linspace(0, len(self.samples) - 1, count).round().astype(int)
        return Dataset(self.name, self.classes, tuple(self.samples[i] for i in chosen))


def make_sample(
    image: Path,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    ignore: Sequence[bool],
    *,
    classes: int,
    label_file: Path,
    group: str = "",
    domain: str = "",
) -> Sample:
    """A Sample whose labels were checked. boxes: x1, y1, x2, y2 as shares of the image.

    Raises InputError that names the label file for a class id out of range, a box outside its image, or
    values that are not finite. Boxes of no area are left out.
    """
    box_array = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    label_array = np.asarray(labels, dtype=np.int64).reshape(-1)
    ignore_array = np.asarray(ignore, dtype=np.bool_).reshape(-1)
    unknown = (label_array < 0) | (label_array >= classes)
    if unknown.any():
        raise InputError(
            f"{label_file}: class id {int(label_array[unknown][0])} of image {image.name} is unknown, "
            f"expected 0 to {classes - 1}",
            remedy="correct the label or name the class in the dataset's description",
        )
    wrong = ~np.isfinite(box_array).all(axis=1)
    wrong |= (box_array < -OUTSIDE_TOLERANCE).any(axis=1) | (box_array > 1 + OUTSIDE_TOLERANCE).any(axis=1)
    if wrong.any():
        found = [round(float(v), 4) for v in box_array[wrong][0]]
        raise InputError(
            f"{label_file}: a box of image {image.name} stands outside it: {found} as shares of width and height",
            remedy="clip the box to the image or remove it",
        )
    box_array = box_array.clip(0, 1)
    keep = (box_array[:, 2] > box_array[:, 0]) & (box_array[:, 3] > box_array[:, 1])
    return Sample(image, box_array[keep], label_array[keep], ignore_array[keep], group or image.stem, domain)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 BGR. Raises InputError that names a file that can't be read."""
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})", remedy="restore or unlist it") from error
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(
            f"{path}: not an image that can be decoded ({data.size} bytes)",
            remedy="replace or remove the file",
        )
    return np.asarray(image, dtype=np.uint8)
