"""Versions of the packages that a bundle is made with."""

from __future__ import annotations

import importlib.metadata
from contextlib import suppress

PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
    "opencv-python",
    "tensorrt-rtx-cu13-libs",
)


def package_versions() -> dict[str, str]:
    """By package, of those that are here; nothing is imported."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
