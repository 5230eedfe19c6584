"""Folding batch norms: the same function where it is possible, the module itself where it isn't."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgetl.models.backbone import build_backbone
from edgetl.models.fold import fold_batch_norms


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"])
def test_folded_backbones_compute_the_same(name: str) -> None:
    module = build_backbone(name, "none").module.eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(m.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    folded = fold_batch_norms(module)
    assert folded is not module
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(module(x), folded(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


class Backwards(nn.Module):
    """Runs its norm before its convolution, unlike the order in which they are defined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 0.7)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(self.norm(x))]


def test_a_network_that_would_change_is_left_alone() -> None:
    module = Backwards()
    assert fold_batch_norms(module) is module
