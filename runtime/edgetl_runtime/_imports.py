"""Optional packages, imported where they are used; a missing one names the extra that brings it."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any

from edgetl_runtime.errors import MissingPackage

JETPACK = {"cv2": "python3-opencv"}


def present(package: str) -> bool:
    """Whether `package` can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def need(package: str, *, extra: str = "desktop") -> ModuleType:
    """Import `package`. Raises MissingPackage that names the extra and JetPack's package."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackage(package, extra=extra, jetpack=JETPACK.get(package, "")) from error


def cv2() -> Any:
    """OpenCV, which the desktop extra or JetPack brings."""
    return need("cv2")
