"""The sender of a rig: objects of several cameras and bundles, and the worst state of all that they depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.can.lane import CanLane
from edgetl_runtime.health import worst
from edgetl_runtime.rig.sinks import LaneName, lane_healths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgetl_runtime.can.sink import CanSender
    from edgetl_runtime.health import State
    from edgetl_runtime.ladder import Ladder
    from edgetl_runtime.result import Result
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent, Round
    from edgetl_runtime.spec import DetectHead


@dataclass(slots=True)
class RigLanes:
    """The lanes of a rig whose objects are sent: these cameras' with these bundles, by name.

    heads: of each bundle, the one whose boxes are sent. ladder: which cameras it leaves out is asked in every cycle.
    rig: None until it begins; until then nothing is current.
    """

    cameras: Sequence[str]
    heads: Mapping[str, DetectHead]
    ladder: Ladder | None = None
    rig: Rig | None = None
    names: list[LaneName] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [LaneName(camera, bundle) for camera in self.cameras for bundle in self.heads]

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label of any bundle once; what is sent as an object's class is an index into these."""
        return tuple(dict.fromkeys(label for head in self.heads.values() for label in head.labels))

    def lanes(self) -> list[CanLane]:
        """What a CanSender wants."""
        return [self._lane(name) for name in self.names]

    def _lane(self, name: LaneName) -> CanLane:
        head, labels = self.heads[name.bundle], self.labels
        return CanLane(
            head.name,
            partial(self._state, name),
            partial(self._kept, name.camera),
            name.camera,
            np.array([labels.index(label) for label in head.labels], np.int64),
        )

    def _kept(self, camera: str) -> bool:
        return self.ladder is None or self.ladder.keeps(camera)

    def _state(self, name: LaneName) -> State:
        return "stale" if self.rig is None else worst(health.state for health in lane_healths(self.rig, name))


class CanRounds:
    """A RigSink: hands the newest results of a rig's lanes to a sender, which it owns."""

    stop = False

    def __init__(self, lanes: RigLanes, open_sender: Callable[[Sequence[CanLane]], CanSender]) -> None:
        self._lanes = lanes
        self._newest: list[Result | None] = [None] * len(lanes.names)
        self.sender = open_sender(lanes.lanes())

    @property
    def notes(self) -> list[str]:
        """What is not as it was asked for."""
        return self.sender.notes

    def begin(self, rig: Rig) -> None:
        """From now on the state is this rig's."""
        self._lanes.rig = rig

    def write(self, made: Round) -> None:
        """Send this round's objects from the next cycle on, beside the newest of cameras that are not in it."""
        for i, name in enumerate(self._lanes.names):
            self._newest[i] = made.results.get(name.camera, {}).get(name.bundle) or self._newest[i]
        self.sender.show(self._newest)

    def event(self, event: RigEvent) -> None:
        """The state is read from the rig in every cycle."""

    def close(self) -> None:
        """Send one last cycle that says so, and let go of the bus; twice is fine."""
        self.sender.close()
