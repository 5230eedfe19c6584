"""The engines of one run: the pair that was asked for, those of a ladder's steps, and the faults put around them.

A pair is a variant of a bundle and the engine that it runs on.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgetl_runtime.errors import EngineError, InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.health import Health
    from edgetl_runtime.inject import Injector
    from edgetl_runtime.ladder import Ladder, Policy, Step
    from edgetl_runtime.spec import EngineName, Variant

MOST_THREADS = 1024


class Engines:
    """Loads what a run asks for.

    variant, engine: None for what the manifest chose. threads: of the engine, 0: its choice, "auto": measured here and
    now, which `say` is told. engine_dir: as of load_bundle_engine. golden: whether engines are proven by a golden
    sample before they are used. injector: the faults that were asked for. picked: the variant that the run begins with.

    Raises EngineError for a pair that is not in the bundle, InputError for a number of threads that is none.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        engine: str | None = None,
        threads: int | Literal["auto"] = 0,
        engine_dir: Path | None = None,
        golden: Replay = "replay",
        injector: Injector | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._bundle, self._variant, self._engine, self._engine_dir = bundle, variant, engine, engine_dir
        self._golden, self._injector = golden, injector
        self.picked, _ = self._pair(None)
        self.ladder: Ladder | None = None
        self._name = ""
        self.threads = self._threads(threads, say)

    def first(self) -> tuple[Engine, GoldenReport | None]:
        """The engine that the run begins with, and the proof that it gives what it should."""
        return self._proven(None)

    def with_faults(self, engine: Engine) -> Engine:
        """The engine with the faults that were asked for."""
        return self._injector.engine(engine) if self._injector is not None else engine

    def again(self) -> Engine:
        """The engine that runs now, made anew, and proven as the first was."""
        return self.of_step(self.ladder.pair_of(self._name) if self.ladder is not None else None)

    def of_step(self, step: Step | None) -> Engine:
        """The engine of a ladder's step, None: the first; it is proven too before it is used."""
        engine, _ = self._proven(step)
        return self.with_faults(engine)

    def follow(self, ladder: Ladder, name: str) -> None:
        """From now on what is made `again` is of the ladder's step for the bundle of this name."""
        self.ladder, self._name = ladder, name

    def check(self, step: Step) -> None:
        """Raises EngineError for a step's pair that is not in the bundle or can't run here."""
        from edgetl_runtime.engines import available_engines

        _, name = self._pair(step)
        if name not in available_engines():
            raise EngineError(f"the ladder's step {step} needs {name}, which is not installed here")

    def _proven(self, step: Step | None) -> tuple[Engine, GoldenReport | None]:
        from edgetl_runtime.golden import load_proven

        variant = self._pair(step)[0].name
        return load_proven(self._bundle, lambda: self._load(step), self._golden, variant=variant)

    def _pair(self, step: Step | None) -> tuple[Variant, EngineName]:
        from edgetl_runtime.engines import choose

        variant = step.variant if step is not None and step.variant is not None else self._variant
        engine = step.engine if step is not None and step.engine is not None else self._engine
        return choose(self._bundle, variant=variant, engine=engine, engine_dir=self._engine_dir)

    def _threads(self, asked: int | Literal["auto"], say: Callable[[str], None]) -> int:
        if isinstance(asked, int) and 0 <= asked <= MOST_THREADS:
            return asked
        if asked != "auto":
            raise InputError(f"threads must be auto or a whole number up to {MOST_THREADS}, found {asked!r}")
        from edgetl_runtime.bench import choose_threads
        from edgetl_runtime.machine import usable_cores

        cores = usable_cores()
        counts = sorted({1, max(cores // 2, 1), cores})
        best, found = choose_threads(lambda count: self._load(None, count), counts)
        tried = ", ".join(f"{count}: {row['p50_ms']:.2f} ms" for count, row in found.items())
        say(f"threads: {best} ({tried})")
        return best

    def _load(self, step: Step | None, threads: int | None = None) -> Engine:
        from edgetl_runtime.engines import load_bundle_engine

        variant, engine = self._pair(step)
        return load_bundle_engine(
            self._bundle,
            variant=variant.name,
            engine=engine,
            threads=self.threads if threads is None else threads,
            engine_dir=self._engine_dir,
        )


def open_ladder(
    given: str | os.PathLike[str] | Policy | None,
    engines: Mapping[str, Engines],
    health: Health,
    *,
    cameras: Collection[str] = (),
) -> Ladder | None:
    """The ladder of a file or a policy. engines: by bundle, "" for a single run's; cameras: of several, their names.

    Raises InputError for its file and for names that are not there, EngineError for a pair that can't run here.
    """
    from msgspec import structs

    from edgetl_runtime.ladder import Ladder, Policy, read_policy

    if given is None:
        return None
    policy = given if isinstance(given, Policy) else read_policy(Path(given))
    steps = tuple(_placed(step, engines, cameras) for step in policy.steps)
    ladder = Ladder(structs.replace(policy, steps=steps), health, lambda name, step: engines[name].of_step(step))
    for name, each in engines.items():
        each.follow(ladder, name)
    return ladder


def _placed(step: Step, engines: Mapping[str, Engines], cameras: Collection[str]) -> Step:
    """The step with the bundle that it means, checked."""
    from msgspec import structs

    unknown = [name for name in step.cameras or () if name not in cameras]
    if unknown:
        there = f"there are {', '.join(cameras)}" if cameras else "leave it out: it is of several cameras"
        raise InputError(f"the ladder's step {step}: no camera {unknown[0]!r}", remedy=there)
    if not step.is_pair:
        return step
    names = [name for name in engines if name]
    if not step.bundle and len(engines) > 1:
        raise InputError(f"the ladder's step {step} may mean {' or '.join(names)}", remedy="add bundle: NAME to it")
    bundle = step.bundle or next(iter(engines))
    if bundle not in engines:
        there = f"there are {', '.join(names)}" if names else "leave it out: there is one bundle only"
        raise InputError(f"the ladder's step {step}: no bundle {bundle!r}", remedy=there)
    engines[bundle].check(step)
    return structs.replace(step, bundle=bundle)
