"""Labelled images in the light of another domain: each channel's histogram is taken from an image of that domain."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset, read_image
from edgetl.training.light import DARK
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress


def dark_share(dataset: Dataset) -> float:
    """The share of images that are too dark to be of the day, 0..1."""
    return float(np.mean([read_image(s.image)[::8, ::8].mean() <= DARK for s in dataset.samples]))


def restyled(labelled: Dataset, style: Dataset, folder: Path, *, seed: int) -> Dataset:
    """The labelled dataset with images written to `folder` in the colours of images drawn from `style`."""
    import cv2

    rng = np.random.default_rng(seed)
    samples = []
    with Progress("restyle", len(labelled), unit="images") as progress:
        for index, sample in enumerate(labelled.samples):
            other = style.samples[int(rng.integers(len(style)))]
            image = matched_histograms(read_image(sample.image), read_image(other.image), float(rng.uniform(0.5, 1.0)))
            path = folder / f"{index:06d}.jpg"
            if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 92]):
                raise InputError(f"{path}: can't be written", remedy="free some space")
            samples.append(dataclasses.replace(sample, image=path))
            progress.step()
    return dataclasses.replace(labelled, name=f"{labelled.name}, restyled", samples=tuple(samples))


def matched_histograms(image: NDArray[np.uint8], style: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """`image` (H, W, 3) with each channel's histogram moved by `share` towards that of `style` (h, w, 3)."""
    import cv2

    tables = np.empty((1, 256, 3), np.uint8)
    levels = np.arange(256)
    for channel in range(3):
        own, other = (
            np.cumsum(np.bincount(x[..., channel].ravel(), minlength=256)) / (x.shape[0] * x.shape[1])
            for x in (image, style)
        )
        # The first level that as many pixels of the style reach: interpolation would make the brightest white.
        target = np.searchsorted(other, own - 1e-9).clip(max=255)
        tables[0, :, channel] = np.clip(levels + share * (target - levels), 0, 255).round()
    return np.asarray(cv2.LUT(image, tables), np.uint8)
