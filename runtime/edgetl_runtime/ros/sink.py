"""The sink that publishes a running loop's results in a ROS graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.ros.clock import process_clock
from edgetl_runtime.ros.convert import diagnostics_message
from edgetl_runtime.ros.diagnostics import DiagnosticsSender
from edgetl_runtime.ros.lane import Ros2Lane, lane_notes
from edgetl_runtime.ros.names import frame_of
from edgetl_runtime.ros.node import Ros2Context, Ros2Node, Ros2Options
from edgetl_runtime.ros.pictures import PictureSender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.ros.messages import DiagnosticArray, Header
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

PREFIX = "edgetl"
MOST_PICTURES_PER_S = 30.0


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
    without a / in front lies in the node's namespace. frame_id: `<camera_id>_optical_frame` where None. context: whose
    session is used, one of its own where None. Raises InputError for names that ROS would refuse and where nobody
    answers, MissingPackage without zenoh, pycdr2 or, with pictures, OpenCV.
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
        context: Ros2Context | None = None,
        pictures_per_s: float = 0.0,
        intrinsics: Intrinsics | None = None,
    ) -> None:
        check_pictures(pictures_per_s)
        options = options or Ros2Options()
        options.node.topic(f"{prefix}/detections")
        frame_id = frame_id if frame_id is not None else frame_of(camera_id)
        self._clock = process_clock()
        self._steps_before = self._clock.steps
        self._closed = False
        self._node = Ros2Node(options, context=context)
        self._pictures: PictureSender | None = None
        self._diagnostics: DiagnosticsSender | None = None
        try:
            self._lane = Ros2Lane(self._node, heads, prefix=prefix, frame_id=frame_id)
            if pictures_per_s:
                self._pictures = PictureSender(
                    self._node, prefix, frame_id, per_s=pictures_per_s, intrinsics=intrinsics
                )
        except BaseException:
            self._node.close()
            raise

    @property
    def topics(self) -> list[str]:
        """The full names of the topics with boxes."""
        return self._lane.topics

    @property
    def matched(self) -> bool:
        """Whether somebody subscribes to each topic with boxes now."""
        return self._lane.matched

    @property
    def notes(self) -> list[str]:
        """What is to be known at the end of a run."""
        return lane_notes([self._lane], self._clock.steps - self._steps_before)

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Publish this loop's state from now on."""

        def state(head: Header) -> DiagnosticArray:
            snapshot = source()
            return diagnostics_message(snapshot, self._node.options.node.name, snapshot.camera_id, head)

        if self._diagnostics is None:
            self._diagnostics = DiagnosticsSender(self._node, state)

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Publish one result, and offer its frame to those who subscribe to pictures."""
        if self._closed:
            return
        self._lane.write(result, frame, None)
        if self._pictures is not None:
            self._pictures.offer(frame, self._clock.epoch_ns(frame.t_capture_ns))

    def event(self, event: Event) -> None:
        """Events are told with the diagnostics."""

    def close(self) -> None:
        """Take every topic back and end all threads; twice is fine."""
        self._closed = True
        for part in (self._lane, self._pictures, self._diagnostics):
            if part is not None:
                part.close()
        self._node.close()
