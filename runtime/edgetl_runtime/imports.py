"""Optional packages, imported where they are used; a missing one names the extra that brings it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from edgetl_runtime.errors import MissingPackage

JETPACK = {"cv2": "python3-opencv", "tensorrt": "python3-libnvinfer"}


def present(package: str) -> bool:
    """Whether `package` can be found, without importing it. A mere folder of that name is none."""
    try:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.loader is not None and spec.origin is not None
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


def openvino() -> Any:
    """OpenVINO without its telemetry, which would otherwise report to a server at every import.

    Where `openvino_telemetry` can't be imported OpenVINO uses a stub of its own that sends nothing, so that
    module is closed for this process; nothing is changed where the caller has imported it before.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return need("openvino")


def onnxruntime() -> Any:
    """ONNX Runtime without its telemetry, which recent official builds switch on by default.

    Its own switch is used, ORT_DISABLE_TELEMETRY (see Privacy.md in its wheel), which must be set before it
    starts; a value that is already in the environment is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return need("onnxruntime")
