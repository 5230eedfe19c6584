"""A ROS 2 image topic as a camera, from nodes that speak Zenoh (rmw_zenoh_cpp)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.errors import CameraError, InputError
from edgetl_runtime.pool import FramePool
from edgetl_runtime.result import Frame
from edgetl_runtime.ros.clock import process_clock
from edgetl_runtime.ros.messages import CompressedImage, Image
from edgetl_runtime.ros.names import SENSOR
from edgetl_runtime.ros.node import Ros2Context, Ros2Node, Ros2Options
from edgetl_runtime.ros.pixels import MAX_BYTES, read_compressed, read_image, to_bgr
from edgetl_runtime.ros.type_hash import type_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEME = "ros2:"
OPEN_S = 5.0
STALL_S = 5.0
LONGEST_TRANSIT_NS = 2_000_000_000
"""A header's stamp that is older than this on arrival, or younger than the arrival, is not believed."""
_ASSUMED_FPS = 30.0
_STEP_S = 0.05
_TOLD = 3
_LISTED = 8


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A message that nobody has looked into. number counts from 0, those that nobody took included."""

    payload: Any
    number: int
    arrival_ns: int


class Ros2Camera:
    """The newest image of a topic: sensor_msgs/CompressedImage where its name ends in /compressed, else Image.

    The first one that comes tells the size and is not given.

    A message is stamped on CLOCK when it arrives, before anything is read of it. Its header says when the picture was
    taken, on the system clock of whoever published it. While every header lies between the arrival and
    LONGEST_TRANSIT_NS before it, t_capture_ns is the header's stamp, converted by an EpochClock: exposure, as far as
    the driver knows it. The first one that does not (no stamp, a recording, simulated time, clocks of two machines that
    disagree) ends that for good, and t_capture_ns is the arrival from then on; `notes` says so. It never falls back
    and forth between the two. So do two pictures of one stamp: whoever made it counts too coarsely. The same picture
    with its stamp once more, or an older one, keeps its stamp: it is no newer for having come again.

    What is no image of a kind that is known is refused and counted in `failed`; the first reasons are in `notes`. A
    definition of another version is met by its bytes, not by its hash. frame_id: of the newest header. A publisher that
    sends nothing for stall_s, or for open_s at first, is a CameraError. Raises that, too, where no router or node
    answers, and MissingPackage without OpenCV. context: as of Ros2Node. stop: set it from another thread to give up
    opening.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        topic: str,
        options: Ros2Options | None = None,
        *,
        context: Ros2Context | None = None,
        open_s: float = OPEN_S,
        stall_s: float = STALL_S,
        stop: threading.Event | None = None,
    ) -> None:
        compressed = topic.endswith("/compressed")
        self._message = CompressedImage if compressed else Image
        self._read = read_compressed if compressed else read_image
        self.fps = _ASSUMED_FPS
        self.failed = 0
        self.frame_id = ""
        self._stall_s = stall_s
        self._changed = threading.Condition()
        self._newest: _Arrived | None = None
        self._count = 0
        self._last_ns, self._last_image = 0, np.zeros((0, 0, 3), np.uint8)
        self._stopping = False
        self._stamped = True
        self._pool = FramePool()
        self._clock = process_clock()
        try:
            self._node = Ros2Node(options or Ros2Options(), context=context)
            self.topic = self._subscribe(topic)
        except InputError as error:
            raise CameraError(f"{SCHEME}{topic}: {error.message}", remedy=error.remedy) from error
        self.camera_id = f"{SCHEME}{self.topic}"
        self.notes = [f"{self.camera_id}: states no rate, {_ASSUMED_FPS:g} frames/s assumed"]
        try:
            first = self._wait(open_s, stop)  # for its size only: it is old when somebody reads
        except BaseException:
            self.close()
            raise
        self._size_hw = first.image.shape[:2] if first is not None else (0, 0)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frame read last."""
        return self._size_hw[0], self._size_hw[1]

    def read(self) -> Frame | None:
        """The newest image that was not given yet, None once closed. Raises CameraError where there are none."""
        frame = self._wait(self._stall_s, None)
        if frame is not None:
            self._size_hw = frame.image.shape[:2]
        return frame

    def interrupt(self) -> None:
        """End a `read` that waits; any thread may call this."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Leave the ROS graph; twice is fine."""
        self.interrupt()
        self._node.close()

    def _subscribe(self, topic: str) -> str:
        try:
            return self._node.subscribe(topic, self._message, SENSOR, self._arrived)
        except BaseException:
            self._node.close()
            raise

    def _arrived(self, sample: Any) -> None:
        """In Zenoh's thread: nothing but the stamp is made here."""
        now_ns = time.monotonic_ns()
        with self._changed:
            self._newest = _Arrived(sample, self._count, now_ns)
            self._count += 1
            self._changed.notify_all()

    def _wait(self, timeout_s: float, stop: threading.Event | None) -> Frame | None:
        until_s = time.monotonic() + timeout_s
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._stopping, _STEP_S)
                if self._stopping:
                    return None
                arrived, self._newest = self._newest, None
            if arrived is not None:
                frame = self._frame(arrived)
                if frame is not None:
                    return frame
            elif stop is not None and stop.is_set():
                raise CameraError(f"{self.camera_id} was closed while it was opened")
            if time.monotonic() > until_s:
                raise self._nothing(timeout_s)

    def _frame(self, arrived: _Arrived) -> Frame | None:
        """The image in a message; None for one that is refused."""
        try:
            image, epoch_ns = self._image(arrived.payload)
        except ValueError as error:
            self.failed += 1
            if self.failed <= _TOLD:
                self.notes.append(f"{self.camera_id}: refused a message: {error}")
            return None
        stamp_ns = self._captured_ns(epoch_ns, arrived.arrival_ns)
        if self._stamped and stamp_ns == self._last_ns and not np.array_equal(image, self._last_image):
            self._stamped = False
            self.notes.append(f"{self.camera_id}: header stamps do not rise, frames are stamped on arrival")
            stamp_ns = arrived.arrival_ns
        self._last_ns, self._last_image = stamp_ns, image
        return Frame(image, arrived.number, self.camera_id, stamp_ns)

    def _image(self, sample: Any) -> tuple[NDArray[np.uint8], int]:
        if len(sample.payload) > MAX_BYTES:
            raise ValueError(f"{len(sample.payload)} bytes, more than {MAX_BYTES}")
        image = self._read(sample.payload.to_bytes())
        self.frame_id = image.frame_id
        return to_bgr(image, self._pool), image.epoch_ns

    def _captured_ns(self, epoch_ns: int, arrival_ns: int) -> int:
        if not self._stamped:
            return arrival_ns
        captured_ns = self._clock.monotonic_ns(epoch_ns)
        transit_ns = arrival_ns - captured_ns
        if 0 <= transit_ns <= LONGEST_TRANSIT_NS:
            return captured_ns
        self._stamped = False
        told = "no stamp" if not epoch_ns else f"a stamp {transit_ns / 1e9:.3f} s before its arrival"
        self.notes.append(f"{self.camera_id}: a header had {told}, frames are stamped on arrival")
        return arrival_ns

    def _there(self) -> str:
        """The topics with pictures that could be meant, some of them where there are many."""
        topics = self._node.published_topics([type_name(kind) for kind in (Image, CompressedImage)])
        if not topics:
            return "there is none with pictures"
        more = f" and {len(topics) - _LISTED} more" if len(topics) > _LISTED else ""
        return f"pictures are on {', '.join(topics[:_LISTED])}{more}"

    def _nothing(self, waited_s: float) -> CameraError:
        """Why there is no image, as well as the graph knows it."""
        wanted = type_name(self._message)
        types = self._node.published_types(self.topic)
        if self.failed:
            return CameraError(f"{self.camera_id} gave no image that can be used: {self.notes[-1]}")
        if not types:
            return CameraError(
                f"{self.camera_id} gave nothing for {waited_s:g} s, and no node publishes that topic; {self._there()}",
                remedy="see `ros2 topic list`, and check the domain and --ros2-connect",
            )
        if wanted not in types:
            return CameraError(
                f"{self.camera_id} is published as {', '.join(types)}, and {wanted} was expected",
                remedy="name a topic of sensor_msgs/Image, or of CompressedImage that ends in /compressed",
            )
        return CameraError(f"{self.camera_id} gave no image for {waited_s:g} s", remedy="check the node that has it")
