"""What every image file of a dataset is and looks like, computed once: hash of its bytes, size, and a descriptor.

The descriptor is the image as 32 x 32 grey, its lowest 16 x 16 DCT coefficients without the mean, each multiplied by
its frequency (natural images fall off by 1/f, Field 1987), at unit length. So two photographs of different
places are nearly orthogonal, while brightness, contrast, size and compression change it little.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset, read_image
from edgetl.features.store import cached
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress

Indices = NDArray[np.int64]

VERSION = 1
"""Part of the cache's key; to be raised when anything below gives other values."""
THUMB = 32
KEPT = 16
LENGTH = KEPT * KEPT - 1
FLAT = 4.0
"""A descriptor shorter than this (in grey levels of the thumbnail) is noise: the image shows nothing."""
SAME = 0.90
"""From this product of two descriptors on, two photographs are the same picture.

On 640x360 driving frames no two of different drives came above 0.71, and no copy that was compressed to JPEG quality
10, resized, or made brighter or darker came below 0.91.
"""
SAME_SMALL = 0.95
"""The same for crops of an object: two signs of one kind, centred, are more alike than two streets."""
SMALL_PX = 64
"""Images with a shorter side below this count as crops."""
BLOCK = 2048
UNREAD = bytes(32)
"""Stands for the hash of a file that couldn't be read."""


