"""What the OpenCV cameras share: a quiet library and a grab that is stamped before it is decoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgetl_runtime.imports import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.pool import FramePool


BGR = 3
_SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT."""


def quiet_cv2() -> Any:
    """OpenCV with its own and FFmpeg's messages off: failures are reported as CameraError instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = need("cv2")
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    set_level = getattr(logging or cv2, "setLogLevel", None)  # 4.6, as Debian 12 has it, knows it by its older name
    if set_level is not None:
        set_level(_SILENT)
    return cv2


def retrieve(capture: Any, pool: FramePool, size_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode the grabbed frame into a pooled buffer; None where it can't be decoded, or not to BGR."""
    image = decoded(capture, pool, size_hw)
    return image if image is not None and channels_of(image) == BGR else None


def decoded(capture: Any, pool: FramePool, size_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode the grabbed frame into a pooled buffer; None where it can't be decoded.

    OpenCV gives a new array instead when the frame has another size or other channels than expected.
    """
    good, image = capture.retrieve(pool.take(*size_hw))
    return image if good else None


def channels_of(image: NDArray[np.uint8]) -> int:
    """How many channels a picture has, BGR where it can be used."""
    return image.shape[2] if image.ndim == 3 else 1
