"""Where results go: lines of JSON, an annotated video, a window."""

from __future__ import annotations

import json
import os
import sys
from array import array
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgetl_runtime.errors import EdgetlError, InputError
from edgetl_runtime.files import refuse_file, remove_stale, sibling
from edgetl_runtime.imports import cv2 as _cv2
from edgetl_runtime.mp4 import is_whole, set_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.spec import Head


class Sink(Protocol):
    """Takes every result and event, in one thread. needs_picture: wants the annotated frame now; asked each time.
    stop: the user asked for the end. What it raises ends the run of a file; of a live camera it is left out then.
    """

    @property
    def needs_picture(self) -> bool:
        """Whether the annotated frame is wanted with the next result."""

    @property
    def stop(self) -> bool:
        """Whether the run should end."""

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Take one result and its frame, which may be kept and not changed; `picture` is the annotated frame,
        (H, W, 3) uint8 BGR, valid during this call only, None where the sink does not need it now.
        """

    def event(self, event: Event) -> None:
        """Take what began or ended, in order, between results or while there are none."""

    def close(self) -> None:
        """Finish; closing twice is fine."""


class Closable(Protocol):
    """What has to be finished."""

    def close(self) -> None:
        """Finish; closing twice is fine."""


@runtime_checkable
class Noted(Protocol):
    """A sink that has something to say at the end of a run."""

    @property
    def notes(self) -> list[str]:
        """A line each."""


def close_all(sinks: Iterable[Closable]) -> None:
    """Close all of them, also where closing one raises; that is raised when all are closed."""
    with ExitStack() as stack:
        for sink in reversed(list(sinks)):
            stack.callback(sink.close)


class Broken:
    """The sinks of a run that were left out, because they raised. notes: a line each."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def add(self, sink: Closable, error: Exception) -> None:
        """Tell it now, and close the sink as well as that goes."""
        why = error.message if isinstance(error, EdgetlError) else f"{type(error).__name__}: {error}"
        self.notes.append(f"{type(sink).__name__} got nothing any more: {why}")
        sys.stderr.write(f"\nedgetl: {self.notes[-1]}; the run goes on without it\n")
        with suppress(Exception):
            sink.close()


def notes_of(sinks: Iterable[object]) -> list[str]:
    """What those of them that have notes say, in their order."""
    return [note for sink in sinks if isinstance(sink, Noted) for note in sink.notes]


