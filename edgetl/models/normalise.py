"""The one definition of how a uint8 frame becomes the network's input, for training and for the compiled graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgetl_runtime.spec import Preprocess


class Normalise(nn.Module):
    """(B, H, W, 3) uint8 BGR to (B, 3, H, W) float32 in `channel_order`, (x - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.flip = preprocess.channel_order == "rgb"
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        x = frames.to(torch.float32).permute(0, 3, 1, 2)
        if self.flip:
            x = torch.cat([x[:, 2:3], x[:, 1:2], x[:, 0:1]], dim=1)
        return (x - self.mean) / self.std
