"""Successive halving: short fine-tunes of the best few, the better half goes on with twice the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Trial = Callable[[str, int], float]
"""A candidate's name and a number of training steps to the task's metric on the validation images."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One round. values: the metric of each candidate that was in it, after `steps` training steps."""

    steps: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Halving:
    """order: all candidates, best first: those that got further, then by the metric of their last round."""

    order: tuple[str, ...]
    rungs: tuple[Rung, ...]


def halve(candidates: Sequence[str], trial: Trial, *, steps: int) -> Halving:
    """Try all for `steps`, the better half (rounded up) for twice as long, until two have been compared.

    candidates: best guess first, which decides between equal values. Jamieson and Talwalkar, arXiv:1502.07943.
    A value that is not finite counts as the worst.
    """
    going, out = list(candidates), list[str]()
    rungs: list[Rung] = []
    while len(going) > 1:
        values = {name: trial(name, steps) for name in going}
        rungs.append(Rung(steps, values))
        ranked = sorted(going, key=lambda n: (-_finite(values[n]), going.index(n)))
        kept = 1 if len(ranked) == 2 else math.ceil(len(ranked) / 2)
        out = ranked[kept:] + out
        going = ranked[:kept]
        steps *= 2
    return Halving(tuple(going + out), tuple(rungs))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
