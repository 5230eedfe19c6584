"""Degradation that is declared: what is given up first, what then, and when it is taken back.

A ladder is a small YAML file, from the first thing that is given up to the last:

    deadline_ms: 100          # results older than this at publish count as late
    down_after_s: 1           # late for most of so long: one step down
    up_after_s: 10            # on time for so long: one step up; longer after each step up that did not hold
    steps:
      - {skip: 2}             # every second frame only
      - {variant: int8}       # another variant of the bundle; engine: where it should run; bundle: of several
      - {cameras: [front]}    # these cameras only, of several
      - {stop: true}          # safe stop: no results at all until the run is started again

A step keeps what the steps before it gave up. Each change is an event of the condition "ladder" and says why.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Annotated

import msgspec

from edgetl_runtime.errors import EdgetlError, EngineError, InputError
from edgetl_runtime.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edgetl_runtime.engines import Engine
    from edgetl_runtime.health import Condition, Health
    from edgetl_runtime.repair import EngineHolder

MAX_BYTES = 65536
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
_MOST_WAIT_S = 600.0
_LATE_SHARE = 0.5
_SILENT_S = 1.0
"""No frame for longer than this is neither on time nor late."""


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to give up: skip (use every so-manyth frame, of several cameras round), variant and engine (run this
    pair, of several bundles that of `bundle`), cameras (use these only), or stop.
    """

    skip: Annotated[int, msgspec.Meta(ge=2, le=1000)] | None = None
    variant: str | None = None
    engine: str | None = None
    bundle: str = ""
    cameras: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        if (self.skip is not None) + self.is_pair + (self.cameras is not None) + self.stop != 1:
            raise ValueError(
                "a step is one of {skip: N}, {variant: NAME, engine: NAME}, {cameras: [NAME]} and {stop: true}"
            )
        if self.bundle and not self.is_pair:
            raise ValueError("bundle says whose variant or engine a step means")

    @property
    def is_pair(self) -> bool:
        """Whether it says which variant or engine to run."""
        return self.variant is not None or self.engine is not None

    def __str__(self) -> str:
        """For people."""
        if self.stop:
            return "safe stop"
        if self.skip is not None:
            return f"one frame in {self.skip}"
        if self.cameras is not None:
            return f"{', '.join(self.cameras)} only"
        of = f" of {self.bundle}" if self.bundle else ""
        return f"{self.variant or 'the chosen variant'}{of}" + (f" on {self.engine}" if self.engine else "")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ladder's file; times in seconds. See the module's docstring."""

    deadline_ms: Annotated[float, msgspec.Meta(gt=0, le=60000)]
    steps: Annotated[tuple[Step, ...], msgspec.Meta(min_length=1, max_length=16)]
    down_after_s: _Seconds = 1.0
    up_after_s: _Seconds = 10.0

    def __post_init__(self) -> None:
        if any(step.stop for step in self.steps[:-1]):
            raise ValueError("stop must be the last step")


def read_policy(path: Path) -> Policy:
    """A ladder from a YAML file. Raises InputError that says what is wrong in it, MissingPackage without PyYAML."""
    document = read_yaml(path, what="the ladder", max_bytes=MAX_BYTES)
    try:
        return msgspec.convert(document, Policy)
    except msgspec.ValidationError as error:
        raise InputError(f"the ladder {path} is not valid: {error}", remedy="see edgetl_runtime/ladder.py") from error


class Ladder:
    """Goes down a policy's steps while results are late, and up again when they are not.

    load: makes the engine of a bundle for a step, None: the one that it began with, in a thread of its own; until it
    is there, and `exchange` puts it in place, the one before runs on. A step whose engine can't be loaded counts as
    taken, says so, and the next one follows where results stay late. Bundles are known by the names that steps call
    them, which may be "" for one alone.
    """

    def __init__(
        self,
        policy: Policy,
        health: Health,
        load: Callable[[str, Step | None], Engine],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy, self.at = policy, 0
        self.skipped = self.changes = 0
        self._health, self._load, self._clock = health, load, clock
        self._late = self._seen = self._offered = 0
        self._window_s = self._good_since_s = self._awake_s = clock()
        self._went_up_s: float | None = None
        self._wait_s = policy.up_after_s
        self._loading: threading.Thread | None = None
        self._loading_of = ""
        self._loading_step: Step | None = None
        self._loaded: Engine | None = None
        self._failed = ""
        self._runs: dict[str, Step | None] = {}

    @property
    def stopped(self) -> bool:
        """Whether the safe stop is in force."""
        return self.at > 0 and self.policy.steps[self.at - 1].stop

    def takes(self) -> bool:
        """Whether the next frame is to be used."""
        self._awake()
        self._offered += 1
        skips = [s.skip for s in self.policy.steps[: self.at] if s.skip is not None]
        use = not self.stopped and (not skips or self._offered % skips[-1] == 0)
        self.skipped += not use
        return use

    def keeps(self, camera: str) -> bool:
        """Whether this camera is used."""
        kept = [s.cameras for s in self.policy.steps[: self.at] if s.cameras is not None]
        return not kept or camera in kept[-1]

    def observe(self, age_ms: float) -> None:
        """Take note of one result's age, and change a step when due."""
        now_s = self._awake_s = self._clock()
        late = age_ms > self.policy.deadline_ms
        self._late += late
        self._seen += 1
        if late:
            self._good_since_s = now_s
        if now_s - self._window_s >= self.policy.down_after_s:
            mostly_late = self._late > _LATE_SHARE * self._seen
            self._window_s, self._late, self._seen = now_s, 0, 0
            if mostly_late and self.at < len(self.policy.steps) and self._loading is None:
                held = self._went_up_s is None or now_s - self._went_up_s >= self._wait_s
                self._wait_s = self.policy.up_after_s if held else min(2 * self._wait_s, _MOST_WAIT_S)
                self._go(self.at + 1, f"results are later than {self.policy.deadline_ms:g} ms")
                return
        if self.at and now_s - self._good_since_s >= self._wait_s and self._loading is None:
            self._went_up_s = now_s
            self._go(self.at - 1, f"on time for {self._wait_s:g} s")

    def _awake(self) -> None:
        """Let no time have passed while no camera gave anything."""
        now_s = self._clock()
        silent_s, self._awake_s = now_s - self._awake_s, now_s
        if silent_s <= _SILENT_S:
            return
        self._window_s += silent_s
        self._good_since_s += silent_s
        if self._went_up_s is not None:
            self._went_up_s += silent_s

    def _go(self, at: int, why: str) -> None:
        changed = self.policy.steps[max(at, self.at) - 1]
        self.at = at
        self.changes += 1
        now_s = self._clock()
        self._window_s = self._good_since_s = now_s
        self._late = self._seen = 0
        self._health.clear("ladder")
        self._health.clear("stopped")
        if at:
            step = self.policy.steps[at - 1]
            condition: Condition = "stopped" if step.stop else "ladder"
            self._health.set(condition, f"step {at} of {len(self.policy.steps)}, {step}: {why}")
        if changed.is_pair:
            self._begin(changed.bundle)

    def pair_of(self, bundle: str) -> Step | None:
        """The step that says which variant and engine of a bundle run now; None: those that the run began with.

        A step whose engine is still being loaded, or can't be, says nothing.
        """
        return self._runs.get(bundle)

    def again(self, bundle: str = "") -> Engine:
        """The engine of a bundle that runs now, made anew. Raises what `load` does."""
        return self._load(bundle, self.pair_of(bundle))

    def _begin(self, bundle: str) -> None:
        pairs = [s for s in self.policy.steps[: self.at] if s.is_pair and s.bundle == bundle]
        self._loading_of, self._loading_step, self._failed = bundle, pairs[-1] if pairs else None, ""
        self._loading = threading.Thread(target=self._work, name="ladder", daemon=True)
        self._loading.start()

    def _work(self) -> None:
        try:
            self._loaded = self._load(self._loading_of, self._loading_step)
        except EdgetlError as error:
            self._failed = error.message
        except Exception as error:  # out of memory, or whatever an engine raises: the one before runs on
            self._failed = f"{type(error).__name__} {error}".strip()

    def exchange(self, running: Mapping[str, EngineHolder]) -> None:
        """Put the engine of a step in place where it has been loaded; before each frame, as the engine before it may
        give no results any more. running: what runs now, by bundle.
        """
        if self._loading is None or self._loading.is_alive():
            return
        self._loading = None
        engine, self._loaded = self._loaded, None
        if engine is not None:
            holder = running[self._loading_of]
            before = holder.engine
            try:
                holder.exchange(engine)
                self._runs[self._loading_of] = self._loading_step
                before.close()
            except EngineError as error:
                engine.close()
                self._failed, engine = error.message, None
        if engine is None:
            self._health.clear("ladder")
            self._health.set("ladder", f"step {self.at} of {len(self.policy.steps)} can't be taken: {self._failed}")
        self._window_s, self._late, self._seen = self._clock(), 0, 0

    def close(self) -> None:
        """Wait for an engine that is being loaded, and let go of it."""
        if self._loading is not None:
            self._loading.join()
            if self._loaded is not None:
                self._loaded.close()
                self._loaded = None
