"""An anchor-free detector without NMS: centre heatmap, offset and size at stride 4.

Centres as points after CenterNet (Zhou et al. 2019, arXiv:1904.07850); box regression over the whole centre
region after TTFNet (Liu et al. 2020, arXiv:1909.00700), which converges in far fewer steps. A peak is the
local maximum over 3x3 cells and over all classes; a static TopK picks the best ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.models.neck import SeparableConv

STRIDE = 4
SIZE_UNIT_PX = 32.0
"""Sizes are exp(s) * SIZE_UNIT_PX pixels, so that s = 0 is a common object."""
SIZE_LOG_LIMIT = 4.0
PRIOR = 0.02
"""Heatmap score at the start of training, small because most cells hold no centre."""
QUIET_LOGIT = -30.0
"""Of what is no object for sure: as good as no score at all."""


class Maps(NamedTuple):
    """heat: (B, C, H, W) logits. box: (B, 4, H, W): offset x, y in cells, log size w, h in SIZE_UNIT_PX."""

    heat: Tensor
    box: Tensor


class BoxHead(nn.Module):
    """A shared layer on the stride-4 map, then one for the class heatmap and one for the box."""

    def __init__(self, channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.shared = SeparableConv(channels, width)
        self.heat_tower = SeparableConv(width, width)
        self.box_tower = SeparableConv(width, width)
        self.heat = nn.Conv2d(width, classes, 1)
        self.box = nn.Conv2d(width, 4, 1)
        nn.init.normal_(self.heat.weight, std=0.01)
        nn.init.constant_(self.heat.bias, float(torch.logit(torch.tensor(PRIOR))))  # type: ignore[arg-type]
        nn.init.normal_(self.box.weight, std=0.01)
        nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]

    def forward(self, pyramid: Tensor) -> Maps:
        """(B, channels, H, W) in, Maps of the same H and W out."""
        x = self.shared(pyramid)
        return Maps(self.heat(self.heat_tower(x)), self.box(self.box_tower(x)))


def box_map_to_xyxy(box: Tensor) -> Tensor:
    """(B, 4, H, W) head output to (B, 4, H, W) x1, y1, x2, y2 in pixels of the network input."""
    height, width = box.shape[2:]
    x = torch.arange(width, dtype=box.dtype, device=box.device).view(1, 1, 1, -1) + 0.5
    y = torch.arange(height, dtype=box.dtype, device=box.device).view(1, 1, -1, 1) + 0.5
    cx = (x + box[:, 0:1]) * STRIDE
    cy = (y + box[:, 1:2]) * STRIDE
    half = torch.exp(box[:, 2:4].clamp(-SIZE_LOG_LIMIT, SIZE_LOG_LIMIT)) * (SIZE_UNIT_PX / 2)
    w, h = half[:, 0:1], half[:, 1:2]
    return torch.cat([cx - w, cy - h, cx + w, cy + h], dim=1)


def decode_maps(maps: Maps, max_detections: int, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """boxes (B, K, 4) in network pixels, scores (B, K) falling, classes (B, K) int64; static shapes.

    Only the K cells that were picked are turned into boxes, and only their logits are divided by the temperature: an
    engine that finds a division behind a convolution makes a new one of both, whose precision nobody asked for. H and
    W are read from the maps once, as constants in an exported graph.
    """
    heat, box = maps
    height, width = int(heat.shape[2]), int(heat.shape[3])
    best, label = heat.max(dim=1, keepdim=True)
    peak = best >= F.max_pool2d(best, kernel_size=3, stride=1, padding=1)
    score = torch.where(peak, best, torch.full_like(best, QUIET_LOGIT * temperature)).flatten(1)
    top, index = torch.topk(score, max_detections, dim=1)
    classes = torch.gather(label.flatten(1), 1, index)
    picked = torch.gather(box.flatten(2), 2, index.unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2)
    column = (index % width).to(picked.dtype)
    row = torch.div(index, width, rounding_mode="floor").to(picked.dtype)
    cx = (column + 0.5 + picked[..., 0]) * STRIDE
    cy = (row + 0.5 + picked[..., 1]) * STRIDE
    half = torch.exp(picked[..., 2:4].clamp(-SIZE_LOG_LIMIT, SIZE_LOG_LIMIT)) * (SIZE_UNIT_PX / 2)
    boxes = torch.stack([cx - half[..., 0], cy - half[..., 1], cx + half[..., 0], cy + half[..., 1]], dim=-1)
    boxes = boxes.clamp(min=0.0)
    limit = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device) * STRIDE
    return torch.minimum(boxes, limit), torch.sigmoid(top / temperature), classes
