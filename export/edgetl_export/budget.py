"""What a compiled network may lose, on the task's own metric, as a whole and in single classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgetl_export.parity import Infer
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Head


@dataclass(frozen=True, slots=True)
class Measured:
    """The metric of every head, and of every class of it, in 0..1; NaN where nothing was labelled. domains: the same on
    further sets of frames, by name."""

    heads: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    domains: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """One figure for several heads: the mean of those that have a value."""
        known = [v for v in self.heads.values() if math.isfinite(v)]
        return float(np.mean(known)) if known else float("nan")


Metric = Callable[[Infer], Measured]
"""Runs a network over the validation set."""


def over_domains(metric: Metric, domains: Mapping[str, Metric]) -> Metric:
    """The metric of the validation set with those of further sets of frames beside it, by name."""

    def measure(infer: Infer) -> Measured:
        return replace(metric(infer), domains={name: of(infer) for name, of in domains.items()})

    return measure if domains else metric


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok: everything lies within the budget. what: the head or class nearest to, or furthest over, its limit, with its
    domain; "" for the one head as a whole. drop, limit: how much it lost and may lose, 0..1.
    """

    ok: bool
    what: str
    drop: float
    limit: float

    @property
    def note(self) -> str:
        """For a person, in points."""
        of = self.what if self.what.startswith("on ") else f"in {self.what}"
        of = f" {of}" if self.what else ""
        return f"{0.0 - 100 * self.drop:+.2f} points{of}, budget {100 * self.limit:.2f}"


@dataclass(frozen=True, slots=True)
class Budget:
    """head: how much the metric of each head may lose. classes: how much single classes may, by label, and classes that
    are scored as one, which are `merged`. All 0..1.
    """

    head: float
    classes: Mapping[str, float] = field(default_factory=dict)
    merged: tuple[str, ...] = ()

    def check(self, heads: Sequence[Head]) -> None:
        """Raise InputError for a class that no head has."""
        labels = list(dict.fromkeys([*(label for head in heads for label in head.labels), *self.merged]))
        unknown = [name for name in self.classes if name not in labels]
        if unknown:
            raise InputError(f"--max-drop-class: no class {unknown[0]!r}", remedy=f"there are: {', '.join(labels)}")

    def unheld(self, reference: Measured) -> list[str]:
        """The classes with a budget of their own that the reference has no value of, on no set of frames."""
        sets = (reference, *reference.domains.values())
        known = {label for s in sets for of in s.classes.values() for label, v in of.items() if math.isfinite(v)}
        return [label for label in self.classes if label not in known]

    def judge(self, reference: Measured, found: Measured) -> Verdict:
        """Hold `found` against the reference.

        What had a value and has none any more lost most of all; what had none is not judged. Every domain has the same
        budget, against its own reference.
        """
        verdicts = self._verdicts(reference, found)
        for name, was in reference.domains.items():
            now = found.domains.get(name, Measured({}))
            verdicts += [replace(v, what=f"{v.what} on {name}".lstrip()) for v in self._verdicts(was, now)]
        if not verdicts:
            return Verdict(True, "", 0.0, self.head)
        return max(verdicts, key=lambda v: v.drop - v.limit)

    def _verdicts(self, reference: Measured, found: Measured) -> list[Verdict]:
        several = len(reference.heads) > 1
        limits = [
            (name if several else "", was, found.heads.get(name, math.nan), self.head)
            for name, was in reference.heads.items()
        ]
        for head, classes in reference.classes.items():
            now = found.classes.get(head, {})
            for label, was in classes.items():
                if label in self.classes:
                    limits.append((label, was, now.get(label, math.nan), self.classes[label]))
        verdicts = []
        for what, was, value, limit in limits:
            if math.isfinite(was):
                drop = was - value if math.isfinite(value) else 1.0
                verdicts.append(Verdict(drop <= limit, what, drop, limit))
        return verdicts
