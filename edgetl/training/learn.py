"""One training step: the heads' losses balanced and summed, gradients checked, clipped and applied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgetl.heads import Kind
from edgetl.models.network import Outputs
from edgetl.training.batches import Batch
from edgetl.training.optimise import rate_at, set_rate
from edgetl_runtime.errors import EdgetlError

GRADIENT_LIMIT = 10.0
BALANCE_MEMORY = 0.98


class LossNotFinite(EdgetlError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""

    code = "loss"
    exit_status = 1


class Balance:
    """Sums the losses of several heads, each divided by its own running mean, so that none drowns another.

    This follows the gradient of the geometric mean of the losses (arXiv:1904.08492). One head's loss stays as it is.
    """

    def __init__(self) -> None:
        self.means: dict[str, float] = {}

    def __call__(self, losses: dict[str, Tensor]) -> Tensor:
        """The scalar to minimise, from one scalar for each head."""
        if len(losses) == 1:
            return next(iter(losses.values()))
        for name, loss in losses.items():
            value = float(loss.detach())
            if math.isfinite(value) and value > 0:  # exactly 0: the batch has no labels for this head
                self.means[name] = BALANCE_MEMORY * self.means.get(name, value) + (1 - BALANCE_MEMORY) * value
        return torch.stack([loss / max(self.means.get(name, 1.0), 1e-4) for name, loss in losses.items()]).sum()


def head_losses(
    outputs: Outputs,
    targets: dict[str, tuple[Tensor, ...]],
    kinds: Sequence[Kind],
    *,
    teacher: Outputs | None = None,
    imitation: float = 0.0,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The loss of every head, and the parts of all of them as figures for the log."""
    losses: dict[str, Tensor] = {}
    parts: dict[str, float] = {}
    for kind in kinds:
        name = kind.head.name
        each = kind.loss(outputs.heads[name], targets[name])
        if teacher is not None:
            each["imitation"] = imitation * kind.imitate(outputs.heads[name], teacher.heads[name])
        losses[name] = torch.stack(list(each.values())).sum()
        parts |= {f"{name}_{part}": float(v.detach()) for part, v in each.items()}
    return losses, parts


def train_step(
    learning: nn.Module,
    batch: Batch,
    kinds: Sequence[Kind],
    normalise: nn.Module,
    optimiser: torch.optim.Optimizer,
    balance: Balance,
    *,
    step: int,
    steps: int,
    teacher: nn.Module | None = None,
    imitation: float = 0.0,
) -> tuple[float, dict[str, float]]:
    """Step number `step` of `steps` at its rate; the total loss, and its parts for the log.

    learning: the network in training, bare or wrapped. Raises LossNotFinite before any weight is touched.
    """
    set_rate(optimiser, rate_at(step, steps, warmup=min(60, steps // 10 + 1)))
    x = normalise(batch.frames).contiguous(memory_format=torch.channels_last)
    example = None
    if teacher is not None:
        with torch.no_grad():
            example = teacher(x)
    outputs = learning(x, batch.targets)
    losses, figures = head_losses(outputs, batch.targets, kinds, teacher=example, imitation=imitation)
    total = balance(losses)
    parameters = [p for p in learning.parameters() if p.requires_grad]
    apply_step(total, optimiser, parameters, step=step, names=batch.names)
    return total.item(), figures


def apply_step(
    total: Tensor, optimiser: torch.optim.Optimizer, parameters: list[Any], *, step: int, names: tuple[str, ...]
) -> None:
    """Backward and update. Raises LossNotFinite that names the batch before any weight is touched."""
    if not math.isfinite(total.item()):
        raise _not_finite("loss", total.item(), step, names)
    optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_LIMIT)
    if not math.isfinite(norm.item()):
        raise _not_finite("gradient", norm.item(), step, names)
    optimiser.step()


def _not_finite(what: str, value: float, step: int, names: tuple[str, ...]) -> LossNotFinite:
    return LossNotFinite(
        f"the {what} is {value} at step {step} on the batch {', '.join(names)}",
        remedy="the last good checkpoint is kept; look at these images, or lower --backbone-lr and --head-lr",
    )
