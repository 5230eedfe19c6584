"""Branches merged for deployment: one convolution where training had several, and the same maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgetl.models.backbone import build_backbone
from edgetl.models.reparameterise import branched, for_deployment


def taught(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                for tensor, low, high in ((m.running_mean, -0.2, 0.2), (m.running_var, 0.5, 1.5), (m.weight, 0.5, 1.5)):
                    assert tensor is not None
                    tensor.uniform_(low, high, generator=generator)
    return module.eval()


def convolutions(module: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) for m in module.modules())


@pytest.mark.parametrize("name", ["repvit_m0_9", "repvgg_a0", "mobileone_s0", "fastvit_t8"])
@pytest.mark.parametrize("fold", [False, True], ids=["as built", "folded for training"])
def test_merged_networks_compute_the_same_with_fewer_convolutions(name: str, fold: bool) -> None:
    module = taught(build_backbone(name, "none", fold=fold).module)
    before = convolutions(module)
    assert branched(module)
    deployed = for_deployment(module)
    assert convolutions(deployed) < before
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for a, b in zip(module(x), deployed(x), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * float(a.abs().max()))


def test_training_keeps_its_branches_and_weights() -> None:
    module = taught(build_backbone("repvgg_a0", "none").module)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    count = convolutions(module)
    for_deployment(module)
    assert convolutions(module) == count
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_a_network_without_branches_is_only_folded() -> None:
    module = build_backbone("resnet18", "none").module
    assert branched(module) == ()
    deployed = for_deployment(module)
    assert convolutions(deployed) == convolutions(module)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())


class Block(nn.Module):
    """Two branches whose merge is wrong, as of a network that a library does not merge well."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(x) + self.b(x)
        return out

    def fuse(self) -> nn.Module:
        return self.a


class Broken(Block):
    """One that can't be merged at all."""

    def fuse(self) -> nn.Module:
        raise RuntimeError("not today")


class Whole(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.block(x)]


@pytest.mark.parametrize("block", [Block, Broken])
def test_a_merge_that_would_change_the_maps_is_left_out(block: type[Block]) -> None:
    module = Whole(block())
    deployed = for_deployment(module)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x)[0], module(x)[0])


def test_outermost_modules_that_merge_are_named_once() -> None:
    network = nn.Sequential(Block(), nn.Sequential(nn.ReLU(), Block()))
    network[0].inner = Block()  # type: ignore[index]
    assert branched(network) == ("0", "1.1")
