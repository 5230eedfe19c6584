"""Foxglove's WebSocket server on this machine, and the thread that makes its messages."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import need
from edgetl_runtime.web.access import LOOPBACK, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.foxglove.lane import FoxgloveLane

PORT = 8765
"""Where Foxglove looks first."""
LEDGER_S = 0.5
CLIENT_BACKLOG = 64
"""Messages that wait for one slow client; the server leaves older ones out."""
_POLL_S = 0.01
"""The thread looks for work by itself: woken by each result it would take the loop's core while that is publishing."""
_PAUSE_S = 0.001
"""Between two ledgers: one at a time is all that the loop's thread waits for."""
_END_S = 2.0


def open_context() -> Any:
    """The SDK's context, which its server and channels share; the server knows no channels without a reference to it.

    Raises MissingPackage.
    """
    return need("foxglove", extra="vehicle").Context()


class FoxgloveServer:
    """Listens, and tells what is handed to `lanes` and their ledgers, in a thread of its own.

    port: 0 takes any free one. bind: must be the machine's own: the SDK's server asks nobody for a token. Raises
    InputError for another address and for a port that is taken.
    """

    def __init__(
        self, context: Any, lanes: Sequence[FoxgloveLane], *, port: int = PORT, bind: str = LOOPBACK, name: str
    ) -> None:
        self._context, self._lanes = context, tuple(lanes)
        self._server = _open_server(context, port, bind, name)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="foxglove messages", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.port)

    @property
    def url(self) -> str:
        """What Foxglove's "Open connection" wants."""
        return f"ws://{LOOPBACK}:{self.port}"

    def close(self) -> None:
        """Tell what waits, then end all connections and the thread, and take the topics back; twice is fine."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(_END_S)
        for lane in self._lanes:
            lane.close()
        self._server.stop()

    def _work(self) -> None:
        ledger_s = time.monotonic()
        ending = False
        while not ending:
            ending = self._closing.wait(_POLL_S)  # what waits at the end is told once more
            ledgers = ending or time.monotonic() >= ledger_s
            if ledgers:
                ledger_s = time.monotonic() + LEDGER_S
            for lane in self._lanes:
                try:
                    lane.tell_waiting()
                    if ledgers:
                        lane.tell_ledger()
                        time.sleep(_PAUSE_S)
                except Exception as error:  # whatever it is, the run is worth more than its pictures
                    sys.stderr.write(f"edgetl foxglove: no message: {type(error).__name__}: {error}\n")


def _open_server(context: Any, port: int, bind: str, name: str) -> Any:
    """The SDK's server. Raises InputError."""
    sdk: Any = need("foxglove", extra="vehicle")
    host = resolve(bind).host
    try:
        return sdk.start_server(name=name, host=host, port=port, context=context, message_backlog_size=CLIENT_BACKLOG)
    except RuntimeError as error:
        raise InputError(
            f"Foxglove's server can't listen on port {port}: {error}", remedy="give another one, or 0 for any"
        ) from error


def check_address(bind: str, port: int) -> None:
    """Raise InputError for an address that others reach, or for what is no port."""
    if not resolve(bind).loopback:
        raise InputError(
            f"Foxglove's server asks nobody for a token, so it doesn't listen on {bind}",
            remedy=f"leave it on {LOOPBACK} and use ssh -L {PORT}:{LOOPBACK}:{PORT} from the other machine",
        )
    if not 0 <= port <= 65535:
        raise InputError(f"a port is from 0 to 65535, found {port}")
