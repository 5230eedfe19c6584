"""The sink that shows a running loop in Foxglove."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgetl_runtime.errors import InputError
from edgetl_runtime.foxglove.pictures import Pictures
from edgetl_runtime.foxglove.topics import open_channels
from edgetl_runtime.health import Event
from edgetl_runtime.imports import need
from edgetl_runtime.recording.format import (
    BOXES_TOPIC,
    EVENT_TOPIC,
    IMAGE_TOPIC,
    LEDGER_TOPIC,
    LOG_TOPIC,
    OBJECTS_TOPIC,
    RESULT_TOPIC,
    wall_offset_ns,
)
from edgetl_runtime.recording.foxglove import annotations_message, jpeg_message
from edgetl_runtime.recording.ledger import ledger_message
from edgetl_runtime.recording.log import log_message
from edgetl_runtime.recording.scene import scene_message
from edgetl_runtime.web.access import LOOPBACK, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

LAYOUT = Path(__file__).with_name("edgetl.layout.json")
"""Panels for the topics, to be imported in Foxglove; for live connections and recordings."""
PORT = 8765
"""Where Foxglove looks first."""
PICTURES_PER_S = 15.0
LEDGER_S = 0.5
MAX_WAITING = 64
"""Results and events that wait to be told; older ones are left out."""
CLIENT_BACKLOG = 64
"""Messages that wait for one slow client; the server leaves older ones out."""
_POLL_S = 0.01
"""The thread looks for work by itself: woken by each result it would take the loop's core while that is publishing."""
_END_S = 2.0


