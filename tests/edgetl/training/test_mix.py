"""Weights between two networks: taken only where validation agrees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgetl.training.mix import SHARES, best_mixture, mixture

PROBE = {"w": torch.tensor([0.0, 10.0]), "count": torch.tensor(3)}
TUNED = {"w": torch.tensor([1.0, 0.0]), "count": torch.tensor(7)}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mixture_lies_on_the_line(share: float) -> None:
    found = mixture(PROBE, TUNED, share)
    torch.testing.assert_close(found["w"], torch.tensor([share, 10 * (1 - share)]))
    assert found["count"] == 7
    found["w"] += 1
    found["count"] += 1
    assert TUNED["w"].tolist() == [1, 0] and PROBE["w"].tolist() == [0, 10] and TUNED["count"] == 7


def score_of(values: dict[float, float]) -> tuple[list[float], object]:
    asked: list[float] = []

    def score(state: dict[str, Tensor]) -> float:
        share = round(float(state["w"][0]), 4)
        asked.append(share)
        return values.get(share, 0.0)

    return asked, score


@pytest.mark.parametrize(
    ("values", "share", "value"),
    [
        ({}, 1.0, 0.5),
        ({0.5: 0.49, 0.7: 0.49, 0.85: 0.49}, 1.0, 0.5),
        ({0.7: 0.6}, 0.7, 0.6),
        ({0.5: 0.6, 0.7: 0.7, 0.85: 0.65}, 0.7, 0.7),
        ({0.85: 0.5}, 0.85, 0.5),
        ({0.5: 0.5, 0.85: 0.5}, 0.5, 0.5),
        ({0.5: float("nan")}, 1.0, 0.5),
    ],
    ids=["all worse", "a little worse", "one better", "the best", "a tie", "two ties", "nothing measured"],
)
def test_the_mixture_is_taken_where_it_is_as_good(values: dict[float, float], share: float, value: float) -> None:
    asked, score = score_of(values)
    found = best_mixture(PROBE, TUNED, 0.5, score)  # type: ignore[arg-type]
    assert asked == list(SHARES)
    assert (found.share, found.value) == (share, value)
    if share == 1.0:
        assert found.state is None
    else:
        assert found.state is not None and found.state["w"][0].item() == pytest.approx(share)
