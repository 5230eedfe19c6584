"""The sink that shows a running loop over HTTP."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.web.access import LOOPBACK, Gate, resolve
from edgetl_runtime.web.pictures import Pictures
from edgetl_runtime.web.server import Server
from edgetl_runtime.web.site import LiveSite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head

MAX_CLIENTS = 16
PICTURES_PER_S = 10.0
READY_S = 1.0
ALIVE_S = 10.0


class WebSink:
    """A live page at `/`, and frame.jpg, stream.mjpg, status.json, metrics, healthz and readyz beside it.

    It listens from the start on and says "starting" until the loop begins. The loop's thread never draws, encodes or
    waits for it: where somebody waits for a picture it hands over a reference to a frame, at most `pictures_per_s`
    times a second.

    heads: the manifest's. port: 0 takes any free one, see `port`. bind: a name or number of an address; one that is
    not the machine's own needs a token, `token` or a new one, see `url`. ready_s: a fresh result must not be older for
    /readyz. alive_s: the loop must have turned within it for /healthz. Raises InputError for a port that is taken, an
    address that is not there, a token that is too short; MissingPackage without OpenCV.
    """

    needs_picture = False  # it draws for itself, elsewhere
    stop = False

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        port: int = 0,
        bind: str = LOOPBACK,
        token: str | None = None,
        ready_s: float = READY_S,
        alive_s: float = ALIVE_S,
        max_clients: int = MAX_CLIENTS,
        pictures_per_s: float = PICTURES_PER_S,
    ) -> None:
        if not 0 <= port <= 65535:
            raise InputError(f"a port is from 0 to 65535, found {port}")
        address = resolve(bind)
        gate = Gate(address, token)
        self._pictures = Pictures(heads, per_s=pictures_per_s)
        self._site = LiveSite(heads, self._pictures, gate, ready_s=ready_s, alive_s=alive_s)
        self._server = Server(address, port, self._site, max_clients=max_clients)
        self._site.cookie_name = f"edgetl_{self._server.port}"
        self._address, self._gate, self._token_given = address, gate, token is not None
        self._pictures.start()
        self._server.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """Where the page is; with the token where one is asked for."""
        return self._address.url(self.port) + (f"?token={self._gate.token}" if self._gate.token else "")

    def announce(self) -> None:
        """Tell on stderr where the page is, and what to know about an address that others reach."""
        shown = f"{self._address.url(self.port)} (asks for the token that was given)" if self._token_given else self.url
        sys.stderr.write(f"live page: {shown}\n")  # logs are read by more people than may look
        if not self._address.loopback:
            sys.stderr.write(
                f"  {self._address.host} is open to the network and not encrypted: whoever reads the traffic sees "
                "pictures and token; use it in a network that you trust, or 127.0.0.1 through ssh -L\n"
            )

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Show this loop."""
        self._site.source = source

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Offer the frame to those who watch."""
        self._pictures.offer(frame, result)

    def event(self, event: Event) -> None:
        """Events are read from snapshots."""

    def close(self) -> None:
        """End all connections and threads, within a second; twice is fine."""
        self._pictures.close()
        self._server.stop()