class JsonLinesSink:
    """One line of JSON for each result and each event, flushed at once, so that a reader can follow.

    An event's line has one key, "event".
    """

    needs_picture = False
    stop = False

    def __init__(self, path: Path, heads: Sequence[Head], *, force: bool = False) -> None:
        refuse_file(path, force=force)
        self._heads = tuple(heads)
        self._whole = 0
        try:
            self._stream: IO[str] = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise InputError(f"can't write {path}: {error.strerror}") from error

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Write one line. Raises InputError where the disk takes no more."""
        self.line(result.as_json(self._heads))

    def event(self, event: Event) -> None:
        """Write one line."""
        self.line({"event": event.as_json()})

    def line(self, document: dict[str, Any]) -> None:
        """Write one line. Raises InputError where the disk takes no more."""
        text = json.dumps(document, separators=(",", ":")) + "\n"
        try:
            self._stream.write(text)
        except OSError as error:
            raise InputError(f"can't write {self._stream.name}: {error.strerror}") from error
        self._whole += len(text)

    def close(self) -> None:
        """Close the file. Raises InputError where the disk does not take what is left to write; the file ends with its
        last whole line then."""
        try:
            self._stream.close()
        except OSError as error:  # it is closed all the same
            with suppress(OSError):
                os.truncate(self._stream.name, self._whole)
            raise InputError(f"can't write {self._stream.name}: {error.strerror}") from error


ASSUMED_FPS = 30.0
"""Of a video where the source states no usable rate, such as a camera that is not there yet."""


class VideoSink:
    """An mp4 of the annotated pictures, under its final name only when it is complete.

    The size is the first picture's; later ones of another size are scaled to it. Each is shown for as long as there was
    no newer one, so that a drive of which frames were dropped plays as fast as it was. fps: as the source states it, 0
    where that is unknown.
    """

    needs_picture = True
    stop = False

    def __init__(self, path: Path, *, fps: float, force: bool = False) -> None:
        if path.suffix.lower() != ".mp4":
            raise InputError(f"the annotated video must end in .mp4, found {path.name}")
        refuse_file(path, force=force)
        with suppress(OSError):  # a folder that can't be listed may be written to
            remove_stale(path)
        self._cv2 = _cv2()
        self._path, self._force = path, force
        self._fps = fps if 1 <= fps <= 1000 else ASSUMED_FPS
        self._temporary = sibling(path)
        self._writer: Any = None
        self._times_ns = array("q")
        self._size_wh = (0, 0)

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Append one picture. Raises InputError where this OpenCV can't write mp4."""
        if picture is None:
            return
        if self._writer is None:
            self._open((picture.shape[1], picture.shape[0]))
        if (picture.shape[1], picture.shape[0]) != self._size_wh:
            picture = self._cv2.resize(picture, self._size_wh)
        self._writer.write(picture)
        self._times_ns.append(result.scene_ns)

    def event(self, event: Event) -> None:
        """A video has no place for it."""

    def _open(self, size_wh: tuple[int, int]) -> None:
        self._size_wh = size_wh
        code = self._cv2.VideoWriter_fourcc(*"mp4v")
        try:
            self._temporary.touch()  # OpenCV says no more than that it can't
        except OSError as error:
            raise InputError(f"can't write {self._path}: {error.strerror}") from error
        writer = self._cv2.VideoWriter(str(self._temporary), code, self._fps, size_wh)
        if not writer.isOpened():
            self._temporary.unlink(missing_ok=True)
            raise InputError(
                f"OpenCV can't write {self._path} of {size_wh[0]}x{size_wh[1]} pixels",
                remedy="check that it was built with FFmpeg, and that a picture has 2x2 pixels at least",
            )
        self._writer = writer

    def close(self) -> None:
        """Finish the file and give it its name. Raises InputError where it could not be written to its end, which
        OpenCV tells nobody: it is removed then.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        try:
            if not is_whole(self._temporary):
                raise InputError(
                    f"{self._path} could not be written to its end, so it is left out", remedy="check free space"
                )
            set_times(self._temporary, self._times_ns, self._fps)
            self._give_name()
        except OSError as error:
            raise InputError(f"can't write {self._path}: {error.strerror}") from error
        finally:
            self._temporary.unlink(missing_ok=True)

    def _give_name(self) -> None:
        """Raises InputError where another process took the name meanwhile; both videos are kept then."""
        if self._force or not self._path.exists():
            self._temporary.replace(self._path)
            return
        other = self._path.with_name(f"{self._path.stem}.{os.getpid()}{self._path.suffix}")
        self._temporary.replace(other)
        raise InputError(f"{self._path} was written by another process meanwhile; this video is {other}")


class WindowSink:
    """A live window; `q` or Escape ends the run."""

    needs_picture = True

    def __init__(self, title: str) -> None:
        self._cv2 = _cv2()
        self._title = title
        self.stop = False
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise InputError("--view needs a display, and none is set here", remedy="use --out video.mp4 instead")
        try:
            self._cv2.namedWindow(title, self._cv2.WINDOW_NORMAL)
        except self._cv2.error as error:
            raise InputError(
                "--view needs an OpenCV with a window system, this one has none",
                remedy="install opencv-python instead of opencv-python-headless, or use --out video.mp4",
            ) from error

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Show one picture."""
        if picture is not None:
            self.show(picture)
        self.look()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Put a picture, (H, W, 3) uint8 BGR, into the window; it is drawn by the next `look`."""
        self._cv2.imshow(self._title, picture)

    def look(self) -> None:
        """Let all windows be drawn and take a key that was pressed in any of them."""
        self.stop = self.stop or self._cv2.waitKey(1) & 0xFF in (ord("q"), 27)

    def event(self, event: Event) -> None:
        """The window shows pictures only."""

    def close(self) -> None:
        """Close the window."""
        self._cv2.destroyAllWindows()
