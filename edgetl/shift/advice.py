"""Plain advice from measured distances. Every threshold stands here, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgetl.shift.accuracy import AccuracyEstimate
from edgetl.shift.distances import Interval, KernelDistance

Amount = Literal["none", "slight", "clear", "large"]
Origin = Literal["early", "late", "unknown"]
AdviceKind = Literal["none", "collect", "label", "adapt", "tune-early", "tune-late"]

SIGNIFICANT = 0.01
"""A shift counts once chance gives it in fewer than 1 of 100 comparisons, over all levels together."""
CLEAR_RATIO = 1.05
"""Nearest neighbours 5 % further off. Splits of one domain stayed within 1.01 (250 day frames of other cameras)."""
LARGE_RATIO = 1.25
"""Beyond this images have hardly a counterpart in the reference: night after day came to 1.4, fog to 1.14."""
EARLY_SHARE = 0.8
"""A shift of the input stands in the first levels already: early over late levels, each in units of its own null,
came to 0.85 to 1.3 for night, fog and another camera, and to 0.7 for other objects in the same pictures."""
FEW_IMAGES = 50
"""Below this the null is so wide that only a large shift can be seen."""
LABEL_SHARE = 0.2
LABEL_AT_LEAST, LABEL_AT_MOST = 20, 200
"""How many of the new images to label first: a fifth of them, within what one person labels in a day."""
ACCURACY_DROP = 0.05
"""Five points less by both estimates is worth labels even where features look alike."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far one level of features moved."""

    name: str
    kernel: KernelDistance
    neighbours: Interval


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do and why."""

    kind: AdviceKind
    text: str


def amount_of(levels: Sequence[Level]) -> Amount:
    """How large the shift is: by the smallest p-value, corrected for the number of levels, and the largest ratio."""
    if min(level.kernel.p_value for level in levels) * len(levels) >= SIGNIFICANT:
        return "none"
    ratio = max(level.neighbours.value for level in levels)
    if ratio < CLEAR_RATIO:
        return "slight"
    return "large" if ratio >= LARGE_RATIO else "clear"


def in_nulls(level: Level) -> float:
    """The kernel distance in units of what chance reaches in 1 of 20 draws; comparable between levels."""
    return max(level.kernel.value.value, 0.0) / max(level.kernel.null, 1e-12)


def origin_of(levels: Sequence[Level]) -> Origin:
    """Whether the shift is there from the first levels on (the input changed) or grows towards the last ones.

    levels: finest first, without the embedding. What to tune then follows Lee et al. 2023, "Surgical fine-tuning"
    (arXiv:2210.11466): early blocks for a shift of the input, late ones for a shift of what is shown.
    """
    if len(levels) < 2:
        return "unknown"
    half = len(levels) // 2
    early = sum(in_nulls(level) for level in levels[:half]) / half
    late = sum(in_nulls(level) for level in levels[-half:]) / half
    if early == late == 0:
        return "unknown"
    return "early" if early >= EARLY_SHARE * late else "late"


def label_count(images: int) -> int:
    """How many of `images` to label first."""
    return min(images, max(LABEL_AT_LEAST, min(LABEL_AT_MOST, round(LABEL_SHARE * images))))


def advise(
    amount: Amount, origin: Origin, *, images: int, new: int, first: int, estimates: Sequence[AccuracyEstimate] = ()
) -> tuple[Advice, ...]:
    """What to do, most useful first.

    images: the smaller side's number. new: how many images there are to label. first: how many label_first names.
    """
    advice: list[Advice] = []
    worse = [e for e in estimates if max(e.estimate.high, e.by_mean) < e.on_reference - ACCURACY_DROP]
    if amount == "none" and not worse:
        advice.append(Advice("none", "Nothing to do: this data looks like the reference."))
    if amount == "slight" and not worse:
        advice.append(
            Advice(
                "none",
                "The difference is real but small: images have close neighbours in the reference. "
                "Check the metric on a few labelled images before changing anything.",
            )
        )
    if amount in {"clear", "large"}:
        advice += _for_shift(amount, origin, first)
    for e in worse:
        advice.append(
            Advice(
                "label",
                f"The {e.measure} of {e.head} is probably {_range(e)} % here, against "
                f"{100 * e.on_reference:.0f} % on labelled images: label {label_count(new)} images and measure it.",
            )
        )
    if images < FEW_IMAGES:
        advice.append(
            Advice("collect", f"{images} images see only large shifts: give at least {FEW_IMAGES} on each side.")
        )
    return tuple(advice)


def _for_shift(amount: Amount, origin: Origin, first: int) -> list[Advice]:
    advice = [
        Advice(
            "label",
            f"Label the {first} images of label_first (page, --json) and tune with them: they cover what the "
            "reference lacks.",
        )
    ]
    if origin == "early":
        advice += [
            Advice(
                "adapt",
                "Without labels: edgetl adapt. The shift stands in the first levels already, so light, weather, "
                "camera or noise changed, which statistics of the new frames can follow.",
            ),
            Advice(
                "tune-early",
                "With few labels: edgetl tune --recipe surgical --surgical-strides 4,8, which keeps the late blocks.",
            ),
        ]
    elif origin == "late":
        advice.append(
            Advice(
                "tune-late",
                "The shift grows towards the last levels, so other things are shown rather than shown otherwise: "
                "edgetl tune --recipe surgical --surgical-strides 32, with labels; statistics alone will not help.",
            )
        )
    elif amount == "large":
        advice.append(Advice("adapt", "Without labels: edgetl adapt."))
    return advice


def _range(e: AccuracyEstimate) -> str:
    low, high = sorted(round(100 * v) for v in (e.estimate.value, e.by_mean))
    return f"{low} to {high}" if low < high else str(low)
