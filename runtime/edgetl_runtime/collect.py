"""Frames worth labelling: while the domain is shifted, the strangest are kept, within a budget."""

from __future__ import annotations

import itertools
import json
import threading
import time
from queue import Empty, Full, Queue
from typing import IO, TYPE_CHECKING, Any

from edgetl_runtime.domain import TYPICAL
from edgetl_runtime.errors import InputError
from edgetl_runtime.files import sibling
from edgetl_runtime.imports import cv2 as _cv2

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result

INTERVAL_NS = 1_000_000_000
"""Frames closer in time than this show the same scene, and a label for one is enough."""
INDEX = "frames.jsonl"
JPEG_QUALITY = 95


class CollectSink:
    """Writes untypical frames to a folder while the condition "shifted" holds, at most one each INTERVAL_NS.

    Each is FRAME.jpg of the camera's own size, with a line in frames.jsonl: file, camera, frame id, wall-clock time,
    how far from the training's domain, and where there are several bundles, which one says so. Files already there
    count towards the budget, so that a vehicle that starts every morning does not fill its disk. Encoding and writing
    have a thread of their own; a frame that comes while one is being written is left out. notes: what was kept and why
    no more.

    Raises InputError where the folder can't be written.
    """

    needs_picture = False
    stop = False

    def __init__(self, folder: Path, *, budget_mb: float, session: str | None = None) -> None:
        self._cv2 = _cv2()
        self._folder, self._budget = folder, int(budget_mb * 1e6)
        self._session = session or time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._bytes = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
            self._index: IO[str] = (folder / INDEX).open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(f"can't write to {folder}: {error.strerror}", remedy="collect to another place") from error
        self.kept = 0
        self._ended = ""
        self._shifted = False
        self._last_ns: int | None = None
        self._queue: Queue[tuple[Result, NDArray[np.uint8], str] | None] = Queue(maxsize=1)
        self._thread = threading.Thread(target=self._work, name="collect", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        """For the end of a run."""
        kept = [f"kept {self.kept} frames for labelling in {self._folder}"] if self.kept else []
        return [*kept, *([f"no more frames are kept: {self._ended}"] if self._ended else [])]

    def event(self, event: Event) -> None:
        """Begin or end with the condition."""
        if event.condition == "shifted":
            self._shifted = event.began

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Hand over one frame where it is worth keeping."""
        if self._shifted:
            self.offer(result, frame)

    def offer(self, result: Result, frame: Frame, bundle: str = "") -> None:
        """The same by the result alone, whatever events said. bundle: whose result it is, where there are several."""
        if self._ended or result.shift is None or result.shift < TYPICAL:
            return
        if self._last_ns is not None and 0 <= result.scene_ns - self._last_ns < INTERVAL_NS:
            return
        try:
            self._queue.put_nowait((result, frame.image, bundle))
        except Full:
            return
        self._last_ns = result.scene_ns

    def close(self) -> None:
        """Write what was handed over; twice is fine."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(30.0)
        try:
            self._index.close()
        except OSError as error:  # the line that did not fit; it is closed all the same
            self._ended = self._ended or str(error)

    def _work(self) -> None:
        while (taken := self._queue.get()) is not None:
            if not self._ended:
                try:
                    self._keep(*taken)
                except (OSError, ValueError) as error:
                    self._ended = str(error)
        while True:  # whoever hands over after the end must not wait
            try:
                self._queue.get_nowait()
            except Empty:
                return

    def _keep(self, result: Result, image: NDArray[np.uint8], bundle: str) -> None:
        good, jpeg = self._cv2.imencode(".jpg", image, [self._cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not good:
            raise ValueError("a frame can't be encoded")
        if self._bytes + jpeg.nbytes > self._budget:
            self._ended = f"the budget of {self._budget / 1e6:g} MB is used up"
            return
        path = _unused(self._folder / f"{self._session}-{result.frame_id:08d}.jpg")
        temporary = sibling(path)
        try:
            temporary.write_bytes(jpeg.tobytes())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._bytes += jpeg.nbytes
        self.kept += 1
        now_s = time.time() - (time.monotonic_ns() - result.t_capture_ns) / 1e9
        row: dict[str, Any] = {
            "file": path.name,
            "camera_id": result.camera_id,
            "frame_id": result.frame_id,
            "t_capture_unix_s": round(now_s, 3),
            "shift": result.shift,
            "health": result.health,
        }
        named = {"bundle": bundle} if bundle else {}
        self._index.write(json.dumps(row | named) + "\n")


def _unused(path: Path) -> Path:
    """The path, or one beside it that no run has taken: a vehicle without a clock begins each morning at one time."""
    names = itertools.chain([path], (path.with_name(f"{path.stem}.{n}{path.suffix}") for n in itertools.count(2)))
    return next(name for name in names if not name.exists())
