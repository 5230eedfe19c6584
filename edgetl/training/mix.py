"""Weights between the probe's and the fine-tuned ones, taken where validation agrees (arXiv:2109.01903)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

SHARES = (0.5, 0.7, 0.85)
"""Shares of the fine-tuned weights that are tried."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """state: the weights, None where no mixture is as good as the fine-tuned ones. share: of the fine-tuned."""

    state: dict[str, Tensor] | None
    share: float
    value: float


def best_mixture(
    probe: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    tuned_value: float,
    score: Callable[[dict[str, Tensor]], float],
) -> Mixed:
    """The mixture with the best score, if it is at least `tuned_value`; a tie goes to the mixture.

    Mixtures lie nearer to what was learnt from many images, which helps on domains that validation does not show.
    """
    best = Mixed(None, 1.0, tuned_value)
    for share in SHARES:
        state = mixture(probe, tuned, share)
        value = score(state)
        if value > best.value or (value == best.value and best.state is None):
            best = Mixed(state, share, value)
    return best


def mixture(probe: Mapping[str, Tensor], tuned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """probe + share * (tuned - probe) for floating tensors, the tuned value for counters."""
    return {
        key: probe[key].lerp(value, share) if value.dtype.is_floating_point else value.clone()
        for key, value in tuned.items()
    }