class FoxgloveSink:
    """A WebSocket server for Foxglove on this machine, with the topics of a recording.

    The loop's thread hands over references, and nothing where nobody has subscribed; messages are made in a thread of
    their own, pictures in another one, at most pictures_per_s in a second. A client that is slow or dead loses
    messages. heads: the manifest's. port: 0 takes any free one, see `port`. bind: must be the machine's own: the SDK's
    server asks nobody for a token. Raises InputError for another address and for a port that is taken, MissingPackage.
    """

    needs_picture = False
    stop = False

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        port: int = PORT,
        bind: str = LOOPBACK,
        name: str = "edgetl",
        pictures_per_s: float = PICTURES_PER_S,
    ) -> None:
        check_bind(bind)
        if not 0 <= port <= 65535:
            raise InputError(f"a port is from 0 to 65535, found {port}")
        self._heads = tuple(heads)
        self._offset_ns = wall_offset_ns()
        self._source: Callable[[], Snapshot] | None = None
        self.left_out = 0
        self._waiting: deque[Result | Event] = deque(maxlen=MAX_WAITING)
        self._closing = threading.Event()
        self._context: Any = _sdk().Context()  # the server knows no channels without a reference to it
        self._channels = open_channels(self._context, self._heads)
        self._server = _open_server(self._context, port, bind, name)
        self._told = [self._channels[t] for t in (RESULT_TOPIC, BOXES_TOPIC, OBJECTS_TOPIC) if t in self._channels]
        image = self._channels[IMAGE_TOPIC]
        self._pictures = Pictures(self._deliver, image.has_sinks, per_s=pictures_per_s)
        self._thread = threading.Thread(target=self._work, name="foxglove messages", daemon=True)
        self._thread.start()

    @property
    def notes(self) -> list[str]:
        """What was not told."""
        return [f"Foxglove: {self.left_out} results or events came too fast to be told"] if self.left_out else []

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.port)

    @property
    def url(self) -> str:
        """What Foxglove's "Open connection" wants."""
        return f"ws://{LOOPBACK}:{self.port}"

    def announce(self) -> None:
        """Tell on stderr where to connect and where the layout is."""
        sys.stderr.write(f"Foxglove: open the connection {self.url}, import the layout {LAYOUT}\n")

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Tell this loop's ledger."""
        self._source = source

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Hand over what somebody has subscribed to."""
        self._pictures.offer(frame)
        if any(channel.has_sinks() for channel in self._told):
            self._add(result)

    def event(self, event: Event) -> None:
        """Hand over an event."""
        self._add(event)

    def _add(self, entry: Result | Event) -> None:
        self.left_out += len(self._waiting) == MAX_WAITING
        self._waiting.append(entry)

    def close(self) -> None:
        """Tell what waits, then end the server, all connections and threads; twice is fine."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(_END_S)
        self._pictures.close()
        for channel in self._channels.values():
            channel.close()
        self._server.stop()

    def _work(self) -> None:
        ledger_s = time.monotonic()
        ending = False
        while not ending:
            ending = self._closing.wait(_POLL_S)  # what waits at the end is told once more
            try:
                self._tell_all()
                if ending or time.monotonic() >= ledger_s:
                    ledger_s = time.monotonic() + LEDGER_S
                    self._tell_ledger()
            except Exception as error:  # whatever it is, the run is worth more than its pictures
                sys.stderr.write(f"edgetl foxglove: no message: {type(error).__name__}: {error}\n")

    def _tell_all(self) -> None:
        while self._waiting:
            entry = self._waiting.popleft()
            if isinstance(entry, Event):
                self._tell_event(entry)
            else:
                self._tell_result(entry)

    def _tell_result(self, result: Result) -> None:
        captured, published = self._wall(result.t_capture_ns), self._wall(result.t_publish_ns)
        self._log(BOXES_TOPIC, published, lambda: annotations_message(result, self._heads, captured))
        self._log(OBJECTS_TOPIC, published, lambda: scene_message(result, self._heads, captured))
        self._log(RESULT_TOPIC, published, lambda: msgspec.json.encode(result.as_json(self._heads)))

    def _tell_event(self, event: Event) -> None:
        t_ns = self._wall(event.t_ns)
        self._log(EVENT_TOPIC, t_ns, lambda: msgspec.json.encode(event.as_json()))
        self._log(LOG_TOPIC, t_ns, lambda: log_message(event, t_ns))

    def _tell_ledger(self) -> None:
        source = self._source
        if source is not None and self._channels[LEDGER_TOPIC].has_sinks():
            snapshot = source()
            self._log(LEDGER_TOPIC, self._wall(snapshot.t_ns), lambda: ledger_message(snapshot))

    def _deliver(self, frame: Frame, jpeg: bytes) -> None:
        captured = self._wall(frame.t_capture_ns)
        message = jpeg_message(jpeg, captured, f"{frame.camera_id}_optical_frame")
        self._channels[IMAGE_TOPIC].log(message, log_time=self._wall(time.monotonic_ns()))

    def _log(self, topic: str, t_ns: int, message: Callable[[], bytes]) -> None:
        """Make and send a message that somebody wants; empty ones are none."""
        channel = self._channels.get(topic)
        if channel is not None and channel.has_sinks() and (data := message()):
            channel.log(data, log_time=t_ns)

    def _wall(self, t_ns: int) -> int:
        return max(t_ns + self._offset_ns, 0)


def _sdk() -> Any:
    return need("foxglove", extra="vehicle")


def _open_server(context: Any, port: int, bind: str, name: str) -> Any:
    """The SDK's server. Raises InputError."""
    host = resolve(bind).host
    try:
        return _sdk().start_server(
            name=name, host=host, port=port, context=context, message_backlog_size=CLIENT_BACKLOG
        )
    except RuntimeError as error:
        raise InputError(
            f"Foxglove's server can't listen on port {port}: {error}", remedy="give another one, or 0 for any"
        ) from error


def check_bind(bind: str) -> None:
    """Raise InputError for an address that others reach."""
    if not resolve(bind).loopback:
        raise InputError(
            f"Foxglove's server asks nobody for a token, so it doesn't listen on {bind}",
            remedy=f"leave it on {LOOPBACK} and use ssh -L {PORT}:{LOOPBACK}:{PORT} from the other machine",
        )
