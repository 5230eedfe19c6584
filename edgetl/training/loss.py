"""The detector's losses: focal loss on centres, generalised IoU on boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgetl.models.detector import Maps, box_map_to_xyxy

BOX_WEIGHT = 5.0


class BatchTargets(NamedTuple):
    """Targets stacked over a batch: heat (B, C, H, W), box (B, 4, H, W), weight and quiet (B, H, W)."""

    heat: Tensor
    box: Tensor
    weight: Tensor
    quiet: Tensor


def detection_loss(maps: Maps, targets: BatchTargets) -> dict[str, Tensor]:
    """Weighted losses of one batch, normalised by the number of centres and by the box weights."""
    heat = centre_focal_loss(maps.heat.float(), targets.heat, targets.quiet)
    box = giou_loss(box_map_to_xyxy(maps.box.float()), targets.box, targets.weight)
    return {"heat": heat, "box": BOX_WEIGHT * box}


def centre_focal_loss(logits: Tensor, target: Tensor, quiet: Tensor) -> Tensor:
    """Penalty-reduced focal loss (arXiv:1904.07850, eq. 1), alpha 2 and beta 4, quiet cells left out."""
    positive = target.eq(1)
    p = torch.sigmoid(logits)
    at_centre = F.softplus(-logits) * (1 - p) ** 2
    elsewhere = F.softplus(logits) * p**2 * (1 - target) ** 4 * quiet.unsqueeze(1)
    loss = torch.where(positive, at_centre, elsewhere).sum()
    return loss / positive.sum().clamp(min=1)


def giou_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU (arXiv:1902.09630) over the cells with weight; boxes (B, 4, H, W) as x1, y1, x2, y2."""
    where = weight > 0
    p = predicted.permute(0, 2, 3, 1)[where]
    t = target.permute(0, 2, 3, 1)[where]
    if not len(p):
        return predicted.sum() * 0
    inner = (torch.minimum(p[:, 2:], t[:, 2:]) - torch.maximum(p[:, :2], t[:, :2])).clamp(min=0).prod(1)
    hull = (torch.maximum(p[:, 2:], t[:, 2:]) - torch.minimum(p[:, :2], t[:, :2])).clamp(min=0).prod(1)
    union = (p[:, 2:] - p[:, :2]).prod(1) + (t[:, 2:] - t[:, :2]).prod(1) - inner
    giou = inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    w = weight[where]
    return ((1 - giou) * w).sum() / w.sum()
