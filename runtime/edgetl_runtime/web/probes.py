"""What an orchestrator asks: does it live, and may its results be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgetl_runtime.health import MEANS

if TYPE_CHECKING:
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.snapshot import Snapshot
    from edgetl_runtime.web.shown import Shown

STARTING = "starting: the loop has not begun"


class Turning(Protocol):
    """What says since when a loop has been silent: a Snapshot, or a RigSnapshot."""

    @property
    def silent_s(self) -> float:
        """Since it last began a turn."""


def dead_because(snapshot: Turning | None, within_s: float) -> str:
    """Why the loop counts as hung, in one line; empty where it has turned within `within_s`."""
    if snapshot is None:
        return STARTING
    if snapshot.silent_s > within_s:
        return f"the loop has not turned for {snapshot.silent_s:.1f} s, {within_s:g} s are allowed"
    return ""


def unready_because(snapshot: Snapshot | None, deadline_s: float) -> str:
    """Why results can't be used now, in one line; empty where one that was fresh was published within `deadline_s`
    and the state is ok or degraded."""
    if snapshot is None:
        return STARTING
    status, newest, since_s = snapshot.status, snapshot.newest, snapshot.since_publish_s
    if status.state in {"stale", "fault"}:
        causes = [f"{c} ({d})" for c, d in status.conditions.items() if MEANS[c] == status.state]
        return f"{status.state}: {', '.join(causes)}"
    if newest is None or since_s is None:
        return "no result yet"
    if since_s > deadline_s:
        return f"the newest result was published {since_s:.1f} s ago, {deadline_s:g} s are allowed"
    if newest.state != "fresh":
        return f"the newest result was {newest.state} at publish, {newest.age_ms:.0f} ms old"
    return ""


def any_unready_because(shown: Shown | None, deadline_s: float) -> str:
    """The same of every lane that is wanted, with the names of those that can't be used where there are several."""
    if shown is None:
        return STARTING
    wanted = shown.wanted()
    reasons = {name: unready_because(shown.snapshot(name, brief=True), deadline_s) for name in wanted}
    return told_together(reasons) if shown.whole() is not None else "".join(reasons.values())


def told_together(reasons: dict[LaneName, str]) -> str:
    """One line: each reason with the lanes that it is of, as camera/bundle; empty reasons are none."""
    lanes: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if reason:
            lanes.setdefault(reason, []).append(f"{name.camera}/{name.bundle}")
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in lanes.items())
