"""What a fine-tuning run is: one frozen record, the same from flags, a YAML file or Python."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgetl.models.backbone import DEFAULT_BACKBONE
from edgetl_runtime.spec import Frozen, Positive

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class TuneConfig(Frozen, frozen=True, kw_only=True):
    """Sizes are (height, width) in pixels of the network input.

    crop_hw: size of the training crops, smaller than size_hw to train faster. probe_epochs: passes over cached
    features of the frozen backbone before fine-tuning. backbone_lr is the rate of the last stage; a stage
    that is a quarter of the depth earlier learns `depth_decay` times slower. freeze_stride: layers up to the
    features of this stride keep their pretrained weights (0 trains all of them). zoom: range of the random
    scale, relative to the letterbox's.
    """

    task: str = "detect"
    backbone: str = DEFAULT_BACKBONE
    weights: str = "package"
    size_hw: tuple[Positive, Positive] = (352, 640)
    crop_hw: tuple[Positive, Positive] = (352, 640)
    epochs: Annotated[int, msgspec.Meta(ge=0)] = 12
    probe_epochs: Annotated[int, msgspec.Meta(ge=0)] = 2
    batch: Positive = 4
    probe_lr: Rate = 3e-3
    head_lr: Rate = 1.5e-3
    backbone_lr: Rate = 6e-4
    depth_decay: Share = 0.7
    freeze_stride: Literal[0, 4, 8] = 4
    zoom: tuple[Rate, Rate] = (0.75, 1.6)
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.02
    ema_decay: Share = 0.995
    max_detections: Positive = 100
    val_images: Positive = 100
    val_every: Positive = 1
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        for name, size in (("size_hw", self.size_hw), ("crop_hw", self.crop_hw)):
            if size[0] % 32 or size[1] % 32:
                raise ValueError(f"{name} must be multiples of 32, found {size[0]}x{size[1]}")
        if self.task != "detect":
            raise ValueError(f"task must be detect, found {self.task}")
