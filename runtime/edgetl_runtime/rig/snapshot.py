"""All that a running rig can say of itself as a whole at one moment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetl_runtime.health import together
from edgetl_runtime.rig.summary import named_healths
from edgetl_runtime.session import rss_mb
from edgetl_runtime.snapshot import health_json, stage_times, stages_json

if TYPE_CHECKING:
    from edgetl_runtime.health import Status
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.snapshot import StageTimes


@dataclass(frozen=True, slots=True)
class RigSnapshot:
    """What is of no lane alone; times as of Snapshot.

    status: everything that holds anywhere, with where. gather_ms: how long a round waits for other cameras. stages: of
    rounds: wait, gather, skew, publish and total.
    """

    t_ns: int
    t_unix_s: float
    uptime_s: float
    turned_ns: int
    rounds: int
    gather_ms: float
    status: Status
    stages: dict[str, StageTimes]
    rss_mb: float

    @property
    def silent_s(self) -> float:
        """Since the loop last began a turn."""
        return max(self.t_ns - self.turned_ns, 0) / 1e9

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "time_unix_s": round(self.t_unix_s, 3),
            "uptime_s": round(self.uptime_s, 1),
            "silent_s": round(self.silent_s, 3),
            "rounds": self.rounds,
            "gather_ms": round(self.gather_ms, 3),
            "health": health_json(self.status, self.t_ns),
            "stages": stages_json(self.stages),
            "rss_mb": self.rss_mb,
        }


def rig_snapshot(rig: Rig) -> RigSnapshot:
    """What a rig can say of itself now; any thread may ask."""
    return RigSnapshot(
        t_ns=time.monotonic_ns(),
        t_unix_s=time.time(),
        uptime_s=rig.seconds,
        turned_ns=rig.turned_ns,
        rounds=rig.rounds,
        gather_ms=rig.gather_ms,
        status=together(named_healths(rig)),
        stages=stage_times(rig.ledger),
        rss_mb=rss_mb(),
    )
