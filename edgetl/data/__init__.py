"""Reading labelled data into one form."""

from __future__ import annotations

from edgetl.data.dataset import Dataset, Sample, read_image
from edgetl.data.read import read_dataset

__all__ = ["Dataset", "Sample", "read_dataset", "read_image"]
