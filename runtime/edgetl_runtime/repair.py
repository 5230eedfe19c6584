"""What a loop does about an engine that fails: try again, then load it again, and give up only after a while."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgetl_runtime.errors import EdgetlError, EngineError
from edgetl_runtime.pipeline import NotFinite
from edgetl_runtime.watch import FROZEN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgetl_runtime.engines import Engine
    from edgetl_runtime.health import Condition, Health

RELOAD_AFTER = 3
_FIRST_S, _MOST_S = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a live loop waits, in seconds: without a frame until it counts as stalled; with a camera or engine that
    does not come back until the loop ends with an error, 0 for ever; with the same picture until it counts as frozen,
    0 for ever.
    """

    stall_s: float = 0.5
    give_up_s: float = 60.0
    frozen_s: float = FROZEN_S


class EngineHolder(Protocol):
    """What an engine is exchanged in: a Pipeline, or several that share one engine."""

    @property
    def engine(self) -> Engine:
        """The engine in use."""

    def exchange(self, engine: Engine) -> None:
        """Use this one from now on; the one before is the caller's to close. Raises EngineError."""


class Repair:
    """One pipeline's engine: failures become conditions, and from the third in a row on the engine is loaded again.

    Loading again is tried at growing intervals with jitter, 5 s at the most. reload: makes the engine anew, and says
    by any error that it is not to be used; None where there is no way. rng, clock: for tests.
    """

    def __init__(
        self,
        pipeline: EngineHolder,
        health: Health,
        reload: Callable[[], Engine] | None,
        patience: Patience,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pipeline, self._health, self._reload, self._patience = pipeline, health, reload, patience
        self._rng, self._clock = rng or random.Random(), clock
        self.reloads = 0
        self._in_a_row = 0
        self._since_s = self._next_s = 0.0
        self._pause_s = _FIRST_S

    def worked(self) -> None:
        """A run gave a result."""
        if self._in_a_row:
            self._in_a_row = 0
            self._pause_s = _FIRST_S
            self._health.clear("engine")
            self._health.clear("not_finite")

    def failed(self, error: EngineError) -> None:
        """A run failed. Raises the error where all have, for as long as patience lasts."""
        now_s = self._clock()
        if not self._in_a_row:
            self._since_s = self._next_s = now_s
        self._in_a_row += 1
        condition: Condition = "not_finite" if isinstance(error, NotFinite) else "engine"
        self._health.set(condition, error.message)
        if self._patience.give_up_s and now_s - self._since_s >= self._patience.give_up_s:
            raise error
        if self._reload is not None and self._in_a_row >= RELOAD_AFTER and now_s >= self._next_s:
            self._load_again(self._reload)
            self._next_s = self._clock() + self._rng.uniform(0.5, 1.0) * self._pause_s
            self._pause_s = min(2 * self._pause_s, _MOST_S)

    def _load_again(self, reload: Callable[[], Engine]) -> None:
        self._pipeline.engine.close()
        try:
            engine = reload()
        except Exception as error:  # out of memory, a damaged bundle, or whatever an engine raises: it is tried again
            why = error.message if isinstance(error, EdgetlError) else f"{type(error).__name__} {error}".strip()
            self._health.set("engine", f"it can't be loaded again: {why}")
            return
        try:
            self._pipeline.exchange(engine)
            self.reloads += 1
        except EngineError:
            engine.close()
