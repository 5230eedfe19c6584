"""Optimiser, learning-rate schedule and averaged weights of a fine-tuning run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgetl.models.backbone import STRIDES
from edgetl.models.detr import DetrNetwork
from edgetl.models.network import Network
from edgetl.training.config import TuneConfig

if TYPE_CHECKING:
    from collections.abc import Iterable


PROBE_SIDE = 128
"""Side of the blank image that shows which parameters lead to which features; Inception needs more than 75."""
LEVELS = 8
"""Learning rates fall towards the input in this many equal shares of the backbone's depth."""


def parameter_groups(model: Network, config: TuneConfig, *, transfer: bool) -> list[dict[str, Any]]:
    """Parameter groups with a `base_lr`: the head's rate, and rates falling towards the input for a
    pretrained backbone. Without transfer every parameter learns at the head's rate. Biases and norms are
    not decayed. A network may learn at a share of all these rates.
    """
    share = model.rate_share if isinstance(model, DetrNetwork) else 1.0
    rated = [(p, config.head_lr) for m in model.new_parts() for p in m.parameters()]
    backbone = list(model.backbone.parameters())
    for i, parameter in enumerate(backbone):
        quarters_earlier = 4 * (1 - (i * LEVELS // len(backbone) + 1) / LEVELS)
        rated.append(
            (parameter, config.backbone_lr * config.depth_decay**quarters_earlier if transfer else config.head_lr)
        )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter, rate in rated:
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate * share, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def rate_at(step: int, steps: int, *, warmup: int) -> float:
    """Share of the base rate: linear warm-up, then a cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to this share of its base rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * share


class Average:
    """An exponential moving average of weights and buffers, young averages following faster."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if value.dtype.is_floating_point:
                    self.state[key].lerp_(value, share)
                else:
                    self.state[key].copy_(value)


def blocks_of(backbone: nn.Module) -> dict[int, list[nn.Parameter]]:
    """The backbone's parameters by the stride of the first features that depend on them."""
    parameters = list(backbone.parameters())
    asked = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(True)
    blocks: dict[int, list[nn.Parameter]] = {}
    known: set[int] = set()
    features = backbone(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=parameters[0].device))
    for stride, feature in zip(STRIDES, features, strict=True):
        grads = torch.autograd.grad(feature.sum(), parameters, retain_graph=True, allow_unused=True)
        found = [i for i, g in enumerate(grads) if g is not None and i not in known]
        blocks[stride] = [parameters[i] for i in found]
        known.update(found)
    for p, was in zip(parameters, asked, strict=True):
        p.requires_grad_(was)
    return blocks


def train_only(backbone: nn.Module, strides: Iterable[int]) -> None:
    """Let only those parameters of the backbone learn that first lead to the features of these strides."""
    wanted = set(strides)
    for stride, parameters in blocks_of(backbone).items():
        for parameter in parameters:
            parameter.requires_grad_(stride in wanted)


def freeze_first(backbone: nn.Module, stride: int) -> None:
    """Let the layers up to the features of this stride keep their weights, and all others learn."""
    train_only(backbone, [s for s in blocks_of(backbone) if s > stride])


def freeze_statistics(modules: Iterable[nn.Module], *, learnt: bool = False) -> None:
    """Put batch norms into eval mode, so that small batches do not spoil pretrained statistics.

    learnt: only those whose weights are frozen too.
    """
    for module in modules:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(learnt and any(p.requires_grad for p in module.parameters()))
