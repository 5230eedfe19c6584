"""Whether an adapted network may replace the old one: no loss where labels are, and no sign of harm where none are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_LOSS = 0.005
"""What the original validation metric may lose, 0..1."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one network: its metric on the original validation images, and, where the head has
    confidences, its label-free estimate on the new domain (right answers an image for boxes, accuracy for
    categories); None where there is none. Of several heads these are means; values and estimates: of each."""

    value: float
    estimate: float | None
    values: Mapping[str, float] = field(default_factory=dict)
    estimates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """accepted, and why in one sentence."""

    accepted: bool
    reason: str


def judge(before: Evidence, after: Evidence, *, metric: str, max_loss: float = MAX_LOSS) -> Verdict:
    """Accept what keeps the old domain's metric and is estimated to be no worse on the new one, each head by itself.

    What can no longer be estimated, because the network says too little of the new domain, counts as worse.
    """
    kept = f"{metric} on the original validation images {100 * before.value:.1f} -> {100 * after.value:.1f}"
    harm = _lost(before, after, max_loss) or _harmed(before, after)
    if harm:
        return Verdict(False, f"refused: {kept}, {harm}")
    if before.estimate is None or after.estimate is None:
        blind = "the new domain can't be judged without labels: too few answers with a confidence"
        return Verdict(True, f"accepted: {kept}; {blind}")
    return Verdict(True, f"accepted: {kept}; {_guess(before.estimate, after.estimate)}")


def _lost(before: Evidence, after: Evidence, max_loss: float) -> str:
    """What of the original metric is lost beyond what may be, empty where nothing is."""
    limit = f"more than the {100 * max_loss:.1f} points that may be lost"
    if not _within(before.value, after.value, max_loss):
        return limit
    for head, value in before.values.items():
        now = after.values.get(head, math.nan)
        if math.isfinite(value) and not _within(value, now, max_loss):
            return f"but {head} {100 * value:.1f} -> {100 * now:.1f}, {limit}"
    return ""


def _within(before: float, after: float, max_loss: float) -> bool:
    """False also for no number at all. One image of 200 is half a point, though 0.895 - 0.9 is a little more."""
    return after - before >= -max_loss - ROUNDING


def _harmed(before: Evidence, after: Evidence) -> str:
    """What got worse on the new domain, empty where nothing did."""
    silent = [head for head in before.estimates if head not in after.estimates]
    if silent or (before.estimate is not None and after.estimate is None):
        return f"but too few answers{f' of {silent[0]}' if silent else ''} are left on the new domain to be judged by"
    if before.estimate is not None and after.estimate is not None and after.estimate < before.estimate:
        return f"but the {_guess(before.estimate, after.estimate)}"
    for head, number in before.estimates.items():
        if after.estimates[head] < number:
            return f"but the {_guess(number, after.estimates[head])} for {head}"
    return ""


def _guess(before: float, after: float) -> str:
    return f"label-free estimate on the new domain {before:.3g} -> {after:.3g}"
