"""Batch-norm re-estimation that works on folded networks too: every convolution's output gets its old statistics back.

A batch norm in training mode subtracts the new domain's mean and divides by its deviation (arXiv:1603.04779,
arXiv:2006.16971). Once it is folded into the convolution before it, the same is done to the convolution: on the new
domain its output is moved and scaled, channel by channel, to the mean and deviation it had on the old one, and the
layers after it are measured with that already done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST = 1e-3
"""Channels that hardly vary on one of the domains are left as they are."""


@dataclass(slots=True)
class Moments:
    """Running mean and mean square of a convolution's output by channel, (C,) each, over `weight` cells."""

    mean: Tensor
    square: Tensor
    weight: float = 0.0

    def add(self, output: Tensor) -> None:
        """Count one batch (B, C, H, W)."""
        cells = float(output.shape[0] * output.shape[2] * output.shape[3])
        share = cells / (self.weight + cells)
        self.mean.lerp_(output.mean((0, 2, 3)), share)
        self.square.lerp_((output * output).mean((0, 2, 3)), share)
        self.weight += cells

    @property
    def deviation(self) -> Tensor:
        """(C,) standard deviation."""
        return (self.square - self.mean**2).clamp(min=0).sqrt()


def output_moments(
    network: nn.Module, batches: Iterable[Tensor], target: dict[str, Moments] | None = None
) -> dict[str, Moments]:
    """Moments of the output of every convolution that was normalised, over these batches of frames (B, 3, H, W).

    With `target`, each output is brought to those moments before the next layer sees it, by the batch's own.
    """
    found: dict[str, Moments] = {}

    def hook_of(name: str) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            channels = output.shape[1]
            if name not in found:
                found[name] = Moments(output.new_zeros(channels), output.new_zeros(channels))
            found[name].add(output)
            if target is None:
                return None
            now = Moments(output.new_zeros(channels), output.new_zeros(channels))
            now.add(output)
            gain, shift = _correction(target[name], now)
            return output * gain[:, None, None] + shift[:, None, None]

        return hook

    handles = [m.register_forward_hook(hook_of(n)) for n, m in _convolutions(network)]
    try:
        with torch.inference_mode():
            for batch in batches:
                network(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def renormalise(
    network: nn.Module, old: dict[str, Moments], new: dict[str, Moments], share: float, example: Tensor
) -> None:
    """Fold the correction from the new domain's moments to the old ones into the network, in place.

    It goes into a convolution's weight and bias, or, where it has no bias, into the batch norm after it; so the
    network keeps its parameters. share: how much the new moments count against the old ones, 0..1; few frames deserve
    less than 1. example: (1, 3, H, W) that shows which norm follows which convolution.
    """
    norms = _following_norms(network, example)
    with torch.no_grad():
        for name, conv in _convolutions(network):
            mean = old[name].mean.lerp(new[name].mean, share)
            square = old[name].square.lerp(new[name].square, share)
            gain, shift = _correction(old[name], Moments(mean, square, 1.0))
            if conv.bias is not None:
                conv.weight.mul_(gain.view(-1, 1, 1, 1))
                conv.bias.mul_(gain).add_(shift)
            elif name in norms:
                _shift_norm(norms[name], gain, shift)


def _shift_norm(norm: nn.BatchNorm2d, gain: Tensor, shift: Tensor) -> None:
    """Make the norm of x what it was of gain * x + shift."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.sub_(shift).div_(gain)
    norm.running_var.add_(norm.eps).div_(gain**2).sub_(norm.eps).clamp_(min=0)


def _following_norms(network: nn.Module, example: Tensor) -> dict[str, nn.BatchNorm2d]:
    """The batch norm that takes each convolution's output, by the convolution's name."""
    made: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that no other gets its id
    found: dict[str, nn.BatchNorm2d] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            made[id(output)] = (name, output)

        return hook

    def meet(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
            found[made[id(inputs[0])][0]] = module

    handles = [m.register_forward_hook(note(n)) for n, m in _convolutions(network)]
    handles += [m.register_forward_pre_hook(meet) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _correction(wanted: Moments, found: Moments) -> tuple[Tensor, Tensor]:
    """Gain and shift (C,) that bring `found` to `wanted`."""
    was, now = wanted.deviation, found.deviation
    gain = torch.where((was > SMALLEST) & (now > SMALLEST), was / now.clamp(min=SMALLEST), torch.ones_like(was))
    gain = gain.clamp(0.5, 2.0)
    return gain, wanted.mean - gain * found.mean


def _convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """Convolutions whose output a batch norm normalised, or was folded into: all but the heads' last layers."""
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    return [(n, m) for n, m in layers if not n.startswith(("dense.", "whole.")) or m.bias is None]
