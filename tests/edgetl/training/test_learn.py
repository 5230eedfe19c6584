"""One step: losses in balance, checked gradients, and what a step may change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgetl.data import Dataset, MaskLayer
from edgetl.heads import heads_for, kinds_of, network_of
from edgetl.models.backbone import build_backbone
from edgetl.models.network import Network, Outputs
from edgetl.training.batches import Batch
from edgetl.training.learn import (
    BALANCE_MEMORY,
    GRADIENT_LIMIT,
    Balance,
    LossNotFinite,
    apply_step,
    head_losses,
    train_step,
)
from edgetl.training.optimise import rate_at

pytestmark = pytest.mark.usefixtures("one_thread")
DATA = Dataset("d", (), (), ("day", "night"), (MaskLayer("ground", ("other", "road")),))
KINDS = kinds_of(heads_for(DATA, ("segment", "classify"), mask_stride=4), DATA)


def losses(**values: float) -> dict[str, Tensor]:
    return {k: torch.tensor(v, requires_grad=True) for k, v in values.items()}


def test_one_loss_stays_as_it_is() -> None:
    one = losses(detect=7.0)
    assert Balance()(one) is one["detect"]


def test_a_large_loss_does_not_drown_a_small_one() -> None:
    """Each is divided by its own mean: after many steps of the same losses both weigh alike."""
    balance = Balance()
    for _ in range(30):
        found = losses(large=100.0, small=0.01)
        total = balance(found)
        total.backward()
    assert total.item() == pytest.approx(2)
    grads = {k: v.grad.item() * v.item() for k, v in found.items() if v.grad is not None}
    assert grads["large"] == pytest.approx(grads["small"]) == pytest.approx(1)


def test_the_means_run_after_the_losses() -> None:
    balance, mean = Balance(), 4.0
    balance(losses(a=4.0, b=1.0))
    for value in (2.0, 8.0, 1.0):
        mean = BALANCE_MEMORY * mean + (1 - BALANCE_MEMORY) * value
        total = balance(losses(a=value, b=1.0)).item()
        assert balance.means["a"] == pytest.approx(mean)
        assert total == pytest.approx(value / mean + 1)


def test_a_batch_without_labels_for_a_head_moves_no_mean() -> None:
    """Its loss is exactly 0; counted, the next real loss of that head would weigh fifty times too much."""
    balance = Balance()
    balance(losses(a=2.0, b=0.0))
    assert balance(losses(a=2.0, b=3.0)).item() == pytest.approx(2)
    for _ in range(200):
        balance(losses(a=2.0, b=0.0))
    assert balance.means == {"a": pytest.approx(2), "b": pytest.approx(3)}


def test_a_loss_that_is_not_finite_spoils_no_mean() -> None:
    balance = Balance()
    balance(losses(a=2.0, b=1.0))
    assert math.isnan(balance(losses(a=math.nan, b=1.0)).item())
    assert balance.means["a"] == 2.0


def outputs(seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randn(1, 2, 4, 4, generator=generator, requires_grad=True)
    category = torch.randn(1, 2, generator=generator, requires_grad=True)
    return Outputs({"ground": mask, "classify": category}, torch.zeros(1, 8))


TARGETS = {"ground": (torch.zeros(1, 4, 4, dtype=torch.uint8),), "classify": (torch.tensor([1]),)}


def test_a_heads_loss_is_the_sum_of_its_parts() -> None:
    found, parts = head_losses(outputs(0), TARGETS, KINDS)
    assert set(found) == {"ground", "classify"}
    assert set(parts) == {"ground_mask", "ground_dice", "classify_category"}
    assert found["ground"].item() == pytest.approx(parts["ground_mask"] + parts["ground_dice"])


def test_a_teacher_adds_its_part_as_asked() -> None:
    plain, _ = head_losses(outputs(0), TARGETS, KINDS)
    twice, parts = head_losses(outputs(0), TARGETS, KINDS, teacher=outputs(1), imitation=2.0)
    once, part = head_losses(outputs(0), TARGETS, KINDS, teacher=outputs(1), imitation=1.0)
    assert parts["ground_imitation"] == pytest.approx(2 * part["ground_imitation"]) and part["ground_imitation"] > 0
    for name, loss in plain.items():
        assert twice[name].item() - loss.item() == pytest.approx(2 * (once[name].item() - loss.item()), rel=1e-4)
    same, _ = head_losses(outputs(0), TARGETS, KINDS, teacher=outputs(0), imitation=5.0)
    assert same["ground"].item() == pytest.approx(plain["ground"].item(), abs=1e-5)


def step_on(value: Tensor) -> tuple[torch.nn.Parameter, float]:
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    apply_step((weight * value).sum(), optimiser, [weight], step=3, names=("a.png", "b.png"))
    return weight, float((weight.detach() - 1).norm())


def test_a_step_goes_down_and_long_ones_are_clipped() -> None:
    weight, length = step_on(torch.tensor([0.25, 0.0]))
    assert weight.tolist() == [0.75, 1.0] and length == pytest.approx(0.25)
    assert step_on(torch.tensor([3e4, 4e4]))[1] == pytest.approx(GRADIENT_LIMIT, rel=1e-3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_names_the_batch(value: float) -> None:
    with pytest.raises(LossNotFinite, match=rf"the loss is {value} at step 3 on the batch a\.png, b\.png"):
        step_on(torch.tensor([value, 1.0]))


class Free(torch.nn.Module):
    """What it says of any frames is what it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.mask, self.category = (torch.nn.Parameter(t) for t in (torch.zeros(1, 2, 4, 4), torch.zeros(1, 2)))

    def forward(self, x: Tensor, targets: object) -> Outputs:
        assert x.shape == (1, 3, 16, 16)
        return Outputs({"ground": self.mask, "classify": self.category}, torch.zeros(1, 8))


def test_every_step_has_the_rate_of_its_number() -> None:
    """Of 40 steps five warm up; then the rate falls to two percent."""
    learning, balance = Free(), Balance()
    optimiser = torch.optim.SGD([{"params": list(learning.parameters()), "lr": 1.0, "base_lr": 0.5}])
    normalise = torch.nn.Module()
    normalise.forward = lambda frames: frames.permute(0, 3, 1, 2).float()  # type: ignore[method-assign]
    batch = Batch(torch.zeros(1, 16, 16, 3, dtype=torch.uint8), TARGETS, ("a.png",))
    rates = []
    for step in (0, 4, 5, 22, 39):
        loss, parts = train_step(learning, batch, KINDS, normalise, optimiser, balance, step=step, steps=40)
        assert math.isfinite(loss) and parts
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5 * rate_at(step, 40, warmup=5) for step in (0, 4, 5, 22, 39)])
    assert rates[0] == pytest.approx(0.1) and rates[2] == pytest.approx(0.5) and rates[4] < 0.02


def test_every_head_teaches_the_shared_layers() -> None:
    torch.manual_seed(0)
    model: Network = network_of(build_backbone("resnet18", "none"), KINDS)
    stem = next(model.backbone.parameters())
    for name in ("ground", "classify"):
        model.zero_grad(set_to_none=True)
        targets = {"ground": (torch.zeros(2, 16, 24, dtype=torch.uint8),), "classify": (torch.tensor([1, 0]),)}
        found, _ = head_losses(model(torch.randn(2, 3, 64, 96)), targets, KINDS)
        found[name].backward()
        assert stem.grad is not None and stem.grad.abs().sum() > 0
