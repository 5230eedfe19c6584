"""Reading labelled data into one form."""

from __future__ import annotations

from edgetl.data.dataset import VOID, Dataset, MaskLayer, Sample, read_image, read_mask
from edgetl.data.read import Reading, read_dataset, same_classes, splits_of

__all__ = [
    "VOID",
    "Dataset",
    "MaskLayer",
    "Reading",
    "Sample",
    "read_dataset",
    "read_image",
    "read_mask",
    "same_classes",
    "splits_of",
]
