"""The sink that shows a running loop over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.web.access import LOOPBACK
from edgetl_runtime.web.live import ALIVE_S, MAX_CLIENTS, PICTURES_PER_S, READY_S, LivePage
from edgetl_runtime.web.shown import ONLY, OneLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.spec import Head


class WebSink(LivePage):
    """The live page of one camera and one bundle.

    The loop's thread never draws, encodes or waits for it: where somebody waits for a picture it hands over a reference
    to a frame, at most `pictures_per_s` times a second. heads: the manifest's; everything else as of LivePage.
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
        super().__init__(
            (ONLY,),
            {ONLY.bundle: heads},
            port=port,
            bind=bind,
            token=token,
            ready_s=ready_s,
            alive_s=alive_s,
            max_clients=max_clients,
            pictures_per_s=pictures_per_s,
        )

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Show this loop."""
        self.show(OneLoop(source))

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Offer the frame to those who watch."""
        self.offer(ONLY, frame, result)

    def event(self, event: Event) -> None:
        """Events are read from snapshots."""
