"""All that a running loop can say of itself at one moment, for pages, metrics and probes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from edgetl_runtime.health import MEANS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgetl_runtime.health import Event, Status
    from edgetl_runtime.ledger import Bars, Ledger
    from edgetl_runtime.result import Result

LONG_S, SHORT_S = 60, 10
"""The windows that a snapshot tells beside the whole run."""


@dataclass(frozen=True, slots=True)
class StageTimes:
    """How long one stage took: percentiles, max_ms and count of the whole run and of both windows; the sum of the
    whole run; the long window as bars."""

    run: dict[str, float]
    long: dict[str, float]
    short: dict[str, float]
    sum_ms: float
    bars: Bars


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy that no thread changes.

    t_ns, turned_ns (when the loop last began a turn) and the stamps in events are on CLOCK; t_unix_s is the same
    moment as t_ns on the clock on the wall. lost: frames that the camera itself skipped. newest: the last result, None
    before the first.
    """

    t_ns: int
    t_unix_s: float
    uptime_s: float
    turned_ns: int
    bundle: str
    engine: str
    precision: str
    camera_id: str
    captured: int
    processed: int
    dropped: int
    failed: int
    lost: int
    states: dict[str, int]
    newest: Result | None
    status: Status
    events: list[Event]
    stages: dict[str, StageTimes]
    rss_mb: float

    @property
    def silent_s(self) -> float:
        """Since the loop last began a turn."""
        return max(self.t_ns - self.turned_ns, 0) / 1e9

    @property
    def since_publish_s(self) -> float | None:
        """Since the newest result was published; None before the first."""
        return None if self.newest is None else max(self.t_ns - self.newest.t_publish_ns, 0) / 1e9

    @property
    def since_capture_s(self) -> float | None:
        """Since the newest result's frame was captured: how old what is known is now. None before the first."""
        return None if self.newest is None else max(self.t_ns - self.newest.t_capture_ns, 0) / 1e9

    def as_json(self) -> dict[str, Any]:
        """Plain values, times as distances from now; events newest first."""
        return {
            "time_unix_s": round(self.t_unix_s, 3),
            "uptime_s": round(self.uptime_s, 1),
            "silent_s": round(self.silent_s, 3),
            "since_capture_s": _rounded(self.since_capture_s),
            "since_publish_s": _rounded(self.since_publish_s),
            "bundle": self.bundle,
            "engine": self.engine,
            "precision": self.precision,
            "camera_id": self.camera_id,
            "captured": self.captured,
            "processed": self.processed,
            "dropped": self.dropped,
            "failed": self.failed,
            "lost": self.lost,
            "states": self.states,
            "health": health_json(self.status, self.t_ns),
            "events": [self._event(e) for e in reversed(self.events)],
            "stages": stages_json(self.stages),
            "rss_mb": self.rss_mb,
        }

    def _event(self, event: Event) -> dict[str, Any]:
        ago_s = max(self.t_ns - event.t_ns, 0) / 1e9
        told = {"ago_s": round(ago_s, 1), "time_unix_s": round(self.t_unix_s - ago_s, 3)}
        return told | {name: getattr(event, name) for name in ("condition", "began", "state", "detail")}


def health_json(status: Status, t_ns: int) -> dict[str, Any]:
    """The state, for how long until t_ns on CLOCK, the conditions that hold and how often each began."""
    conditions = [{"condition": c, "state": MEANS[c], "detail": d} for c, d in status.conditions.items()]
    for_s = round(max(t_ns - status.since_ns, 0) / 1e9, 1)
    return {"state": status.state, "for_s": for_s, "conditions": conditions, "counts": status.counts}


def stages_json(stages: Mapping[str, StageTimes]) -> dict[str, Any]:
    """By stage: both windows, the run, and the long window's bars."""
    return {
        name: {f"last_{LONG_S}_s": t.long, f"last_{SHORT_S}_s": t.short, "run": t.run, "bars": asdict(t.bars)}
        for name, t in stages.items()
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


@runtime_checkable
class Watcher(Protocol):
    """A sink that wants more than results: it is handed the loop's snapshots when the loop starts."""

    def watch(self, source: Callable[[], Snapshot]) -> None:
        """Ask `source` whenever a snapshot is wanted, from any thread; it stays valid after the loop's end."""


def stage_times(ledger: Ledger) -> dict[str, StageTimes]:
    """Of every stage that ran."""
    return {
        name: StageTimes(h.snapshot(), h.window(LONG_S), h.window(SHORT_S), h.sum_ms, h.bars(LONG_S))
        for name, h in ledger.histograms.items()
        if h.count
    }
