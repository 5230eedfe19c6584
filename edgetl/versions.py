"""Versions of the packages, and of edgetl's own code, that a bundle is made with."""

from __future__ import annotations

import hashlib
import importlib.metadata
from contextlib import suppress
from functools import cache
from pathlib import Path

PACKAGES = (
    "torch",
    "timm",
    "transformers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "openvino",
    "numpy",
    "onnxslim",
    "opencv-python",
    "opencv-python-headless",
    "tensorrt-rtx-cu13-libs",
)


def package_versions() -> dict[str, str]:
    """By package, of those that are here; nothing is imported."""
    versions = {}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


@cache
def code_sha256() -> str:
    """A hash of edgetl's own source: what older code found out is another finding."""
    import edgetl
    import edgetl_export
    import edgetl_runtime

    digest = hashlib.sha256()
    for package in (edgetl, edgetl_export, edgetl_runtime):
        folder = Path(package.__file__ or "").parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
