"""Whether an adapted network may replace the old one: no loss where labels are, and no sign of harm where none are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_LOSS = 0.005
"""What the original validation metric may lose, 0..1."""


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
    change = 100 * (after.value - before.value)
    kept = f"{metric} on the original validation images {100 * before.value:.1f} -> {100 * after.value:.1f}"
    if not change >= -100 * max_loss:  # so that no number at all is refused too
        return Verdict(False, f"refused: {kept}, more than the {100 * max_loss:.1f} points that may be lost")
    for head, value in before.values.items():
        now = after.values.get(head, math.nan)
        if math.isfinite(value) and not 100 * (now - value) >= -100 * max_loss:
            lost = f"{head} {100 * value:.1f} -> {100 * now:.1f}"
            return Verdict(False, f"refused: {kept}, but {lost}, more than the {100 * max_loss:.1f} points allowed")
    silent = [head for head in before.estimates if head not in after.estimates]
    if silent or (before.estimate is not None and after.estimate is None):
        who = f" of {silent[0]}" if silent else ""
        return Verdict(False, f"refused: {kept}, but too few answers{who} are left on the new domain to be judged by")
    if before.estimate is None or after.estimate is None:
        return Verdict(True, f"accepted: {kept}; the new domain can't be judged without labels for this head")
    guess = f"label-free estimate on the new domain {before.estimate:.3g} -> {after.estimate:.3g}"
    if after.estimate < before.estimate:
        return Verdict(False, f"refused: {kept}, but the {guess}")
    for head, number in before.estimates.items():
        if after.estimates[head] < number:
            fell = f"{head} {number:.3g} -> {after.estimates[head]:.3g}"
            return Verdict(False, f"refused: {kept}, and {guess}, but {fell}")
    return Verdict(True, f"accepted: {kept}; {guess}")
