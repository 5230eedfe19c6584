"""A run out of a store: it notices that another slot became current, and judges one that is on probation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from edgetl_runtime.errors import BundleError, EdgetlError, EngineError, UnfitBundle
from edgetl_runtime.service.unit import RESTART
from edgetl_runtime.update.pointer import POINTER_NAME, Trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.health import Event
    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.update.store import Start, Store

FAULTS = ("engine", "not_finite", "stopped")
"""The conditions that a bundle brings about; a camera that is gone says nothing of it."""
LATE_S = 10.0
"""Results that have been late for so long count as a fault."""
LOOK_S = 1.0
_GAP_S = 1.0
"""Healthy results further apart than this say nothing of the time between them."""


def of_the_bundle(error: BaseException | None) -> bool:
    """Whether a bundle may have brought about the error that ends its run: it is not whole, its engine does not load or
    run, it lacks what the run asks of it, or something broke that nobody expected. A camera, an output, a calibration
    and the flags are not its own, nor is a disk or a network that refuses.
    """
    if isinstance(error, EdgetlError):
        return isinstance(error, (BundleError, EngineError, UnfitBundle))
    return isinstance(error, Exception) and not isinstance(error, OSError)


class StoreSink:
    """Counts healthy time and faults of the slot that runs, commits it or goes back, and ends the run where another
    slot is to run: `stop` then, and `exit_status` RESTART for whoever starts it again.

    A fault that begins is written to the pointer at once, and taken out when it is over, so that a run which is killed
    meanwhile, by the watchdog or the power, is taken back at the next start. Beside another run of the slot, which is
    the one that counts, this one judges nothing. clock: seconds.
    """

    needs_picture = False

    def __init__(
        self,
        store: Store,
        start: Start,
        *,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = False
        self.exit_status = 0
        self.slot = start.pointer.current
        self._store, self._say, self._clock = store, say, clock
        self._held = start.held
        self._trial: Trial | None = start.pointer.trial if start.held is not None else None
        self._began_s = self._looked_s = clock()
        self._healthy_s = 0.0
        self._last_s: float | None = None
        self._late_s: float | None = None
        self._faults = 0
        self._holding: dict[str, str] = {}
        self._seen = self._stamp()

    @property
    def stop(self) -> bool:
        """Whether the run should end; what the store says is looked up once a second, whether results come or not."""
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_S and not self._stop:
            self._looked_s = now_s
            self._look()
        return self._stop

    @property
    def notes(self) -> list[str]:
        """How the slot stands at the end."""
        if self._trial is None:
            return []
        trial = self._standing(self._trial)
        return [f"{self.slot} is on probation: {trial.healthy_s:.0f} of {trial.probation_s:g} s of healthy results"]

    def write(self, result: Result, frame: Frame, picture: NDArray[np.uint8] | None) -> None:
        """Take one result."""
        now_s = self._clock()
        if self._trial is not None and not self._stop:
            self._count(result, self._trial, now_s)

    def event(self, event: Event) -> None:
        """Take what began or ended."""
        if self._trial is None or self._stop or event.condition not in FAULTS:
            return
        if event.began:
            self._faults += 1
            self._holding[event.condition] = event.detail
        else:
            self._holding.pop(event.condition, None)
        if self._faults >= self._trial.max_faults:
            self._go_back(f"{self._faults} faults in one run, the last: {event.condition} ({event.detail})")
            return
        fault = ", ".join(f"{name} ({detail})" for name, detail in self._holding.items())
        self._trial = msgspec.structs.replace(self._trial, fault=" ".join(fault.split())[:300])
        self._judge(self._trial)

    def close(self) -> None:
        """Nothing: how the whole run ends is for `ended`."""

    def ended(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """The run is over, as an ExitStack tells it. Only an error that the bundle may have brought about makes it a
        failed start; the time that it ran well counts at the next one too."""
        if self._trial is not None and not self._stop:
            trial = self._standing(self._trial)
            if not self._holding and not of_the_bundle(value):
                trial = msgspec.structs.replace(trial, starts=max(trial.starts - 1, 0))
            self._judge(trial)
        if self._held is not None:
            self._held.release()

    def _count(self, result: Result, trial: Trial, now_s: float) -> None:
        healthy = result.state == "fresh" and result.health in ("ok", "degraded")
        if healthy and self._last_s is not None:
            self._healthy_s += min(now_s - self._last_s, _GAP_S)
        self._last_s = now_s if healthy else None
        if result.state != "late":
            self._late_s = None
        elif self._late_s is None:
            self._late_s = now_s
        elif now_s - self._late_s >= LATE_S:
            self._go_back(f"results were late for {now_s - self._late_s:.0f} s")
            return
        if trial.healthy_s + self._healthy_s >= trial.probation_s and not self._holding:
            self._judge(self._standing(trial))
            self._say(f"{self.slot} ran well for {trial.probation_s:g} s and is committed")
            self._trial = None

    def _standing(self, trial: Trial) -> Trial:
        """The trial with what this run adds to it."""
        ran_s = trial.running_s + self._clock() - self._began_s
        return msgspec.structs.replace(trial, healthy_s=trial.healthy_s + self._healthy_s, running_s=ran_s)

    def _judge(self, trial: Trial) -> None:
        """Write it down; a disk that takes nothing costs the probation, not the run."""
        try:
            self._store.judge(self.slot, trial)
        except EdgetlError as error:
            self._say(f"probation can't be written down: {error.message}")
        except OSError as error:
            self._say(f"probation can't be written down: {error}")

    def _go_back(self, why: str) -> None:
        try:
            pointer = self._store.roll_back(why, only=self.slot)
        except EdgetlError as error:
            self._say(f"{self.slot} failed ({why}), and there is no way back: {error.message}")
            self._trial = None
            return
        self._restart(f"{self.slot} failed: {why}; back to {pointer.current if pointer else 'another slot'}")

    def _look(self) -> None:
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            pointer = self._store.pointer()
        except EdgetlError:
            return
        if pointer is not None and pointer.current != self.slot:
            self._restart(f"{pointer.current} became current in {self._store.folder}")

    def _restart(self, why: str) -> None:
        self._say(f"{why}; the run ends with status {RESTART} to be started again")
        self._stop, self.exit_status = True, RESTART

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._store.folder / POINTER_NAME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
