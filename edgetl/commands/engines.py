"""The engines that the flags of `edgetl run` ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edgetl.commands.arguments import AUTO, say
from edgetl_runtime import pairs
from edgetl_runtime.pairs import open_ladder

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.golden import GoldenReport
    from edgetl_runtime.inject import Injector

__all__ = ["Engines", "open_ladder", "proof_line"]


class Engines(pairs.Engines):
    """Those of one bundle; how many threads were measured to be the fastest is told on stderr."""

    def __init__(self, args: argparse.Namespace, bundle: Bundle, injector: Injector | None) -> None:
        super().__init__(
            bundle,
            variant=args.variant,
            engine=args.engine,
            threads="auto" if args.threads == AUTO else args.threads,
            engine_dir=args.engine_dir,
            golden="skip" if args.skip_golden else "replay",
            injector=injector,
            say=say,
        )


def proof_line(golden: GoldenReport | None) -> str:
    """What the start-up check found, for a person."""
    if golden is None:
        return "golden samples NOT replayed (--skip-golden)"
    return (
        f"golden samples: {golden.compared} replayed in {golden.ms:.0f} ms, worst relative error "
        f"{golden.worst_rel_error:.1e}, allowed {golden.tolerance:.0e}"
    )
