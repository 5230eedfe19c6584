"""One camera's frames through one bundle: what came of them, how late, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgetl_runtime.errors import EngineError
from edgetl_runtime.health import Health
from edgetl_runtime.judge import Judge
from edgetl_runtime.ledger import STAGES, Ledger
from edgetl_runtime.pipeline import NotFinite

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.capture import Taken
    from edgetl_runtime.domain import DomainMonitor
    from edgetl_runtime.health import Condition, State
    from edgetl_runtime.pipeline import Pipeline
    from edgetl_runtime.result import Result

_STAGES = tuple(s for s in STAGES if s not in ("wait", "publish", "annotate", "total"))


class Lane:
    """Runs frames and counts them: processed + dropped + failed = those that were offered to it.

    dropped: offered and not run, or run and never handed out, because the loop ended. failing_since: the number of the
    run that the failures in a row began with, None while it works. newest: the last result that was handed out.
    """

    def __init__(self, camera: str, pipeline: Pipeline, domain: DomainMonitor | None) -> None:
        self.pipeline = pipeline
        self.health = Health(camera)
        self.ledger = Ledger(_STAGES)
        self.states: Counter[str] = Counter()
        self.processed = self.dropped = self.failed = 0
        self.failing_since: int | None = None
        self.newest: Result | None = None
        self._judge = Judge(self.health, domain, deadline_ms=pipeline.deadline_ms, placing=pipeline.placing)
        self._dropped_before = 0

    def offered(self, taken: Taken) -> None:
        """A frame is to be run; until `finish` or a failure it counts as dropped."""
        self._dropped_before += taken.dropped_before
        self.dropped += 1

    def run(self, taken: Taken, number: int, *, when_read: Callable[[], None] | None = None) -> Result:
        """What the bundle says of the frame, not yet published; when_read as of Pipeline.process. Raises EngineError,
        and counts it.
        """
        try:
            result = self.pipeline.process(taken.frame, dropped_before=self._dropped_before, when_read=when_read)
        except EngineError as error:
            self.dropped -= 1
            self.failed += 1
            self._dropped_before += 1
            condition: Condition = "not_finite" if isinstance(error, NotFinite) else "engine"
            self.health.set(condition, error.message)
            if self.failing_since is None:
                self.failing_since = number
            raise
        if self.failing_since is not None:
            self.failing_since = None
            self.health.clear("engine")
            self.health.clear("not_finite")
        self._dropped_before = 0
        return result

    def finish(self, result: Result, now_ns: int, camera: State) -> Result:
        """The result as it is handed out at `now_ns` on CLOCK; camera: its health's state."""
        self.dropped -= 1
        self.processed += 1
        result = self._judge.judged(self.pipeline.published(result, now_ns), beside=camera)
        self.states[result.state] += 1
        self.ledger.add_all(result.stages_ms)
        self.ledger.add("age", result.age_ms)
        self.newest = result
        return result

    def passed_over(self) -> None:
        """The frame that was offered is not run; later results say that it was dropped."""
        self._dropped_before += 1
