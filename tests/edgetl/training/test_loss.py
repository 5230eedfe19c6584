"""The detector's losses by hand: what a centre, its surroundings, silence and a box's place cost."""

from __future__ import annotations

import pytest
import torch

from edgetl.models.detector import Maps, box_map_to_xyxy
from edgetl.training.loss import BOX_WEIGHT, BatchTargets, centre_focal_loss, detection_loss, giou_loss


def cells(*values: float) -> torch.Tensor:
    """(1, 1, 1, N)"""
    return torch.tensor(values).view(1, 1, 1, -1)


def focal(p: list[float], target: list[float], quiet: list[float]) -> float:
    return centre_focal_loss(torch.logit(cells(*p)), cells(*target), cells(*quiet)[0]).item()


def test_a_centre_costs_what_is_missing_and_its_surroundings_little() -> None:
    """Equation 1 with alpha 2 and beta 4, over the number of centres."""
    centre, off, near = (-torch.tensor(p).log().item() * (1 - p) ** 2 for p in (0.7, 0.8, 0.6))
    assert focal([0.7], [1], [1]) == pytest.approx(centre)
    assert focal([0.7, 0.2], [1, 0], [1, 1]) == pytest.approx(centre + off), "0.2 of what should be 0, as 0.8 of 1"
    assert focal([0.7, 0.4], [1, 0.5], [1, 1]) == pytest.approx(centre + near * 0.5**4)
    assert focal([0.7, 0.7, 0.2], [1, 1, 0], [1, 1, 1]) == pytest.approx(centre + off / 2)
    assert focal([0.2], [0], [1]) == pytest.approx(off), "no centre counts as one"


def test_quiet_cells_cost_nothing_but_a_centre_in_them_does() -> None:
    assert focal([0.7, 0.9], [1, 0], [1, 0]) == focal([0.7], [1], [1])
    assert focal([0.7], [1], [0]) == focal([0.7], [1], [1])


def boxes(*rows: list[float]) -> torch.Tensor:
    """(1, 4, 1, N)"""
    return torch.tensor(rows, dtype=torch.float32).T.reshape(1, 4, 1, -1)


@pytest.mark.parametrize(
    ("found", "wanted", "loss"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 0.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 1 - 2 / 6),
        ([0, 0, 1, 1], [3, 0, 4, 1], 1 + 2 / 4),
        ([0, 0, 1, 1], [1, 1, 2, 2], 1 + 2 / 4),
    ],
    ids=["the same", "half over", "apart", "corner to corner"],
)
def test_one_minus_giou(found: list[float], wanted: list[float], loss: float) -> None:
    assert giou_loss(boxes(found), boxes(wanted), torch.ones(1, 1, 1)).item() == pytest.approx(loss)


def test_boxes_count_by_their_weight_and_not_without() -> None:
    found = boxes([0, 0, 2, 2], [0, 0, 1, 1], [5, 5, 9, 9])
    wanted = boxes([1, 0, 3, 2], [3, 0, 4, 1], [0, 0, 1, 1])
    loss = giou_loss(found, wanted, torch.tensor([1.0, 3.0, 0.0]).view(1, 1, 3))
    assert loss.item() == pytest.approx((2 / 3 + 3 * 1.5) / 4)
    free = found.clone().requires_grad_()
    none = giou_loss(free, wanted, torch.zeros(1, 1, 3))
    none.backward()
    assert none.item() == 0 and free.grad is not None and not free.grad.any()


def test_both_losses_weigh_as_stated() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = Maps(torch.randn(1, 2, 3, 4, generator=generator), torch.randn(1, 4, 3, 4, generator=generator))
    heat, box = torch.rand(1, 2, 3, 4, generator=generator), torch.tensor([0.0, 0, 9, 9]).view(1, 4, 1, 1)
    targets = BatchTargets(heat, box.expand(1, 4, 3, 4), torch.ones(1, 3, 4), torch.ones(1, 3, 4))
    found = detection_loss(maps, targets)
    assert found["heat"] == centre_focal_loss(maps.heat, heat, targets.quiet)
    assert found["box"] == BOX_WEIGHT * giou_loss(box_map_to_xyxy(maps.box), targets.box, targets.weight)
    assert BOX_WEIGHT == 5
