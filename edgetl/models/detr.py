"""Detectors that answer with queries: D-FINE (arXiv:2410.13842) and RT-DETRv2 (arXiv:2407.17140) out of transformers.

The package is imported when such a network is built, never before.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from edgetl.models.backbone import InputRange
from edgetl.models.network import Network, Outputs, Raw
from edgetl_runtime.imports import need

EXTRA = "detr"
INPUT_RANGE = InputRange((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
"""Both families see colours as shares of 255, without mean and deviation."""
HEAD = "detect"
NO_CHECKS = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""transformers' own switch for checks of tensors at run time; torch.export turns one into an operator ONNX lacks."""


@dataclass(frozen=True, slots=True)
class Detr:
    """One published detector. family: names of transformers' config, backbone config and model classes.

    strides: of the feature maps that its decoder reads. values, backbone: of the configs, where they differ from the
    classes' own defaults. hub, licence: of the weights on the Hugging Face hub (COCO).
    """

    family: tuple[str, str, str]
    strides: tuple[int, ...]
    hub: str
    licence: str
    values: Mapping[str, Any]
    backbone: Mapping[str, Any]

    @property
    def queries(self) -> int:
        """How many boxes the decoder gives for a frame."""
        return int(self.values.get("num_queries", 300))


DFINE = ("DFineConfig", "HGNetV2Config", "DFineForObjectDetection")
RTDETR = ("RTDetrV2Config", "RTDetrResNetConfig", "RTDetrV2ForObjectDetection")

_HGNET_B0: Mapping[str, Any] = {
    "hidden_sizes": [128, 256, 512, 1024],
    "stem_channels": [3, 16, 16],
    "stage_in_channels": [16, 64, 256, 512],
    "stage_mid_channels": [16, 32, 64, 128],
    "stage_out_channels": [64, 256, 512, 1024],
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [3, 3, 3, 3],
    "use_learnable_affine_block": True,
}


