"""Optional packages, imported where they are used; a missing one names the extra that brings it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType
from typing import Any

from edgetl_runtime.errors import MissingPackage

_CONVERTER = "openvino.tools.ovc"
_importing = threading.Lock()  # two threads that both find OpenVINO missing would undo each other's steps

JETPACK = {"cryptography": "python3-cryptography", "cv2": "python3-opencv", "tensorrt": "python3-libnvinfer"}


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
    module is closed for this process. Its converter, half of the time that its import takes, is imported when
    `openvino.convert_model` is first asked for. Nothing is changed where the caller has imported it before.
    """
    with _importing:
        if "openvino" in sys.modules:
            return need("openvino")
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # it does without, where that can't be imported
        try:
            package = need("openvino")
        finally:
            del sys.modules[_CONVERTER]
        package.__getattr__ = _converter  # type: ignore[method-assign]
        return package


def _converter(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module(_CONVERTER).convert_model


def onnxruntime() -> Any:
    """ONNX Runtime without its telemetry, which recent official builds switch on by default.

    Its own switch is used, ORT_DISABLE_TELEMETRY (see Privacy.md in its wheel), which must be set before it
    starts; a value that is already in the environment is kept.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return need("onnxruntime")
