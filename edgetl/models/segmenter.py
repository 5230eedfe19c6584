"""A class for every pixel: two light layers on the shared stride-4 map, enlarged to the mask's stride."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.models.detector import STRIDE
from edgetl.models.neck import SeparableConv


class MaskHead(nn.Module):
    """(B, channels, H, W) at stride 4 in, (B, classes, H, W) logits out."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.tower = nn.Sequential(SeparableConv(channels, width), SeparableConv(width, width))
        self.logits = nn.Conv2d(width, classes, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.tower(pyramid))
        return logits


def enlarged(logits: Tensor, mask_stride: int) -> Tensor:
    """Stride-4 logits (B, C, H, W) at the mask's stride, bilinear."""
    factor = STRIDE // mask_stride
    return logits if factor == 1 else F.interpolate(logits, scale_factor=float(factor), mode="bilinear")