def _rtdetr(hub: str, depths: list[int], *, basic: bool, decoder_layers: int) -> Detr:
    backbone: dict[str, Any] = {"depths": depths, "out_indices": [2, 3, 4]}
    values: dict[str, Any] = {"decoder_layers": decoder_layers}
    if basic:
        backbone |= {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
        values |= {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
    return Detr(RTDETR, (8, 16, 32), f"PekingU/{hub}", "apache-2.0", values, backbone)


DETRS: dict[str, Detr] = {
    "dfine-nano": Detr(
        DFINE,
        (16, 32),
        "ustc-community/dfine-nano-coco",
        "apache-2.0",
        {
            "num_feature_levels": 2,
            "feat_strides": [16, 32],
            "encoder_in_channels": [512, 1024],
            "encoder_hidden_dim": 128,
            "encoder_ffn_dim": 512,
            "encode_proj_layers": [1],
            "hidden_expansion": 0.34,
            "depth_mult": 0.5,
            "d_model": 128,
            "decoder_in_channels": [128, 128],
            "decoder_ffn_dim": 512,
            "decoder_n_points": [6, 6],
            "decoder_layers": 3,
        },
        {**_HGNET_B0, "out_indices": [3, 4]},
    ),
    "dfine-small": Detr(
        DFINE,
        (8, 16, 32),
        "ustc-community/dfine-small-coco",
        "apache-2.0",
        {
            "encoder_in_channels": [256, 512, 1024],
            "hidden_expansion": 0.5,
            "depth_mult": 0.34,
            "decoder_n_points": [3, 6, 3],
            "decoder_layers": 3,
        },
        {**_HGNET_B0, "out_indices": [2, 3, 4]},
    ),
    "rtdetrv2-r18": _rtdetr("rtdetr_v2_r18vd", [2, 2, 2, 2], basic=True, decoder_layers=3),
    "rtdetrv2-r34": _rtdetr("rtdetr_v2_r34vd", [3, 4, 6, 3], basic=True, decoder_layers=4),
    "rtdetrv2-r50": _rtdetr("rtdetr_v2_r50vd", [3, 4, 6, 3], basic=False, decoder_layers=6),
}
"""By the name that --backbone takes. Figures as in transformers' scripts that converted the published weights."""


def is_detr(name: str) -> bool:
    """Whether this name of a backbone stands for a whole detector of this module."""
    return name in DETRS


class Learning(NamedTuple):
    """What the loss reads, of L decoder layers; the first queries may be noised objects (`denoising`).

    logits (B, L, Q, C), boxes (B, L, Q, 4); encoder_logits (B, Q, C), encoder_boxes (B, Q, 4): of the queries' first
    guess. corners, references: D-FINE's distributions and the boxes that they refine, else None.
    """

    logits: Tensor
    boxes: Tensor
    encoder_logits: Tensor
    encoder_boxes: Tensor
    corners: Tensor | None
    references: Tensor | None
    denoising: dict[str, Any] | None


class Queries(NamedTuple):
    """logits (B, Q, C). boxes (B, Q, 4): centre x, y, width, height as shares of the frame. size_hw: of the frame.

    picked (B, Q): the score by which each query was picked, out of all cells, before it was decoded. encoded: the maps
    that the decoder reads, finest first. learning: in training mode only.
    """

    logits: Tensor
    boxes: Tensor
    picked: Tensor
    encoded: tuple[Tensor, ...]
    size_hw: tuple[int, int]
    learning: Learning | None = None


class QueryTargets(NamedTuple):
    """boxes (B, N, 4) as in Queries. labels (B, N) int64. role (B, N) int64: 0 padding, 1 object, 2 ignored."""

    boxes: Tensor
    labels: Tensor
    role: Tensor

    def objects(self) -> list[dict[str, Tensor]]:
        """The objects of each frame, as transformers takes them."""
        return [
            {"class_labels": labels[role == 1], "boxes": boxes[role == 1]}
            for boxes, labels, role in zip(self.boxes, self.labels, self.role, strict=True)
        ]


class Features(nn.Module):
    """A transformers backbone as edgetl's own are: (B, 3, H, W) in, a list of maps out, finest first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.model(x).feature_maps)


class DetrNetwork(Network):
    """Normalised RGB (B, 3, H, W) in, Outputs out, with Queries as the head `detect` and no other head.

    With targets, in training mode, some queries are noised objects that the decoder learns to put right
    (arXiv:2203.01305).
    """

    rate_share = 0.1
    """Of the configured learning rates. D-FINE-S was published with 2.5e-4 at a batch of 32, RT-DETRv2 with 1e-4 at
    16; what suits a light convolutional head at a batch of 4 is ten times too much for a decoder of queries."""

    def __init__(self, backbone: Features, detr: nn.Module) -> None:
        nn.Module.__init__(self)
        self.backbone = backbone
        self.neck = None
        self.dense = nn.ModuleDict()
        self.whole = nn.ModuleDict()
        self.detr = detr

    def forward(self, x: Tensor, targets: Mapping[str, tuple[Tensor, ...]] | None = None) -> Outputs:
        maps = self.backbone(x)
        detr = cast("Any", self.detr)
        encoded = detr.encoder([p(m) for p, m in zip(detr.encoder_input_proj, maps, strict=True)])
        objects = QueryTargets(*targets[HEAD]).objects() if self.training and targets is not None else None
        levels = tuple(encoded.last_hidden_state)
        # Given both, transformers reads only the batch size off inputs_embeds.
        found = detr(None, inputs_embeds=maps[-1], encoder_outputs=encoded, labels=objects)
        learning = _learning(found) if self.training else None
        skip = found.denoising_meta_values["dn_num_split"][0] if found.denoising_meta_values else 0
        queries = Queries(
            found.intermediate_logits[:, -1, skip:],
            found.intermediate_reference_points[:, -1, skip:],
            found.enc_topk_logits.amax(2),
            levels,
            (int(x.shape[2]), int(x.shape[3])),
            learning,
        )
        return Outputs({HEAD: cast("Raw", queries)}, maps[-1].mean((2, 3)))

    def heads_on(self, features: list[Tensor], size_hw: tuple[int, int]) -> Outputs:
        """Not there: encoder and decoder are pretrained together with the backbone, so there is no probe."""
        raise TypeError("a detector of queries has no heads that learn on cached features")

    def new_parts(self) -> list[nn.Module]:
        """Encoder and decoder: all but the backbone."""
        return [self.detr]


def _learning(found: Any) -> Learning:
    return Learning(
        found.intermediate_logits,
        found.intermediate_reference_points,
        found.enc_topk_logits,
        found.enc_topk_bboxes,
        getattr(found, "intermediate_predicted_corners", None),
        getattr(found, "initial_reference_points", None),
        found.denoising_meta_values,
    )


def config_of(name: str, classes: int) -> Any:
    """transformers' config of a detector of DETRS with this many classes."""
    entry, transformers = DETRS[name], packages()
    backbone = getattr(transformers, entry.family[1])(**entry.backbone)
    # Norms are frozen, or not, as for every other backbone: by the training.
    return getattr(transformers, entry.family[0])(
        backbone_config=backbone, freeze_backbone_batch_norms=False, num_labels=classes, **entry.values
    )


def packages() -> Any:
    """transformers, set up for us. Raises MissingPackage where it, or scipy that its losses need, is not installed."""
    os.environ.setdefault(NO_CHECKS, "1")
    need("scipy", extra=EXTRA)
    return need("transformers", extra=EXTRA)


def fresh_model(name: str, classes: int) -> nn.Module:
    """transformers' whole model with random weights that can learn, unlike those it has for a start.

    Its convolutions start so small that in a deep backbone no signal is left.
    """
    model: nn.Module = getattr(packages(), DETRS[name].family[2])(config_of(name, classes))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return model


def network_from_model(model: nn.Module) -> DetrNetwork:
    """The parts of transformers' model that run, in eval mode; each decoder layer has its own weights."""
    inner = cast("Any", model).model
    decoder = inner.decoder
    # transformers may share them between layers, until a checkpoint says otherwise; ours are always written one by one.
    decoder.class_embed = nn.ModuleList(copy.deepcopy(m) for m in decoder.class_embed)
    decoder.bbox_embed = nn.ModuleList(copy.deepcopy(m) for m in decoder.bbox_embed)
    backbone = Features(inner.backbone.model)
    inner.backbone = nn.Identity()
    return DetrNetwork(backbone, inner).eval()


def loss_function(name: str) -> Any:
    """transformers' loss of this detector: Hungarian matching, then classes and boxes of every decoder layer."""
    losses = need("transformers.loss.loss_utils", extra=EXTRA)
    return losses.LOSS_MAPPING[DETRS[name].family[2]]
