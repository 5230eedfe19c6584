"""Whether an adapted network may replace the old one: no loss where labels are, and no sign of harm where none are."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LOSS = 0.005
"""What the original validation metric may lose, 0..1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one network: its metric on the original validation images, and, where the head has
    confidences, its label-free estimate on the new domain (right answers an image for boxes, accuracy for
    categories); None where there is none."""

    value: float
    estimate: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """accepted, and why in one sentence."""

    accepted: bool
    reason: str


def judge(before: Evidence, after: Evidence, *, metric: str, max_loss: float = MAX_LOSS) -> Verdict:
    """Accept what keeps the old domain's metric and is estimated to be no worse on the new one."""
    change = 100 * (after.value - before.value)
    kept = f"{metric} on the original validation images {100 * before.value:.1f} -> {100 * after.value:.1f}"
    if not change >= -100 * max_loss:  # so that no number at all is refused too
        return Verdict(False, f"refused: {kept}, more than the {100 * max_loss:.1f} points that may be lost")
    if before.estimate is None or after.estimate is None:
        return Verdict(True, f"accepted: {kept}; the new domain can't be judged without labels for this head")
    guess = f"label-free estimate on the new domain {before.estimate:.3g} -> {after.estimate:.3g}"
    if after.estimate < before.estimate:
        return Verdict(False, f"refused: {kept}, but the {guess}")
    return Verdict(True, f"accepted: {kept}; {guess}")
