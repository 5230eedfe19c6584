"""The sink that shows a running loop in Foxglove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgetl_runtime.foxglove.lane import FoxgloveLane, left_out_note
from edgetl_runtime.foxglove.layout import LAYOUT
from edgetl_runtime.foxglove.pictures import PICTURES_PER_S, Pictures
from edgetl_runtime.foxglove.server import PORT, FoxgloveServer, check_address, open_context
from edgetl_runtime.foxglove.topics import open_image_channel
from edgetl_runtime.recording.format import wall_offset_ns
from edgetl_runtime.web.access import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head


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
        check_address(bind, port)
        context, offset_ns = open_context(), wall_offset_ns()
        image = open_image_channel(context)
        self._lane = FoxgloveLane(context, heads, offset_ns=offset_ns)
        self._server = FoxgloveServer(context, [self._lane], port=port, bind=bind, name=name)
        self._pictures = Pictures(image, offset_ns=offset_ns, per_s=pictures_per_s)

    @property
    def notes(self) -> list[str]:
        """What was not told."""
        return left_out_note([self._lane])

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """What Foxglove's "Open connection" wants."""
        return self._server.url

    def announce(self) -> None:
        """Tell on stderr where to connect and where the layout is."""
        sys.stderr.write(f"Foxglove: open the connection {self.url}, import the layout {LAYOUT}\n")

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Tell this loop's ledger."""
        self._lane.watch(source)

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Hand over what somebody has subscribed to."""
        self._pictures.offer(frame)
        self._lane.write(result, frame, None)

    def event(self, event: Event) -> None:
        """Hand over an event."""
        self._lane.event(event)

    def close(self) -> None:
        """Tell what waits, then end the server, all connections and threads; twice is fine."""
        self._pictures.close()
        self._server.close()
