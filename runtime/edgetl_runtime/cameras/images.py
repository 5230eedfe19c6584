"""A folder of images, in the order of their names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.cameras._opencv import quiet_cv2
from edgetl_runtime.cameras._png import refuse_false_png
from edgetl_runtime.errors import CameraError
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImagesCamera:
    """Every image of a folder as uint8 BGR: grey is repeated, 16 bits become 8, alpha is dropped."""

    live = False
    fps = 30.0

    def __init__(self, folder: Path) -> None:
        self._cv2 = quiet_cv2()
        try:
            found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
        except OSError as error:
            raise CameraError(f"can't read the folder {folder}: {error.strerror}") from error
        if not found:
            raise CameraError(f"{folder} holds no image", remedy=f"images end in {', '.join(SUFFIXES)}")
        self._paths = sorted(found)
        self.camera_id = folder.name or str(folder)
        self.failed = 0
        self.notes: list[str] = []
        self._size_hw = (0, 0)
        self._next_id = 0

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image read last; (0, 0) before the first."""
        return self._size_hw

    @property
    def frame_count(self) -> int | None:
        """How many images there are."""
        return len(self._paths)

    def read(self) -> Frame | None:
        """The next image, None after the last. Raises CameraError that names an unreadable file."""
        if self._next_id >= len(self._paths):
            return None
        path = self._paths[self._next_id]
        stamp = time.monotonic_ns()
        try:
            data = path.read_bytes()
            refuse_false_png(data)
            image = self._cv2.imdecode(np.frombuffer(data, np.uint8), self._cv2.IMREAD_COLOR)
        except (OSError, ValueError, self._cv2.error):
            image = None
        if image is None:
            raise CameraError(f"{path} can't be read as an image", remedy="repair or remove it")
        self._size_hw = (image.shape[0], image.shape[1])
        frame_id, self._next_id = self._next_id, self._next_id + 1
        return Frame(image, frame_id, self.camera_id, stamp, frame_id / self.fps, path.name)

    def close(self) -> None:
        """End the sequence."""
        self._next_id = len(self._paths)
