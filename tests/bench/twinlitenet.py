"""TwinLiteNet (arXiv:2307.10705) as a user's module: `edgetl export tests/bench/twinlitenet.py:build_model`.

Written from the paper, ESPNet's (arXiv:1803.06815), and the names and shapes in the published weights. The weights'
file is named by the environment variable TWINLITENET_WEIGHTS.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

EPS = 1e-3
"""Of every batch norm, as in ESPNet."""


class ConvNormAct(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class NormAct(nn.Module):
    """Batch norm, PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=EPS)
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class Conv(nn.Module):
    """A convolution alone, dilated or with a stride."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Pyramid(nn.Module):
    """ESPNet's spatial pyramid: reduce, five dilations side by side, their running sums (against gridding)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        each = outputs // 5
        self.c1 = Conv(inputs, each, kernel, stride)
        self.d1 = Conv(each, outputs - 4 * each, 3)
        self.d2 = Conv(each, each, 3, dilation=2)
        self.d4 = Conv(each, each, 3, dilation=4)
        self.d8 = Conv(each, each, 3, dilation=8)
        self.d16 = Conv(each, each, 3, dilation=16)

    def spread(self, x: Tensor) -> Tensor:
        x = self.c1(x)
        sums = [self.d2(x)]
        for branch in (self.d4, self.d8, self.d16):
            sums.append(sums[-1] + branch(x))
        return torch.cat([self.d1(x), *sums], 1)


class Down(Pyramid):
    """The pyramid at half the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=3, stride=2)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.spread(x)))


class Residual(Pyramid):
    """The pyramid, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, kernel=1, stride=1)
        self.bn = NormAct(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x + self.spread(x))


class PositionAttention(nn.Module):
    """Every cell attends to every cell (DANet, arXiv:1809.02983)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (f(x).flatten(2) for f in (self.query_conv, self.key_conv, self.value_conv))
        share = torch.softmax(query.transpose(1, 2) @ key, -1)
        return self.gamma * (value @ share.transpose(1, 2)).view_as(x) + x


class ChannelAttention(nn.Module):
    """Every channel attends to every channel, to those least like it most (DANet)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        alike = flat @ flat.transpose(1, 2)
        share = torch.softmax(alike.amax(-1, keepdim=True) - alike, -1)
        return self.gamma * (share @ flat).view_as(x) + x


class Up(nn.Module):
    """Twice the resolution by a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPS)
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.deconv(x)))


class Encoder(nn.Module):
    """ESPNet with dual attention; the frame itself, made smaller, joins at strides 2 and 4."""

    def __init__(self, first_blocks: int = 2, second_blocks: int = 3) -> None:
        super().__init__()
        self.level1 = ConvNormAct(3, 16, 3, 2)
        self.b1 = ConvNormAct(19, 19, 3)
        self.level2_0 = Down(19, 64)
        self.level2 = nn.ModuleList(Residual(64) for _ in range(first_blocks))
        self.b2 = ConvNormAct(131, 131, 3)
        self.level3_0 = Down(131, 128)
        self.level3 = nn.ModuleList(Residual(128) for _ in range(second_blocks))
        self.b3 = ConvNormAct(256, 32, 3)
        self.sa = PositionAttention(32)
        self.sc = ChannelAttention()
        self.conv_sa = ConvNormAct(32, 32, 3)
        self.conv_sc = ConvNormAct(32, 32, 3)
        self.classifier = ConvNormAct(32, 32, 1)
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, frame: Tensor) -> Tensor:
        half = self.shrink(frame)
        quarter = self.shrink(half)
        x = self.b1(torch.cat([self.level1(frame), half], 1))
        x = start = self.level2_0(x)
        for block in self.level2:
            x = block(x)
        x = self.b2(torch.cat([x, start, quarter], 1))
        x = start = self.level3_0(x)
        for block in self.level3:
            x = block(x)
        x = self.b3(torch.cat([start, x], 1))
        return self.classifier(self.conv_sa(self.sa(x)) + self.conv_sc(self.sc(x)))


class TwinLiteNet(nn.Module):
    """(1, 3, H, W) RGB, 0 to 1, to scores of two classes for every pixel, twice: drivable area and lanes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.up_1_1, self.up_2_1, self.classifier_1 = Up(32, 16), Up(16, 8), Up(8, 2)
        self.up_1_2, self.up_2_2, self.classifier_2 = Up(32, 16), Up(16, 8), Up(8, 2)

    def forward(self, frame: Tensor) -> dict[str, Tensor]:
        x = self.encoder(frame)
        return {
            "drivable": self.classifier_1(self.up_2_1(self.up_1_1(x))),
            "lane": self.classifier_2(self.up_2_2(self.up_1_2(x))),
        }


def build_model() -> nn.Module:
    """The network with the published weights, every one of which must find its place."""
    weights = torch.load(Path(os.environ["TWINLITENET_WEIGHTS"]), map_location="cpu", weights_only=True)
    network = TwinLiteNet()
    network.load_state_dict({k.removeprefix("module."): v for k, v in weights.items()}, strict=True)
    return network