@dataclass(frozen=True, slots=True)
class Looks:
    """One row for every sample.

    sha256: (N, 32) uint8 over the file's bytes, zero where it can't be read.
    size_hw: (N, 2) int32 pixels, 0 where it can't be decoded.
    descriptors: (N, 255) float32 of unit length, or zero where the image shows nothing or can't be decoded.
    bits: (N,) uint8 for each channel. grey: (N,) bool. whole: (N,) bool, whether the file has its end.
    """

    sha256: NDArray[np.uint8]
    size_hw: NDArray[np.int32]
    descriptors: NDArray[np.float32]
    bits: NDArray[np.uint8]
    grey: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) bool, whether the image could be decoded."""
        return np.asarray(self.size_hw[:, 0] > 0)


def looks_of(dataset: Dataset) -> Looks:
    """Look at every image of the dataset, in its order; read from the cache where it has them."""
    key = {"kind": "looks", "version": VERSION, "files": _files_sha256(dataset)}
    arrays = cached(key, lambda: _look_at_all(dataset))
    return Looks(
        sha256=arrays["sha256"].astype(np.uint8),
        size_hw=arrays["size_hw"].astype(np.int32),
        descriptors=arrays["descriptors"].astype(np.float32),
        bits=arrays["bits"].astype(np.uint8),
        grey=arrays["grey"].astype(np.bool_),
        whole=arrays["whole"].astype(np.bool_),
    )


def same_pictures(a: Looks, b: Looks) -> Iterator[tuple[Indices, Indices, NDArray[np.float32]]]:
    """Indices into a, indices into b, and likeness of every pair that is the same picture, block by block."""
    small_a, small_b = _is_small(a), _is_small(b)
    for i in range(0, len(a.descriptors), BLOCK):
        for j in range(0, len(b.descriptors), BLOCK):
            likeness = a.descriptors[i : i + BLOCK] @ b.descriptors[j : j + BLOCK].T
            rows, columns = np.nonzero(likeness >= SAME)
            values = likeness[rows, columns]
            keep = (values >= SAME_SMALL) | ~(small_a[rows + i] | small_b[columns + j])
            if keep.any():
                yield rows[keep] + i, columns[keep] + j, values[keep]


def most_alike(
    a: Looks, b: Looks, *, among: Callable[[Indices, Indices], NDArray[np.bool_]] | None = None
) -> tuple[Indices, NDArray[np.float32]]:
    """For every image of b the most alike image of a that is the same picture.

    among: indices into a and b of pairs to (N,) bool, those that count; all where None. Returns (M,) int64 indices
    into a, -1 where there is none, and (M,) float32 likeness, 0 there.
    """
    best = np.zeros(len(b.descriptors), np.float32)
    partner = np.full(len(b.descriptors), -1, np.int64)
    for rows, columns, values in same_pictures(a, b):
        order = np.argsort(values, kind="stable")  # of several values for one image the last, the largest, stays
        order = order[values[order] > best[columns[order]]]
        if among is not None:
            order = order[among(rows[order], columns[order])]
        best[columns[order]], partner[columns[order]] = values[order], rows[order]
    return partner, best.clip(0, 1)


def describe(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The descriptor of an image, (255,) float32. image: (H, W, 3) uint8 BGR."""
    import cv2

    grey = cv2.cvtColor(cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    low = cv2.dct(grey.astype(np.float32))[:KEPT, :KEPT].reshape(-1)[1:]
    if float(np.linalg.norm(low)) < FLAT:
        return np.zeros(LENGTH, np.float32)
    frequency = np.hypot(*np.meshgrid(np.arange(KEPT), np.arange(KEPT))).reshape(-1)[1:]
    weighted = (low * frequency).astype(np.float32)
    return np.asarray(weighted / np.linalg.norm(weighted), dtype=np.float32)


def file_sha256(path: Path) -> bytes:
    """SHA-256 of a file's bytes. Raises InputError that names a file that can't be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})", remedy="restore or unlist it") from error
    return digest.digest()


@dataclass(frozen=True, slots=True)
class _Look:
    sha256: bytes
    size_hw: tuple[int, int] = (0, 0)
    descriptor: NDArray[np.float32] | None = None
    bits: int = 8
    grey: bool = False
    whole: bool = True


def _look_at_all(dataset: Dataset) -> dict[str, NDArray[np.generic]]:
    paths = [s.image for s in dataset.samples]
    looks: list[_Look] = []
    with _quiet_opencv(), Progress(f"look {dataset.name}", len(paths), unit="images") as progress:
        pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8))
        try:
            for look in pool.map(_look_at, paths):
                looks.append(look)
                progress.step()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    nothing = np.zeros(LENGTH, np.float32)
    shown = [nothing if x.descriptor is None else x.descriptor for x in looks]
    return {
        "sha256": np.frombuffer(b"".join(x.sha256 for x in looks), np.uint8).reshape(-1, 32),
        "size_hw": np.array([x.size_hw for x in looks], np.int32).reshape(-1, 2),
        "descriptors": np.array(shown, np.float16).reshape(-1, LENGTH),  # half the disk; a product errs by 1e-3
        "bits": np.array([x.bits for x in looks], np.uint8),
        "grey": np.array([x.grey for x in looks], np.bool_),
        "whole": np.array([x.whole for x in looks], np.bool_),
    }


def _look_at(path: Path) -> _Look:
    try:
        data = path.read_bytes()
    except OSError:
        return _Look(UNREAD, whole=False)
    sha256, whole = hashlib.sha256(data).digest(), _has_end(data)
    try:
        image = read_image(path)
    except InputError:
        return _Look(sha256, whole=whole)
    few = image[::8, ::8]
    grey = bool((few[..., 0] == few[..., 1]).all() and (few[..., 1] == few[..., 2]).all())
    return _Look(sha256, (image.shape[0], image.shape[1]), describe(image), _bits(data), grey, whole)


def _has_end(data: bytes) -> bool:
    """False for a JPEG or PNG that was cut off. Some versions of OpenCV fill the rest with grey and say nothing."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data[-4096:]
    return True


def _bits(data: bytes) -> int:
    """Bits of each channel. JPEG, WebP and BMP have 8 in practice; PNG says so in its header; others are decoded."""
    if data.startswith(b"\x89PNG"):
        return max(data[24], 8)
    if data.startswith((b"\xff\xd8", b"RIFF", b"BM")):
        return 8
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return 8 if image is None else int(image.dtype.itemsize) * 8


def _is_small(looks: Looks) -> NDArray[np.bool_]:
    return np.asarray(looks.size_hw.min(axis=1, initial=SMALL_PX) < SMALL_PX)


def _files_sha256(dataset: Dataset) -> str:
    """SHA-256 over paths, sizes and times of the image files; it stands for their content on this machine."""
    digest = hashlib.sha256()
    for sample in dataset.samples:
        try:
            status = sample.image.stat()
            digest.update(f"{sample.image.resolve()}:{status.st_size}:{status.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"{sample.image}:missing".encode())
    return digest.hexdigest()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """A broken file is a finding with a line of its own; OpenCV's lines about it would only hide the progress."""
    import cv2

    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)
