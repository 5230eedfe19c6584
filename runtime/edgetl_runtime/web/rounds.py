"""The sink that shows a running rig over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetl_runtime.rig.sinks import LaneName
from edgetl_runtime.web.shown import RunningRig

if TYPE_CHECKING:
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.web.live import LivePage


class WebRounds:
    """A RigSink that shows a rig on a page, which it closes."""

    stop = False

    def __init__(self, page: LivePage) -> None:
        self._page = page

    def begin(self, rig: Rig) -> None:
        """Show this rig."""
        self._page.show(RunningRig(rig))

    def write(self, made: Round) -> None:
        """Offer every frame to those who watch."""
        for camera, results in made.results.items():
            for bundle, result in results.items():
                self._page.offer(LaneName(camera, bundle), made.frames[camera], result)

    def event(self, event: RigEvent) -> None:
        """Events are read from snapshots."""

    def close(self) -> None:
        """End all connections and threads."""
        self._page.close()
