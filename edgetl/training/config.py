"""What a fine-tuning run is: one frozen record, the same from flags, a YAML file or Python."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgetl.models.backbone import DEFAULT_BACKBONE
from edgetl_runtime.spec import Above0, Frozen, Positive, Share

Count = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=10)]
Task = Literal["detect", "segment", "classify"]
Recipe = Literal["probe-finetune", "probe", "full", "surgical"]


class TuneConfig(Frozen, frozen=True, kw_only=True):
    """Sizes are (height, width) in pixels of the network input.

    recipe: `probe-finetune` trains the new parts on cached features of the frozen backbone and then all of it
    (arXiv:2202.10054), `probe` stops there, `full` trains all from the start, `surgical` fine-tunes only the
    backbone's blocks that lead to the features of `surgical_strides` (arXiv:2210.11466).
    start: a checkpoint of ours to go on from, instead of weights. teacher: a checkpoint that the network imitates too.
    crop_hw: size of the training crops, smaller than size_hw to train faster. backbone_lr is the rate of the last
    stage; a stage that is a quarter of the depth earlier learns `depth_decay` times slower. freeze_stride: layers up
    to the features of this stride keep their pretrained weights (0 trains all of them). norms: the statistics of the
    backbone's pretrained batch norms are `frozen` (and folded, where that can be) or `learnt`, which needs large
    batches: with 32 frames it cost 1.5 points on GTSRB's validation images. zoom: range of the random scale, relative
    to the letterbox's. balance: images of rare classes are repeated until each class stands in at least this share of
    them (arXiv:1908.03195; 0 is off). patience: validations without gain before the run ends (0 is off). average:
    weights between probe and fine-tune are taken where validation agrees (arXiv:2109.01903).
    """

    tasks: Annotated[tuple[Task, ...], msgspec.Meta(min_length=1)] = ("detect",)
    layers: tuple[str, ...] = ()
    recipe: Recipe = "probe-finetune"
    backbone: str = DEFAULT_BACKBONE
    weights: str = "package"
    use: Literal["commercial", "research"] = "commercial"
    allow_license: bool = False
    start: str = ""
    teacher: str = ""
    size_hw: tuple[Positive, Positive] = (352, 640)
    crop_hw: tuple[Positive, Positive] = (352, 640)
    epochs: Count = 12
    probe_epochs: Count = 2
    batch: Positive = 4
    probe_lr: Rate = 3e-3
    head_lr: Rate = 1.5e-3
    backbone_lr: Rate = 6e-4
    depth_decay: Share = 0.7
    freeze_stride: Literal[0, 4, 8] = 4
    norms: Literal["frozen", "learnt"] = "frozen"
    surgical_strides: tuple[Literal[4, 8, 16, 32], ...] = ()
    zoom: tuple[Above0, Above0] = (0.75, 1.6)
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 0.02
    ema_decay: Share = 0.995
    balance: Share = 0.0
    patience: Count = 0
    average: bool = True
    imitation: Annotated[float, msgspec.Meta(ge=0)] = 1.0
    max_detections: Positive = 100
    mask_stride: Literal[1, 2, 4] = 2
    val_images: Positive = 100
    val_every: Positive = 1
    seed: Count = 0

    def __post_init__(self) -> None:
        for name, size in (("size_hw", self.size_hw), ("crop_hw", self.crop_hw)):
            if size[0] % 32 or size[1] % 32:
                raise ValueError(f"{name} must be multiples of 32, found {size[0]}x{size[1]}")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"each task once, found {', '.join(self.tasks)}")
        if (self.recipe == "surgical") != bool(self.surgical_strides):
            raise ValueError("the recipe `surgical` and the strides of its blocks go together")
        if self.recipe == "probe" and not self.probe_epochs:
            raise ValueError("the recipe `probe` needs at least one probe epoch")
        if self.recipe in {"probe", "surgical"} and self.weights == "none" and not self.start:
            raise ValueError(
                f"the recipe `{self.recipe}` keeps pretrained layers as they are, random ones teach nothing"
            )
        if self.recipe == "probe" and self.start:
            raise ValueError("the recipe `probe` trains new heads, a checkpoint to start from has its own")

    @property
    def frozen_norms(self) -> bool:
        """Whether the backbone's batch norms keep their statistics; those of random weights have none to keep."""
        return self.norms == "frozen" and (self.weights != "none" or bool(self.start))

    @property
    def probes(self) -> bool:
        """Whether the new parts are trained on cached features first."""
        return self.recipe != "full" and self.probe_epochs > 0

    @property
    def finetune_epochs(self) -> int:
        """Passes with the backbone in training."""
        return 0 if self.recipe == "probe" else self.epochs
