"""The recorders: of one camera's results of one bundle, and of a rig's rounds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from edgetl_runtime.recording.recorder import Recorder
from edgetl_runtime.rig.round import RigEvent, Round
from edgetl_runtime.rig.sinks import LaneName, lane_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.snapshot import Snapshot


class RecordSink(Recorder):
    """A Sink: the Recorder of one camera and one bundle, each of whose results is a round."""

    needs_picture = False
    _number = 0

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Take the ledger and the count of failed frames from this loop."""
        (lane,) = self.counts.names
        self.counts.watch(lane, source)

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Queue one result with its frame; without the frame, or not at all, where too much is waiting."""
        ((camera, bundle),) = self.counts.names
        self.put(Round(self._number, {camera: frame}, {camera: {bundle: result}}, {}, {}, 0.0))
        self._number += 1

    def event(self, event: Event) -> None:
        """Queue one event, or leave it out where too much is waiting."""
        self.put_event(RigEvent(event.camera_id, None, event))


class RecordRounds(Recorder):
    """A RigSink: the Recorder of a rig."""

    def begin(self, rig: Rig) -> None:
        """Take ledgers and counts of failed frames from this rig."""
        for lane in self.counts.names:
            self.counts.watch(lane, partial(lane_snapshot, rig, LaneName(*lane)))

    def write(self, made: Round) -> None:
        """Queue one round with its frames; without the frames, or not at all, where too much is waiting."""
        self.put(made)

    def event(self, event: RigEvent) -> None:
        """Queue one event, or leave it out where too much is waiting."""
        self.put_event(event)
