"""What the OpenCV cameras share: a quiet library and a grab that is stamped before it is decoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from edgetl_runtime.imports import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.pool import FramePool


def quiet_cv2() -> Any:
    """OpenCV with its own and FFmpeg's messages off: failures are reported as CameraError instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = need("cv2")
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    return cv2


def retrieve(capture: Any, pool: FramePool, size_hw: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode the grabbed frame into a pooled buffer; None where it can't be decoded.

    OpenCV gives a new array instead when the frame has another size than expected.
    """
    buffer = pool.take(*size_hw)
    good, image = capture.retrieve(buffer)
    if not good or image is None or image.ndim != 3 or image.shape[2] != 3:
        return None
    return image  # type: ignore[no-any-return]
