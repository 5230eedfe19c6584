"""The pyramid that every dense head shares: strides 32 to 4 summed into one map at stride 4."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 96, 128, 128)
"""Channels of the pyramid at strides 4, 8, 16 and 32."""


class SeparableConv(nn.Sequential):
    """Depthwise k x k, then pointwise, each with batch norm; ReLU at the end."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=channels_in, bias=False),
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class Neck(nn.Module):
    """Top-down pyramid: strides 32 to 4 summed into one map at stride 4."""

    def __init__(self, channels: tuple[int, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, w, 1, bias=False), nn.BatchNorm2d(w))
            for c, w in zip(channels, widths, strict=True)
        )
        self.context = SeparableConv(widths[-1], widths[-1], kernel=5)
        self.down = nn.ModuleList(SeparableConv(upper, lower, kernel=5) for lower, upper in pairwise(widths))
        self.out_channels = widths[0]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features at strides 4 to 32 in, (B, out_channels, h, w) at the size of the finest out."""
        x: Tensor = self.context(F.relu(self.lateral[-1](features[-1])))
        for i in range(len(features) - 2, -1, -1):
            x = resized(self.down[i](x), (int(features[i].shape[2]), int(features[i].shape[3])))
            x = F.relu(self.lateral[i](features[i]) + x)
        return x


def resized(x: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """`x` at this size by repeated cells: networks with unpadded convolutions have levels that are no exact halves."""
    height, width = int(x.shape[2]), int(x.shape[3])
    if (height, width) == size_hw:
        return x
    if (2 * height, 2 * width) == size_hw:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.interpolate(x, size=size_hw, mode="nearest")
