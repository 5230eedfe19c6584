"""The topics of one bundle's results for one camera."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from edgetl_runtime.foxglove.topics import open_channels
from edgetl_runtime.health import Event
from edgetl_runtime.recording.format import (
    BOXES_TOPIC,
    EVENT_TOPIC,
    LEDGER_TOPIC,
    LOG_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
)
from edgetl_runtime.recording.foxglove import annotations_message
from edgetl_runtime.recording.ledger import ledger_message
from edgetl_runtime.recording.log import log_message
from edgetl_runtime.recording.scene import scene_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

MAX_WAITING = 64
"""Results and events that wait to be told; older ones are left out."""


class FoxgloveLane:
    """A Sink that hands over references, and nothing where nobody has subscribed; a server's thread tells them.

    context: the SDK's. heads: the manifest's. offset_ns: from CLOCK to the clock on the wall, the same for all lanes
    and pictures of a server, so that a picture and its boxes have one stamp. prefix: stands before each topic.

    left_out: results and events that came too fast to be told.
    """

    needs_picture = False
    stop = False

    def __init__(self, context: Any, heads: Sequence[Head], *, offset_ns: int, prefix: str = "") -> None:
        self._heads = tuple(heads)
        self._offset_ns = offset_ns
        self._source: Callable[[], Snapshot] | None = None
        self.left_out = 0
        self._waiting: deque[Result | Event] = deque(maxlen=MAX_WAITING)
        self.channels = open_channels(context, self._heads, prefix=prefix)
        self._told = [self.channels[t] for t in (RESULT_TOPIC, BOXES_TOPIC, OBJECTS_TOPIC) if t in self.channels]

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Tell this loop's ledger."""
        self._source = source

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Hand over what somebody has subscribed to."""
        if any(channel.has_sinks() for channel in self._told):
            self._add(result)

    def event(self, event: Event) -> None:
        """Hand over an event."""
        self._add(event)

    def _add(self, entry: Result | Event) -> None:
        self.left_out += len(self._waiting) == MAX_WAITING
        self._waiting.append(entry)

    def close(self) -> None:
        """Take the topics back; twice is fine."""
        for channel in self.channels.values():
            channel.close()

    def tell_waiting(self) -> None:
        """Make and send all that was handed over; in the server's thread."""
        while self._waiting:
            entry = self._waiting.popleft()
            if isinstance(entry, Event):
                self._tell_event(entry)
            else:
                self._tell_result(entry)

    def tell_ledger(self) -> None:
        """Make and send the ledger as it is now; in the server's thread."""
        source = self._source
        if source is not None and self.channels[LEDGER_TOPIC].has_sinks():
            snapshot = source()
            self._log(LEDGER_TOPIC, self._wall(snapshot.t_ns), lambda: ledger_message(snapshot))

    def _tell_result(self, result: Result) -> None:
        captured, published = self._wall(result.t_capture_ns), self._wall(result.t_publish_ns)
        self._log(BOXES_TOPIC, published, lambda: annotations_message(result, self._heads, captured))
        self._log(OBJECTS_TOPIC, published, lambda: scene_message(result, self._heads, captured))
        self._log(RESULT_TOPIC, published, lambda: msgspec.json.encode(result.as_json(self._heads)))

    def _tell_event(self, event: Event) -> None:
        t_ns = self._wall(event.t_ns)
        self._log(EVENT_TOPIC, t_ns, lambda: msgspec.json.encode(event.as_json()))
        self._log(LOG_TOPIC, t_ns, lambda: log_message(event, t_ns))

    def _log(self, topic: str, t_ns: int, message: Callable[[], bytes]) -> None:
        """Make and send a message that somebody wants; empty ones are none."""
        channel = self.channels.get(topic)
        if channel is not None and channel.has_sinks() and (data := message()):
            channel.log(data, log_time=t_ns)

    def _wall(self, t_ns: int) -> int:
        return max(t_ns + self._offset_ns, 0)


def left_out_note(lanes: Sequence[FoxgloveLane]) -> list[str]:
    """What was not told."""
    left_out = sum(lane.left_out for lane in lanes)
    return [f"Foxglove: {left_out} results or events came too fast to be told"] if left_out else []
