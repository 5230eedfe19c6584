"""Reading labelled data into one form."""

from __future__ import annotations

from edgetl.data.dataset import VOID, Dataset, MaskLayer, Sample, read_image, read_mask, read_mask_of
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
    "read_mask_of",
    "same_classes",
    "splits_of",
]
