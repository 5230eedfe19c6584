"""The server of a live page, from before the loop begins until after its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.web.access import LOOPBACK, Gate, resolve
from edgetl_runtime.web.pictures import Pictures
from edgetl_runtime.web.server import Server
from edgetl_runtime.web.site import LiveSite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.spec import Head
    from edgetl_runtime.web.shown import Shown

MAX_CLIENTS = 16
PICTURES_PER_S = 10.0
READY_S = 1.0
ALIVE_S = 10.0


class LivePage:
    """A live page at `/`, and frame.jpg, frames, stream.mjpg, status.json, metrics, healthz and readyz beside it.

    It listens from the start on and says "starting" until it is told to `show` something.

    lanes: all that there will be. heads: the manifests', by bundle. port: 0 takes any free one, see `port`. bind: a
    name or number of an address; one that is not the machine's own needs a token, `token` or a new one, see `url`.
    ready_s: a fresh result must not be older for /readyz. alive_s: the loop must have turned within it for /healthz.
    pictures_per_s: of one lane; all together as of Pictures. Raises InputError for a port that is taken, an address
    that is not there, a token that is too short; MissingPackage without OpenCV.
    """

    def __init__(
        self,
        lanes: Sequence[LaneName],
        heads: Mapping[str, Sequence[Head]],
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
        self._site = LiveSite(lanes, heads, self._pictures, gate, ready_s=ready_s, alive_s=alive_s)
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

    def show(self, shown: Shown) -> None:
        """The loop begins."""
        self._site.shown = shown

    def offer(self, name: LaneName, frame: Frame, result: Result) -> None:
        """Offer a lane's newest frame to those who watch it. Never waits, draws or encodes."""
        self._pictures.offer(name, frame, result)

    def close(self) -> None:
        """End all connections and threads, within a second; twice is fine."""
        self._pictures.close()
        self._server.stop()
