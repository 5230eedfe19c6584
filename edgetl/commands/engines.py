"""The engines of one run: the pair that was asked for, those of the ladder's steps, and the faults put around them."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from edgetl.commands.arguments import AUTO
from edgetl_runtime.errors import EngineError

if TYPE_CHECKING:
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
        return self.with_faults(self._load(self.ladder.pair if self.ladder is not None else None))

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

    def open_ladder(self, health: Health) -> Ladder | None:
        """The ladder that was asked for. Raises InputError for its file, EngineError for a pair that can't run here."""
        from edgetl_runtime.engines import available_engines
        from edgetl_runtime.ladder import Ladder, read_policy

        if self._args.ladder is None:
            return None
        policy = read_policy(self._args.ladder)
        for step in policy.steps:
            if step.variant is None and step.engine is None:
                continue
            _, name = self._pair(step)
            if name not in available_engines():
                raise EngineError(f"the ladder's step {step} needs {name}, which is not installed here")
        self.ladder = Ladder(policy, health, self.of_step)
        return self.ladder

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
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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


def proof_line(golden: GoldenReport | None) -> str:
    """What the start-up check found, for a person."""
    if golden is None:
        return "golden samples NOT replayed (--skip-golden)"
    return (
        f"golden samples: {golden.compared} replayed in {golden.ms:.0f} ms, worst relative error "
        f"{golden.worst_rel_error:.1e}, allowed {golden.tolerance:.0e}"
    )
