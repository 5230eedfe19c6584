"""The topics of one bundle's results for one camera."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edgetl_runtime.result import Detections
from edgetl_runtime.ros.clock import process_clock
from edgetl_runtime.ros.detections import boxes_bytes, places_bytes
from edgetl_runtime.ros.messages import Detection2DArray, Detection3DArray
from edgetl_runtime.ros.names import RESULTS
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.ros.node import Ros2Node
    from edgetl_runtime.spec import Head

SLOW_NS = 20_000_000
"""A result whose publishing took longer is counted: the loop waited for it."""


def topic_names(heads: Sequence[Head], prefix: str, what: str) -> dict[str, str]:
    """By the name of each head with boxes: PREFIX/what, and PREFIX/HEAD/what where several have them."""
    names = [head.name for head in heads if isinstance(head, DetectHead)]
    return {name: f"{prefix}/{what}" if len(names) == 1 else f"{prefix}/{name}/{what}" for name in names}


class Ros2Lane:
    """A Sink that publishes every result on `PREFIX/detections` and `PREFIX/places` of a node, in the loop's thread.

    One topic `PREFIX/HEAD/detections` for each head where several give boxes. frame_id: of the boxes. slow: results
    whose publishing took longer than SLOW_NS. refused: those that could not be published. Raises InputError for names
    that ROS would refuse.
    """

    needs_picture = False
    stop = False

    def __init__(self, node: Ros2Node, heads: Sequence[Head], *, prefix: str, frame_id: str) -> None:
        self._labels = {head.name: head.labels for head in heads if isinstance(head, DetectHead)}
        self._frame_id = frame_id
        self._clock = process_clock()
        self.slow = self.refused = 0
        self._closed = False
        self._boxes = {
            name: node.publisher(topic, Detection2DArray, RESULTS)
            for name, topic in topic_names(heads, prefix, "detections").items()
        }
        self._places = {
            name: node.publisher(topic, Detection3DArray, RESULTS)
            for name, topic in topic_names(heads, prefix, "places").items()
        }

    @property
    def topics(self) -> list[str]:
        """The full names of the topics with boxes."""
        return [publisher.topic for publisher in self._boxes.values()]

    @property
    def matched(self) -> bool:
        """Whether somebody subscribes to each topic with boxes now."""
        return all(publisher.matched for publisher in self._boxes.values())

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Publish one result."""
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

    def _publish(self, name: str, found: Detections, stamp_ns: int) -> None:
        labels = self._labels[name]
        self._boxes[name].put(boxes_bytes(found, labels, stamp_ns, self._frame_id))
        if found.places is not None:
            self._places[name].put(places_bytes(found, found.places, labels, stamp_ns))

    def event(self, event: Event) -> None:
        """Events are told with the diagnostics."""

    def close(self) -> None:
        """Publish nothing more; the node takes the topics back."""
        self._closed = True


def lane_notes(lanes: Iterable[Ros2Lane], clock_steps: int) -> list[str]:
    """What is to be known at the end of a run. clock_steps: how often the system clock was stepped in it."""
    lanes = list(lanes)
    slow, refused = sum(lane.slow for lane in lanes), sum(lane.refused for lane in lanes)
    told = [
        (clock_steps, f"the system clock was stepped {clock_steps} times, and stamps with it"),
        (slow, f"publishing took more than {SLOW_NS / 1e6:g} ms for {slow} results"),
        (refused, f"{refused} results could not be published"),
    ]
    return [f"ros2: {text}" for count, text in told if count]
