"""What a page shows: one loop, or every lane of a rig."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgetl_runtime.rig.sinks import LaneName, lane_snapshot
from edgetl_runtime.rig.snapshot import RigSnapshot, rig_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.snapshot import Snapshot

ONLY = LaneName("main", "")
"""The one lane of a loop that is no rig."""


class Shown(Protocol):
    """Something that runs. Any thread may ask, after its end too."""

    def wanted(self) -> Collection[LaneName]:
        """The lanes whose results are waited for."""

    def snapshot(self, name: LaneName, *, brief: bool = False) -> Snapshot:
        """What can be said of one lane now. brief: events and stages are not needed."""

    def whole(self) -> RigSnapshot | None:
        """What is of no lane alone; None where one lane is all."""


class OneLoop:
    """A loop of one camera and one bundle, by its snapshots."""

    def __init__(self, source: Callable[[], Snapshot]) -> None:
        self._source = source

    def wanted(self) -> Collection[LaneName]:
        """The one."""
        return (ONLY,)

    def snapshot(self, name: LaneName, *, brief: bool = False) -> Snapshot:
        """The loop's."""
        return self._source()

    def whole(self) -> RigSnapshot | None:
        """The snapshot says it all."""
        return None


class RunningRig:
    """A rig."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def wanted(self) -> Collection[LaneName]:
        """Those of all cameras but the ones that the ladder leaves out."""
        kept = [camera for camera in self._rig.seats if self._rig.keeps(camera)]
        return [LaneName(camera, bundle) for camera in kept for bundle in self._rig.networks]

    def snapshot(self, name: LaneName, *, brief: bool = False) -> Snapshot:
        """The lane's."""
        return lane_snapshot(self._rig, name, brief=brief)

    def whole(self) -> RigSnapshot | None:
        """The rig's."""
        return rig_snapshot(self._rig)
