"""What is wrong with a result that came: too late, of another domain than the network learnt from, or of a camera
that moved."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgetl_runtime.health import worst
from edgetl_runtime.sleep import Sleep

if TYPE_CHECKING:
    from edgetl_runtime.domain import DomainMonitor
    from edgetl_runtime.geometry.placing import Placing
    from edgetl_runtime.health import Health, State
    from edgetl_runtime.result import Result


class Judge:
    """Sets the conditions "late", "shifted" and "moved" of `health`, and gives results with the state at that moment.

    domain: looks at the embeddings; None where the bundle has no statistics. placing: knows whether the camera still
    looks where its calibration says; None without one.
    """

    def __init__(
        self, health: Health, domain: DomainMonitor | None, *, deadline_ms: float, placing: Placing | None = None
    ) -> None:
        self._health, self._domain, self._deadline_ms, self._placing = health, domain, deadline_ms, placing
        self._sleep = Sleep()

    def judged(self, result: Result, *, beside: State = "ok") -> Result:
        """The result with its shift and with the worst of its own health and `beside`, the state of what it needs.

        One of a live picture from before the machine slept is late, and its stamps say how old it is.
        """
        live = result.media_time_s is None and not result.name
        if asleep_ns := self._sleep.since(result.t_capture_ns, result.t_publish_ns) if live else 0:
            result = _older(result, asleep_ns)
            self._health.set("late", f"the machine slept for {asleep_ns / 1e9:.1f} s after the picture was taken")
        elif result.state == "late":
            self._health.set("late", f"results are older than {self._deadline_ms:g} ms when they are published")
        else:
            self._health.clear("late")
        if self._domain is not None and result.embedding is not None:
            found = self._domain.observe(result.embedding[None], t_capture_ns=result.scene_ns)
            if found.state == "shifted":
                self._health.set("shifted", "frames keep being unlike those that the network learnt from")
            else:
                self._health.clear("shifted")
            result = dataclasses.replace(result, shift=found.score.quantile)
        if self._placing is not None:
            if moved := self._placing.moved():
                self._health.set("moved", moved)
            else:
                self._health.clear("moved")
        state = self._health.state
        if beside != "ok":
            state = worst((state, beside))
        return result if state == "ok" else dataclasses.replace(result, health=state)


def _older(result: Result, by_ns: int) -> Result:
    """The result as late, captured so much earlier: before 0, where the machine slept for longer than it was awake."""
    until_ns = None if result.valid_until_ns is None else result.valid_until_ns - by_ns
    captured_ns = result.t_capture_ns - by_ns
    return dataclasses.replace(result, t_capture_ns=captured_ns, valid_until_ns=until_ns, state="late")
