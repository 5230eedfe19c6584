"""Folding batch norms: the same function where it is possible, the module itself where it isn't."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.models.backbone import build_backbone
from edgetl.models.fold import fold_batch_norms


def spoil(module: nn.Module) -> nn.Module:
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(m.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"])
def test_folded_backbones_compute_the_same(name: str) -> None:
    module = spoil(build_backbone(name, "none").module)
    folded = fold_batch_norms(module)
    assert folded is not module
    assert norms(folded) == 0
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for a, b in zip(module(x), folded(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


class Net(nn.Module):
    """A convolution and a norm of three channels, joined by `forward` of each test's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)


class NormFirst(Net):
    """Runs its norm before its convolution, unlike the order in which they are defined."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(self.norm(x))]


class ActivationBetween(Net):
    """An in-place activation makes the norm's input the same object with other numbers."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.norm(F.relu(self.conv(x), inplace=True))]


class ConvReadTwice(Net):
    """What the convolution wrote goes out past the norm as well."""

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.conv(x)
        return [self.norm(y), y]


class ConvRunTwice(Net):
    """One convolution for two inputs, one of them normed."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.norm(self.conv(x)), self.conv(2 * x)]


@pytest.mark.parametrize("kind", [NormFirst, ActivationBetween, ConvReadTwice, ConvRunTwice])
def test_a_network_that_would_change_is_left_alone(kind: type[Net]) -> None:
    fresh, taught = kind(), spoil(kind())
    # A fresh norm passes its input on, so that a wrong fold of it would go unseen.
    assert fold_batch_norms(fresh) is fresh
    assert fold_batch_norms(taught) is taught


class Apart(Net):
    """Another layer is defined between the two: only the flow of data tells that they belong together."""

    def __init__(self) -> None:
        super().__init__()
        norm, self.norm = self.norm, nn.Identity()  # type: ignore[assignment]
        self.last = nn.Conv2d(3, 2, 1)
        self.after = norm

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.last(F.relu(self.after(self.conv(x))))]


def test_a_norm_that_is_defined_elsewhere_is_found() -> None:
    module = spoil(Apart())
    folded = fold_batch_norms(module)
    assert norms(folded) == 0
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(folded(x)[0], module(x)[0], rtol=1e-4, atol=1e-5)


def test_known_answer() -> None:
    """y = 2 x, then (y - 3) / 2 * 5 + 1, is one convolution of weight 5 and bias -6.5."""
    conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0)
    for tensor, value in (
        (conv.weight, 2.0), (norm.running_mean, 3.0), (norm.running_var, 4.0), (norm.weight, 5.0), (norm.bias, 1.0),
    ):  # fmt: skip
        assert tensor is not None
        nn.init.constant_(tensor, value)

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.norm(self.conv(x[:, :1]))]

    folded = fold_batch_norms(One())
    fused = folded.get_submodule("conv")
    assert float(fused.weight.detach()) == pytest.approx(5.0)  # type: ignore[operator]
    assert float(fused.bias.detach()) == pytest.approx(-6.5)  # type: ignore[operator]


@pytest.mark.parametrize(("name", "left"), [("densenet121", 62), ("convnext_atto", 0)])
def test_norms_that_no_convolution_feeds_stay(name: str, left: int) -> None:
    module = build_backbone(name, "none").module
    assert norms(fold_batch_norms(module)) == left
