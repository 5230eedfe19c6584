"""The sink that publishes the results of several cameras and bundles in a ROS graph, as one node."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from edgetl_runtime.rig.names import camera_prefixes, lane_prefixes
from edgetl_runtime.rig.sinks import LaneName, LaneSinks
from edgetl_runtime.ros.clock import process_clock
from edgetl_runtime.ros.convert import lane_status, rig_status
from edgetl_runtime.ros.diagnostics import DiagnosticsSender
from edgetl_runtime.ros.lane import Ros2Lane, lane_notes, topic_names
from edgetl_runtime.ros.messages import DiagnosticArray
from edgetl_runtime.ros.names import frame_of
from edgetl_runtime.ros.node import Ros2Context, Ros2Node, Ros2Options
from edgetl_runtime.ros.pictures import PictureSender
from edgetl_runtime.ros.sink import PREFIX, check_pictures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.ros.intrinsics import Intrinsics
    from edgetl_runtime.ros.messages import DiagnosticStatus, Header
    from edgetl_runtime.ros.names import NodeName
    from edgetl_runtime.spec import Head

_PAUSE_S = 0.001
"""Between the states of two lanes: a millisecond's work at a time is all that the loop's thread waits for."""


def check_topics(
    node: NodeName, cameras: Sequence[str], heads: Mapping[str, Sequence[Head]], prefix: str = PREFIX
) -> None:
    """Raises InputError for names that ROS would refuse or that would be of two things."""
    for lane, above in lane_prefixes(cameras, list(heads), prefix).items():
        for topic in topic_names(heads[lane.bundle], above, "detections").values():
            node.topic(topic)


class Ros2Rounds:
    """A RigSink that is one node: Ros2Sink says what is published and how, here with PREFIX/CAMERA for PREFIX.

    `PREFIX/CAMERA/detections` and `places`, with several bundles `PREFIX/CAMERA/BUNDLE/detections` and `places`.
    Pictures and camera_info once for each camera, also where no bundle made anything of a frame. Names have every
    character that ROS refuses as _. `/diagnostics` holds a status for the whole rig, then one for each bundle on each
    camera, NODE: CAMERA/BUNDLE.

    heads: the manifests', by bundle. frame_ids and intrinsics: by camera, for those that have one; others have
    `CAMERA_optical_frame` and are not calibrated. Raises as Ros2Sink does, and InputError where two names become one.
    """

    stop = False

    def __init__(
        self,
        cameras: Sequence[str],
        heads: Mapping[str, Sequence[Head]],
        *,
        prefix: str = PREFIX,
        frame_ids: Mapping[str, str] | None = None,
        options: Ros2Options | None = None,
        context: Ros2Context | None = None,
        pictures_per_s: float = 0.0,
        intrinsics: Mapping[str, Intrinsics] | None = None,
    ) -> None:
        check_pictures(pictures_per_s)
        options = options or Ros2Options()
        check_topics(options.node, cameras, heads, prefix)
        frames = {camera: (frame_ids or {}).get(camera, frame_of(camera)) for camera in cameras}
        self._clock = process_clock()
        self._steps_before = self._clock.steps
        self._pictures: dict[str, PictureSender] = {}
        self._diagnostics: DiagnosticsSender | None = None
        self._pause = threading.Event()
        self._node = Ros2Node(options, context=context)
        try:
            self._lanes = {
                lane: Ros2Lane(self._node, heads[lane.bundle], prefix=above, frame_id=frames[lane.camera])
                for lane, above in lane_prefixes(cameras, list(heads), prefix).items()
            }
            for camera, above in camera_prefixes(cameras, prefix).items() if pictures_per_s else ():
                self._pictures[camera] = PictureSender(
                    self._node,
                    above,
                    frames[camera],
                    per_s=pictures_per_s,
                    intrinsics=(intrinsics or {}).get(camera),
                )
        except BaseException:
            self._close_pictures()
            self._node.close()
            raise
        self._sinks = LaneSinks(heads, {lane: [sink] for lane, sink in self._lanes.items()})

    @property
    def topics(self) -> list[str]:
        """The full names of the topics with boxes."""
        return [topic for lane in self._lanes.values() for topic in lane.topics]

    @property
    def matched(self) -> bool:
        """Whether somebody subscribes to each topic with boxes now."""
        return all(lane.matched for lane in self._lanes.values())

    @property
    def notes(self) -> list[str]:
        """What is to be known at the end of a run."""
        return lane_notes(self._lanes.values(), self._clock.steps - self._steps_before)

    def begin(self, rig: Rig) -> None:
        """Publish the rig's state from now on."""
        self._sinks.begin(rig)
        self._diagnostics = DiagnosticsSender(self._node, lambda head: self._state(rig, head))

    def write(self, made: Round) -> None:
        """Publish the round's results, and offer its frames to those who subscribe to pictures."""
        self._sinks.write(made)
        if self._pictures:
            for camera, frame in made.frames.items():
                self._pictures[camera].offer(frame, self._clock.epoch_ns(frame.t_capture_ns))

    def event(self, event: RigEvent) -> None:
        """Events are told with the diagnostics."""

    def close(self) -> None:
        """Take every topic back and end all threads; twice is fine."""
        self._sinks.close()
        self._close_pictures()
        if self._diagnostics is not None:
            self._diagnostics.close()
        self._node.close()

    def _close_pictures(self) -> None:
        for pictures in self._pictures.values():
            pictures.close()

    def _state(self, rig: Rig, head: Header) -> DiagnosticArray:
        """In the thread of the diagnostics."""
        node = self._node.options.node.name
        lanes: dict[LaneName, DiagnosticStatus] = {}
        for lane in self._lanes:
            camera = rig.seats[lane.camera].feed.camera
            lanes[lane] = lane_status(self._sinks.snapshot(lane), node, camera.camera_id)
            self._pause.wait(_PAUSE_S)
        wanted = [status for lane, status in lanes.items() if rig.keeps(lane.camera)]
        return DiagnosticArray(head, [rig_status(rig, node, wanted), *lanes.values()])
