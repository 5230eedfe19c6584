"""The sink that publishes a running loop's results in a ROS graph."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.result import Detections
from edgetl_runtime.ros.clock import process_clock
from edgetl_runtime.ros.detections import boxes_bytes, places_bytes
from edgetl_runtime.ros.diagnostics import DiagnosticsSender
from edgetl_runtime.ros.messages import Detection2DArray, Detection3DArray
from edgetl_runtime.ros.names import RESULTS, frame_of
from edgetl_runtime.ros.node import Ros2Node, Ros2Options
from edgetl_runtime.ros.pictures import PictureSender
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

PREFIX = "edgetl"
MOST_PICTURES_PER_S = 30.0
SLOW_NS = 20_000_000
"""A result whose publishing took longer is counted: the loop waited for it."""


def check_pictures(per_s: float) -> None:
    """Raises InputError for a rate that is none, or too high for a thread beside the loop."""
    if not 0 <= per_s <= MOST_PICTURES_PER_S:
        raise InputError(f"pictures for ROS are from 0 to {MOST_PICTURES_PER_S:g}/s, found {per_s:g}")


class Ros2Sink:
    """Publishes every result as a ROS 2 node does, over Zenoh, so that nodes with rmw_zenoh_cpp read it.

    `PREFIX/detections`: vision_msgs/Detection2DArray of every result, one without boxes too, in the camera's optical
    frame; one topic `PREFIX/HEAD/detections` for each head where several give boxes. `PREFIX/places`: the objects whose
    place is known, vision_msgs/Detection3DArray in base_link; nothing comes where no result has places. Both reliable,
    volatile, keep last 1, published by the loop's own thread, which is not held up: see Ros2Publisher.
    `PREFIX/image/compressed` and `PREFIX/camera_info` with pictures_per_s above zero, best effort, from a thread of
    their own. `/diagnostics` once a second from the loop's start on, whether results come or not.

    Stamps are the frame's capture time on the system clock, see EpochClock; source timestamps are of publishing. PREFIX
    without a / in front lies in the node's namespace. frame_id: `<camera_id>_optical_frame` where None. Raises
    InputError for names that ROS would refuse and where nobody answers, MissingPackage without zenoh, pycdr2 or, with
    pictures, OpenCV.
    """

    needs_picture = False
    stop = False

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        camera_id: str,
        prefix: str = PREFIX,
        frame_id: str | None = None,
        options: Ros2Options | None = None,
        pictures_per_s: float = 0.0,
        intrinsics: Intrinsics | None = None,
    ) -> None:
        check_pictures(pictures_per_s)
        options = options or Ros2Options()
        options.node.topic(f"{prefix}/detections")
        self._labels = {head.name: head.labels for head in heads if isinstance(head, DetectHead)}
        self._frame_id = frame_id if frame_id is not None else frame_of(camera_id)
        self._prefix = prefix
        self._clock = process_clock()
        self._steps_before = self._clock.steps
        self.slow = self.refused = 0
        self._closed = False
        self._node = Ros2Node(options)
        self._pictures: PictureSender | None = None
        self._diagnostics: DiagnosticsSender | None = None
        try:
            self._open(pictures_per_s, intrinsics)
        except BaseException:
            self._node.close()
            raise

    def _open(self, pictures_per_s: float, intrinsics: Intrinsics | None) -> None:
        self._boxes = {
            name: self._node.publisher(self._topic(name, "detections"), Detection2DArray, RESULTS)
            for name in self._labels
        }
        self._places = {
            name: self._node.publisher(self._topic(name, "places"), Detection3DArray, RESULTS) for name in self._labels
        }
        if pictures_per_s:
            self._pictures = PictureSender(
                self._node, self._prefix, self._frame_id, per_s=pictures_per_s, intrinsics=intrinsics
            )

    def _topic(self, head: str, what: str) -> str:
        return f"{self._prefix}/{what}" if len(self._labels) == 1 else f"{self._prefix}/{head}/{what}"

    @property
    def topics(self) -> list[str]:
        """The full names of the topics with boxes."""
        return [publisher.topic for publisher in self._boxes.values()]

    @property
    def notes(self) -> list[str]:
        """What is to be known at the end of a run."""
        notes = []
        if steps := self._clock.steps - self._steps_before:
            notes.append(f"ros2: the system clock was stepped {steps} times, and stamps with it")
        if self.slow:
            notes.append(f"ros2: publishing took more than {SLOW_NS / 1e6:g} ms for {self.slow} results")
        if self.refused:
            notes.append(f"ros2: {self.refused} results could not be published")
        return notes

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Publish this loop's state from now on."""
        if self._diagnostics is None:
            self._diagnostics = DiagnosticsSender(self._node, source)

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Publish one result, and offer its frame to those who subscribe to pictures."""
        if self._closed:
            return
        start_ns = time.monotonic_ns()
        stamp_ns = self._clock.epoch_ns(result.t_capture_ns)
        for name in self._boxes:
            found = result.outputs[name]
            assert isinstance(found, Detections)
            try:
                self._publish(name, found, stamp_ns)
            except Exception:  # a session that broke must not end the run; notes tell of it
                self.refused += 1
        self.slow += time.monotonic_ns() - start_ns > SLOW_NS
        if self._pictures is not None:
            self._pictures.offer(frame, stamp_ns)

    def _publish(self, name: str, found: Detections, stamp_ns: int) -> None:
        labels = self._labels[name]
        self._boxes[name].put(boxes_bytes(found, labels, stamp_ns, self._frame_id))
        if found.places is not None:
            self._places[name].put(places_bytes(found, found.places, labels, stamp_ns))

    def event(self, event: Event) -> None:
        """Events are told with the diagnostics."""

    def close(self) -> None:
        """Take every topic back and end all threads; twice is fine."""
        self._closed = True
        for part in (self._pictures, self._diagnostics):
            if part is not None:
                part.close()
        self._node.close()
