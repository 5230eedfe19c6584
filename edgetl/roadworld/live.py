"""roadworld as a live camera: rendered ahead in a process of its own, shown at a steady rate."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

from edgetl.roadworld.render import check_request
from edgetl.roadworld.scene import DOMAINS
from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame

if TYPE_CHECKING:
    from edgetl_runtime.geometry.calibration import Calibration

PREFIX = "roadworld:"
SIZE_HW = (360, 640)
FPS = 10.0
"""A frame of 640x360 takes about 25 ms to render on one desktop core: a quarter of it at this rate."""
_END_S = 2.0


def parse_source(source: str) -> tuple[str, int]:
    """`roadworld:night:3` as domain and seed; the seed may be left out. Raises InputError for anything else."""
    domain, colon, seed = source.removeprefix(PREFIX).partition(":")
    if not source.startswith(PREFIX) or (colon and not (seed.isdecimal() and len(seed) <= 9)):
        raise InputError(
            f"{source!r} is no rendered camera", remedy="write it like roadworld:night or roadworld:night:3"
        )
    if domain not in DOMAINS:
        raise InputError(f"unknown domain {domain!r}", remedy=f"choose one of {', '.join(DOMAINS)}")
    return domain, int(seed or 0)


def calibration_of_source(source: str, size_hw: tuple[int, int]) -> Calibration:
    """Of the one camera that sees all drives of this source. Raises InputError as parse_source does."""
    from edgetl.roadworld.calibrate import camera_calibration
    from edgetl.roadworld.sample import clip_camera

    return camera_calibration(clip_camera(parse_source(source)[1], size_hw))


class RoadworldCamera:
    """Drives of 60 s after each other, without end; the same pictures in the same order for the same seed.

    One camera, that of the seed's drive, sees all of them, see calibration_of_source.

    A frame is stamped when it is shown: fps times a second, or as soon as it is rendered where that is slower; then
    the schedule moves back, and the world with it, so no frame is left out. `late` counts those.
    Raises InputError for a size, rate or domain that can't be rendered, CameraError where the renderer dies.
    """

    live = True
    frame_count: int | None = None
    failed = 0

    def __init__(self, domain: str, *, seed: int = 0, size_hw: tuple[int, int] = SIZE_HW, fps: float = FPS) -> None:
        check_request(size_hw, domain)
        if not 0.1 <= fps <= 120 or seed < 0:
            raise InputError(f"can't show {fps:g} frames/s of seed {seed}", remedy="0.1 to 120, and a seed from 0")
        self.camera_id, self.fps, self.size_hw = f"{PREFIX}{domain}:{seed}", fps, size_hw
        self.late = 0
        self.notes: list[str] = [f"{self.camera_id}: rendered, not seen; stamped when shown"]
        self._pool = FramePool()
        self._closed = threading.Event()
        self._next_id, self._due_s = 0, 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgetl.roadworld.feed", str(seed), domain, *map(str, size_hw), repr(float(fps))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever runs the camera, who ends the renderer
        )

    def read(self) -> Frame | None:
        """The next frame, when it is due; None once closed."""
        image = self._pool.take(*self.size_hw)
        stream: IO[bytes] | None = self._process.stdout
        if stream is None or self._closed.is_set():
            return None
        if not _fill(stream, image.data.cast("B")):
            if self._closed.is_set():
                return None
            raise CameraError(f"{self.camera_id}: its renderer ended (status {self._process.wait(_END_S)})")
        now_s = time.monotonic()
        if now_s > self._due_s:
            self.late += self._next_id > 0
            self._due_s = now_s
        if self._closed.wait(self._due_s - now_s):
            return None
        frame_id, self._next_id = self._next_id, self._next_id + 1
        self._due_s += 1 / self.fps
        return Frame(image, frame_id, self.camera_id, time.monotonic_ns())

    def interrupt(self) -> None:
        """End a `read` that waits; any thread may call this."""
        self._closed.set()
        self._process.terminate()

    def close(self) -> None:
        """End the renderer."""
        self.interrupt()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _fill(stream: IO[bytes], buffer: memoryview) -> bool:
    """Read until the buffer is full; False where the stream ends first."""
    filled = 0
    while filled < len(buffer):
        count = stream.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not count:
            return False
        filled += count
    return True
