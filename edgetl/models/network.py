"""One backbone, one neck, any number of heads: a frame goes through the shared layers once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.models.backbone import Backbone
from edgetl.models.detector import STRIDE, Maps
from edgetl.models.neck import Neck

Targets = Mapping[str, tuple[Tensor, ...]]
Raw = Maps | Tensor
"""What a head gives before decoding: maps of boxes, or logits."""


class Outputs(NamedTuple):
    """heads: by name what each head gives. embedding: (B, C) mean of the coarsest features."""

    heads: dict[str, Raw]
    embedding: Tensor


class Network(nn.Module):
    """Normalised RGB (B, 3, H, W) in, Outputs out.

    dense: heads on the shared (B, channels, H / 4, W / 4) map. whole: heads on the embedding. The neck is there only
    where a dense head needs it.
    """

    def __init__(self, backbone: Backbone, dense: Mapping[str, nn.Module], whole: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.neck = Neck(backbone.channels) if dense else None
        self.dense = nn.ModuleDict(dense)
        self.whole = nn.ModuleDict(whole)

    def forward(self, x: Tensor, targets: Targets | None = None) -> Outputs:
        """targets: what is to be found, by head. Only networks that make queries of them look at it (detr.py)."""
        return self.heads_on(self.backbone(x), (int(x.shape[2]), int(x.shape[3])))

    def heads_on(self, features: list[Tensor], size_hw: tuple[int, int]) -> Outputs:
        """Outputs from backbone features of a frame of `size_hw`, for training on cached features."""
        embedding = features[-1].mean((2, 3))
        raw: dict[str, Raw] = {name: head(embedding) for name, head in self.whole.items()}
        if self.neck is not None:
            pyramid = self.neck(features)
            cells = (size_hw[0] // STRIDE, size_hw[1] // STRIDE)
            if (int(pyramid.shape[2]), int(pyramid.shape[3])) != cells:
                pyramid = F.interpolate(pyramid, size=cells, mode="bilinear")
            raw |= {name: head(pyramid) for name, head in self.dense.items()}
        return Outputs(raw, embedding)

    def new_parts(self) -> list[nn.Module]:
        """Neck and heads: what no pretrained weights exist for."""
        return [m for m in (self.neck, self.dense, self.whole) if m is not None]
