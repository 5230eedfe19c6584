"""The engines of one run: the pair that was asked for, those of the ladder's steps, and the faults put around them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from edgetl.commands.arguments import AUTO
from edgetl_runtime.errors import EngineError, InputError
from edgetl_runtime.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport, Replay
    from edgetl_runtime.health import Health
    from edgetl_runtime.inject import Injector
    from edgetl_runtime.ladder import Ladder, Step
    from edgetl_runtime.spec import EngineName, Variant


class Engines:
    """Loads what a run asks for. Raises EngineError for a pair that is not in the bundle."""

    def __init__(self, args: argparse.Namespace, bundle: Bundle, injector: Injector | None) -> None:
        self._args, self._bundle, self._injector = args, bundle, injector
        self._replay: Replay = "skip" if args.skip_golden else "replay"
        self.picked, _ = self._pair(None)
        self.ladder: Ladder | None = None
        self._name = ""
        self.threads = self._threads(args.threads)

    def first(self) -> tuple[Engine, GoldenReport | None]:
        """The engine that the run begins with, and the proof that it gives what it should."""
        from edgetl_runtime.golden import start_check

        engine = self._load(None)
        return engine, start_check(self._bundle, engine, self._replay)

    def with_faults(self, engine: Engine) -> Engine:
        """The engine with the faults that were asked for."""
        return self._injector.engine(engine) if self._injector is not None else engine

    def again(self) -> Engine:
        """The engine that should be running now, made anew."""
        return self.with_faults(self._load(self.ladder.pair_of(self._name) if self.ladder is not None else None))

    def of_step(self, step: Step | None) -> Engine:
        """The engine of a ladder's step, None: the first; it is proven too before it is used."""
        from edgetl_runtime.golden import start_check

        engine = self._load(step)
        try:
            start_check(self._bundle, engine, self._replay)
        except BaseException:
            engine.close()
            raise
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

    def _pair(self, step: Step | None) -> tuple[Variant, EngineName]:
        from edgetl_runtime.engines import choose

        args = self._args
        variant = step.variant if step is not None and step.variant is not None else args.variant
        engine = step.engine if step is not None and step.engine is not None else args.engine
        return choose(self._bundle, variant=variant, engine=engine, engine_dir=args.engine_dir)

    def _threads(self, asked: int) -> int:
        """What was asked for; with `auto` the number that is fastest on this machine, told on stderr."""
        from edgetl_runtime.bench import choose_threads

        if asked != AUTO:
            return asked
        cores = usable_cores()
        counts = sorted({1, max(cores // 2, 1), cores})
        best, found = choose_threads(lambda count: self._load(None, count), counts)
        tried = ", ".join(f"{count}: {row['p50_ms']:.2f} ms" for count, row in found.items())
        sys.stderr.write(f"threads: {best} ({tried})\n")
        return best

    def _load(self, step: Step | None, threads: int | None = None) -> Engine:
        from edgetl_runtime.engines import load_bundle_engine

        variant, engine = self._pair(step)
        return load_bundle_engine(
            self._bundle,
            variant=variant.name,
            engine=engine,
            threads=self.threads if threads is None else threads,
            engine_dir=self._args.engine_dir,
        )


def open_ladder(
    path: Path | None, engines: Mapping[str, Engines], health: Health, *, cameras: Collection[str] = ()
) -> Ladder | None:
    """The ladder of a file. engines: by bundle, "" for a single run's; cameras: of several, their names.

    Raises InputError for its file and for names that are not there, EngineError for a pair that can't run here.
    """
    from msgspec import structs

    from edgetl_runtime.ladder import Ladder, read_policy

    if path is None:
        return None
    policy = read_policy(path)
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


def proof_line(golden: GoldenReport | None) -> str:
    """What the start-up check found, for a person."""
    if golden is None:
        return "golden samples NOT replayed (--skip-golden)"
    return (
        f"golden samples: {golden.compared} replayed in {golden.ms:.0f} ms, worst relative error "
        f"{golden.worst_rel_error:.1e}, allowed {golden.tolerance:.0e}"
    )
