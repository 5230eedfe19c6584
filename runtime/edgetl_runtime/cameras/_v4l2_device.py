"""One V4L2 device: what it can do, what was agreed with it, and its buffers.

The order of calls is the kernel's, https://docs.kernel.org/userspace-api/media/v4l/mmap.html: agree on a format, ask
for buffers, map them, queue them, stream; every buffer that was taken goes back into the queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import mmap
from fractions import Fraction

from edgetl_runtime.cameras import _v4l2_kernel as v4l2
from edgetl_runtime.cameras._v4l2_errors import explain
from edgetl_runtime.cameras._v4l2_formats import PIXEL_FORMATS, Layout, colour_note, layout_of
from edgetl_runtime.errors import CameraError

BUFFERS = 4
"""One is being converted, two must be queued for many drivers to run at all, one is filled meanwhile. More would only
hold older frames; fewer lose some. Age does not grow with them, since the newest is taken and the rest goes back."""
ENOUGH_FPS = 25.0
"""Without a wish, a format that gives so many frames a second is fast enough."""
UNKNOWN_FPS = 30.0

_NOT_KNOWN = (errno.ENOTTY, errno.EINVAL, errno.ENODATA)
_MOST_ENTRIES = 256  # of a list that a driver never ends


class Device:
    """An opened device; the steps are to be called in the order in which they stand here.

    size_hw: what it was asked for or had. layout, fps, notes: what was agreed. Raises CameraError everywhere.
    """

    layout: Layout

    def __init__(self, path: str, kernel: v4l2.Kernel) -> None:
        self.path, self._kernel = path, kernel
        self.fps = UNKNOWN_FPS
        self.notes: list[str] = []
        self.queued = 0
        self.buffer_flags = 0
        self._maps: list[mmap.mmap] = []
        self._fd = -1
        try:
            self._fd = kernel.open(path)
        except OSError as error:
            raise explain(path, "it was opened", error) from error
        try:
            self._check_capabilities()
        except CameraError:
            self.close()
            raise

    def agree(self, size_hw: tuple[int, int] | None, fps: float | None, pixel_format: str | None) -> None:
        """Ask for these, as far as they are given, and read back what will be; differences become notes."""
        pix = self._current()
        height, width = size_hw or (pix.height, pix.width)
        pix = self._set_format(self._choose((height, width), fps, pixel_format), height, width)
        name = v4l2.name_of(pix.pixelformat)
        if name not in PIXEL_FORMATS:
            raise CameraError(f"{self.path} gives {name}, which can't be decoded here", remedy=_ELSEWHERE)
        try:
            self.layout = layout_of(name, pix)
        except ValueError as error:
            raise CameraError(f"{self.path} {error}", remedy="ask for another size or format") from error
        self._differs("pixel format", pixel_format, name)
        if size_hw:
            self._differs("width", width, pix.width)
            self._differs("height", height, pix.height)
        self._set_rate(fps)
        if note := colour_note(name, pix):
            self._note(note)
        if pix.field > v4l2.FIELD_NONE:
            self._note(f"gives fields of interlaced pictures (V4L2's field {pix.field}), they are used as they are")

    def start(self) -> None:
        """Get buffers, hand them all to the driver, and stream."""
        request = v4l2.RequestBuffers(count=BUFFERS, type=v4l2.CAPTURE, memory=v4l2.MEMORY_MMAP)
        self._call(v4l2.REQBUFS, request, "buffers were asked for")
        if not request.count:
            raise CameraError(f"{self.path} gave no buffers", remedy="free some memory, or ask for a smaller size")
        if request.count != BUFFERS:
            self._note(f"{BUFFERS} buffers asked, {request.count} found")
        for index in range(request.count):
            buffer = v4l2.Buffer(index=index, type=v4l2.CAPTURE, memory=v4l2.MEMORY_MMAP)
            self._call(v4l2.QUERYBUF, buffer, "its buffers were looked up")
            self.buffer_flags = buffer.flags
            try:
                self._maps.append(self._kernel.mmap(self._fd, buffer.length, buffer.offset))
            except (OSError, ValueError) as error:
                raise CameraError(
                    f"{self.path}: a buffer of {buffer.length} bytes can't be mapped ({error})"
                ) from error
            self.give(buffer)
        self._call(v4l2.STREAMON, ctypes.c_int(v4l2.CAPTURE), "streaming was started")

    @property
    def count(self) -> int:
        """How many buffers there are."""
        return len(self._maps)

    def memory(self, buffer: v4l2.Buffer) -> mmap.mmap:
        """What a buffer that was taken holds; a view of it must not outlive `close`."""
        return self._maps[buffer.index]

    def wait(self, timeout_s: float) -> bool:
        """Whether a buffer is filled, or the device failed, within this time."""
        try:
            return self._kernel.poll(self._fd, timeout_s)
        except OSError as error:
            raise explain(self.path, "a frame was waited for", error) from error

    def take(self) -> v4l2.Buffer | None:
        """The oldest filled buffer, None where none is."""
        buffer = v4l2.Buffer(type=v4l2.CAPTURE, memory=v4l2.MEMORY_MMAP)
        try:
            self._kernel.ioctl(self._fd, v4l2.DQBUF, buffer)
        except BlockingIOError:
            return None
        except OSError as error:
            raise explain(self.path, "a frame was taken", error) from error
        self.queued -= 1
        return buffer

    def give(self, buffer: v4l2.Buffer) -> None:
        """Let the driver fill this buffer again."""
        again = v4l2.Buffer(index=buffer.index, type=v4l2.CAPTURE, memory=v4l2.MEMORY_MMAP)
        self._call(v4l2.QBUF, again, "a buffer was queued")
        self.queued += 1

    def close(self) -> None:
        """End streaming and let go of everything; twice is fine."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            self._kernel.ioctl(fd, v4l2.STREAMOFF, ctypes.c_int(v4l2.CAPTURE))
        for each in self._maps:
            with contextlib.suppress(BufferError):
                each.close()
        self._maps.clear()
        with contextlib.suppress(OSError):
            self._kernel.close(fd)

    def _check_capabilities(self) -> None:
        found = v4l2.Capability()
        try:
            self._kernel.ioctl(self._fd, v4l2.QUERYCAP, found)
        except OSError as error:
            if error.errno in _NOT_KNOWN:
                raise CameraError(f"{self.path} is no V4L2 device") from error
            raise explain(self.path, "its capabilities were asked for", error) from error
        caps = found.device_caps if found.capabilities & v4l2.CAP_DEVICE_CAPS else found.capabilities
        card = found.card.decode("utf-8", "replace")
        if caps & v4l2.CAP_VIDEO_CAPTURE:
            if not caps & v4l2.CAP_STREAMING:
                raise CameraError(f"{self.path} ({card}) has no streaming buffers, only read()", remedy=_ELSEWHERE)
            return
        if caps & v4l2.CAP_VIDEO_CAPTURE_MPLANE:
            raise CameraError(f"{self.path} ({card}) is a multi-planar device, not supported yet", remedy=_ELSEWHERE)
        if caps & v4l2.CAP_META_CAPTURE:
            what, remedy = "gives metadata and no pictures", "take the camera's other /dev/video, mostly the one before"
        elif caps & (v4l2.CAP_VIDEO_M2M | v4l2.CAP_VIDEO_M2M_MPLANE):
            what, remedy = "is a codec or scaler and no camera", "take another /dev/video"
        elif caps & v4l2.CAP_VIDEO_OUTPUT:
            what, remedy = "takes pictures in and gives none", "start what writes to it first, for v4l2loopback"
        else:
            what, remedy = "gives no pictures", "take another /dev/video"
        raise CameraError(f"{self.path} ({card}) {what}", remedy=remedy)

    def _current(self) -> v4l2.PixFormat:
        found = v4l2.Format(type=v4l2.CAPTURE)
        self._call(v4l2.G_FMT, found, "its format was asked for")
        return found.pix

    def _set_format(self, name: str, height: int, width: int) -> v4l2.PixFormat:
        """Some drivers refuse what they should have adjusted; then what they have stays."""
        wanted = v4l2.Format(type=v4l2.CAPTURE)
        wanted.pix.width, wanted.pix.height, wanted.pix.pixelformat = width, height, v4l2.fourcc(name)
        try:
            self._kernel.ioctl(self._fd, v4l2.S_FMT, wanted)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise explain(self.path, "its format was set", error) from error
            return self._current()
        return wanted.pix

    def _choose(self, size_hw: tuple[int, int], fps: float | None, asked: str | None) -> str:
        """The format that was asked for, where there is such; otherwise the best fast enough, or the fastest."""
        offered = self._offered()
        if asked in offered:
            return str(asked)
        usable = [name for name in PIXEL_FORMATS if name in offered]
        if not usable:
            found = f"gives {', '.join(offered)} only, none of which" if offered else "lists no format that"
            raise CameraError(f"{self.path} {found} can be decoded here", remedy=_ELSEWHERE)
        rates = {name: self._fastest(name, size_hw) for name in usable}
        enough = (fps or ENOUGH_FPS) * 0.99
        return next((name for name in usable if rates[name] >= enough), max(usable, key=lambda name: rates[name]))

    def _offered(self) -> list[str]:
        names = []
        for index in range(_MOST_ENTRIES):
            entry = v4l2.FmtDesc(index=index, type=v4l2.CAPTURE)
            if not self._known(v4l2.ENUM_FMT, entry):
                break
            names.append(v4l2.name_of(entry.pixelformat))
        return names

    def _fastest(self, name: str, size_hw: tuple[int, int]) -> float:
        """The highest rate of a format in this size: 0 where it has no such size, infinite where nothing is stated."""
        height, width = size_hw
        sized = self._has_size(name, height, width)
        if sized is None:
            return math.inf
        rates = []
        for index in range(_MOST_ENTRIES if sized else 0):
            entry = v4l2.FrmIvalEnum(index=index, pixel_format=v4l2.fourcc(name), width=width, height=height)
            if not self._known(v4l2.ENUM_FRAMEINTERVALS, entry):
                break
            rates.append(_rate(entry.intervals[0]))
            if entry.type != v4l2.INTERVAL_DISCRETE:
                break
        return max(rates, default=math.inf if sized else 0.0)

    def _has_size(self, name: str, height: int, width: int) -> bool | None:
        """None where the driver doesn't say."""
        for index in range(_MOST_ENTRIES):
            entry = v4l2.FrmSizeEnum(index=index, pixel_format=v4l2.fourcc(name))
            if not self._known(v4l2.ENUM_FRAMESIZES, entry):
                return False if index else None
            if entry.type == v4l2.SIZE_DISCRETE:
                if (entry.sizes[0], entry.sizes[1]) == (width, height):
                    return True
                continue
            w0, w1, w_step, h0, h1, h_step = entry.sizes
            return (
                w0 <= width <= w1
                and h0 <= height <= h1
                and not (width - w0) % max(w_step, 1)
                and not (height - h0) % max(h_step, 1)
            )
        return False

    def _set_rate(self, fps: float | None) -> None:
        found = v4l2.StreamParm(type=v4l2.CAPTURE)
        stated = self._known(v4l2.G_PARM, found) and bool(found.capture.capability & v4l2.CAP_TIMEPERFRAME)
        if fps and stated:
            rate = Fraction(fps).limit_denominator(1001)
            found = v4l2.StreamParm(type=v4l2.CAPTURE)
            found.capture.timeperframe.numerator = rate.denominator
            found.capture.timeperframe.denominator = rate.numerator
            stated = self._known(v4l2.S_PARM, found)
        rate_found = _rate(found.capture.timeperframe) if stated else 0.0
        self.fps = rate_found or UNKNOWN_FPS
        if not rate_found:
            self._note(f"states no usable rate, {UNKNOWN_FPS:g} frames/s assumed")
        if fps and abs(rate_found - fps) > 0.01 * fps:
            self._note(f"rate {fps:g} asked, {f'{rate_found:g}' if rate_found else 'none'} found")

    def _differs(self, what: str, asked: str | int | None, found: str | int) -> None:
        if asked is not None and asked != found:
            self._note(f"{what} {asked} asked, {found} found")

    def _note(self, text: str) -> None:
        self.notes.append(f"{self.path}: {text}")

    def _known(self, request: int, argument: ctypes.Structure) -> bool:
        """Make a call that a driver need not know, or that ends a list; whether it answered."""
        try:
            self._kernel.ioctl(self._fd, request, argument)
        except OSError as error:
            if error.errno in _NOT_KNOWN:
                return False
            raise explain(self.path, "its settings were asked for", error) from error
        return True

    def _call(self, request: int, argument: ctypes.Structure | ctypes.c_int, doing: str) -> None:
        try:
            self._kernel.ioctl(self._fd, request, argument)
        except OSError as error:
            raise explain(self.path, doing, error) from error


_ELSEWHERE = "opencv:NUMBER or gst:v4l2src device=… may read it"


def _rate(interval: v4l2.Fract) -> float:
    return interval.denominator / interval.numerator if interval.numerator else 0.0
