"""Thirteen networks with random weights, from installed packages and from this project, as ONNX files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl_export.to_onnx import to_onnx

os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")  # its checks of tensors export as an op ONNX lacks
PEOPLE = ("car", "person")
Made = tuple[nn.Module, Tensor, Sequence[str]]
"""A module, an example of its input, the names of its outputs."""


class Only(nn.Module):
    """Of a transformers model's answer the named tensors."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = self.model(x, return_dict=True)
        return tuple(getattr(found, name) for name in self.names)


class Alone(nn.Module):
    """A module's one output as a tuple of one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.model(x),)


class ConvAct(nn.Sequential):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class SplitBlock(nn.Module):
    """Half of the channels go through residual blocks, and every step on the way is concatenated."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = ConvAct(inputs, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(ConvAct(half, half, 3), ConvAct(half, half, 3)) for _ in range(blocks)
        )
        self.leave = ConvAct((2 + blocks) * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PooledContext(nn.Module):
    """Max pooling of three widths, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = ConvAct(channels, channels // 2), ConvAct(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, 1))


class AnchorFree(nn.Module):
    """The common anchor-free detector: split blocks, a path down and up again, distances as distributions, one output.

    Output (B, 4 + classes, cells): centre, size in pixels, class scores; strides 8, 16, 32.
    """

    bins = 16

    def __init__(self, classes: int = 80, width: int = 16) -> None:
        super().__init__()
        w = [width * 2**i for i in range(5)]
        self.stem = ConvAct(3, w[0], 3, 2)
        self.down = nn.ModuleList(ConvAct(w[i], w[i + 1], 3, 2) for i in range(4))
        self.body = nn.ModuleList(SplitBlock(w[i + 1], w[i + 1], n) for i, n in enumerate((1, 2, 2, 1)))
        self.context = PooledContext(w[4])
        self.merge_up = nn.ModuleList([SplitBlock(w[4] + w[3], w[3], 1), SplitBlock(w[3] + w[2], w[2], 1)])
        self.again = nn.ModuleList([ConvAct(w[2], w[2], 3, 2), ConvAct(w[3], w[3], 3, 2)])
        self.merge_down = nn.ModuleList([SplitBlock(w[2] + w[3], w[3], 1), SplitBlock(w[3] + w[4], w[4], 1)])
        levels = (w[2], w[3], w[4])
        self.boxes = nn.ModuleList(nn.Sequential(ConvAct(c, 64, 3), nn.Conv2d(64, 4 * self.bins, 1)) for c in levels)
        self.scores = nn.ModuleList(nn.Sequential(ConvAct(c, 64, 3), nn.Conv2d(64, classes, 1)) for c in levels)

    def forward(self, x: Tensor) -> Tensor:
        maps = []
        y = self.stem(x)
        for down, body in zip(self.down, self.body, strict=True):
            y = body(down(y))
            maps.append(y)
        coarse = self.context(maps[3])
        middle = self.merge_up[0](torch.cat((F.interpolate(coarse, scale_factor=2.0), maps[2]), 1))
        fine = self.merge_up[1](torch.cat((F.interpolate(middle, scale_factor=2.0), maps[1]), 1))
        middle = self.merge_down[0](torch.cat((self.again[0](fine), middle), 1))
        coarse = self.merge_down[1](torch.cat((self.again[1](middle), coarse), 1))
        found = [self.decoded(i, m) for i, m in enumerate((fine, middle, coarse))]
        return torch.cat(found, 2)

    def decoded(self, level: int, x: Tensor) -> Tensor:
        stride, (height, width) = 8 * 2**level, x.shape[2:]
        ticks = torch.arange(self.bins, dtype=torch.float32).view(1, 1, -1, 1)
        distances = self.boxes[level](x).flatten(2).unflatten(1, (4, self.bins)).softmax(2)
        left, top, right, bottom = (distances * ticks).sum(2).chunk(4, 1)
        xs = (torch.arange(width) + 0.5).repeat(height).view(1, 1, -1)
        ys = (torch.arange(height) + 0.5).repeat_interleave(width).view(1, 1, -1)
        box = torch.cat((xs + (right - left) / 2, ys + (bottom - top) / 2, left + right, top + bottom), 1) * stride
        return torch.cat((box, self.scores[level](x).flatten(2).sigmoid()), 1)


def frame(height: int, width: int) -> Tensor:
    """A camera frame (1, H, W, 3) uint8."""
    return torch.randint(0, 256, (1, height, width, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def image(size: int) -> Tensor:
    """A normalised picture (1, 3, S, S) float32."""
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def classifier(name: str) -> Callable[[], Made]:
    """A network of timm's."""

    def make() -> Made:
        import timm

        return Alone(timm.create_model(name, pretrained=False)), image(224), ["logits"]

    return make


def of_edgetl(backbone: str, task: str, size_hw: tuple[int, int]) -> Callable[[], Made]:
    """One head of ours on a backbone, or a whole detector of queries, with its frame and decoding in the graph."""

    def make() -> Made:
        from edgetl.data import Dataset, MaskLayer
        from edgetl.heads import build_network, heads_for, kinds_of
        from edgetl.models.deploy import Deployed
        from edgetl.models.reparameterise import for_deployment
        from edgetl_runtime.spec import Preprocess

        data = Dataset("drawn", PEOPLE, (), (), (MaskLayer("ground", ("other", "road", "lane")),))
        kinds = kinds_of(heads_for(data, (task,), backbone=backbone), data, backbone=backbone)
        built = build_network(backbone, "none", kinds)
        built.network.backbone = for_deployment(built.network.backbone)
        means, deviations = built.input_range.mean, built.input_range.std
        deployed = Deployed(built.network, kinds, Preprocess(size_hw=size_hw, mean=means, std=deviations))
        return deployed, frame(*size_hw), (*deployed.outputs, *deployed.probes)

    return make


def segformer() -> Made:
    """SegFormer-b0: the class's own defaults."""
    import transformers

    model = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(num_labels=19))
    return Only(model, ["logits"]), image(512), ["logits"]


def dfine() -> Made:
    """D-FINE-N as transformers has it, with the figures of edgetl.models.detr."""
    from edgetl.models.detr import fresh_model

    return Only(fresh_model("dfine-nano", 80), ["logits", "pred_boxes"]), image(640), ["logits", "boxes"]


def bert() -> Made:
    """A BERT of two layers."""
    import transformers

    config: Any = transformers.BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
    )
    tokens = torch.arange(1, 33).view(1, -1)
    return Only(transformers.BertModel(config), ["last_hidden_state", "pooler_output"]), tokens, ["hidden", "pooled"]


def gpt2() -> Made:
    """A GPT-2 of two layers, without a cache of keys and values."""
    import transformers

    config: Any = transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=2, vocab_size=1000, use_cache=False, bos_token_id=0, eos_token_id=0
    )
    return Only(transformers.GPT2LMHeadModel(config), ["logits"]), torch.arange(1, 33).view(1, -1), ["logits"]


def anchor_free() -> Made:
    """AnchorFree at 640."""
    return Alone(AnchorFree()), image(640), ["found"]


ZOO: dict[str, Callable[[], Made]] = {
    "resnet18": classifier("resnet18"),
    "mobilenetv3_small": classifier("mobilenetv3_small_100"),
    "efficientnet_lite0": classifier("efficientnet_lite0"),
    "convnext_atto": classifier("convnext_atto"),
    "vit_tiny": classifier("vit_tiny_patch16_224"),
    "segformer_b0": segformer,
    "dfine_nano": dfine,
    "bert_tiny": bert,
    "gpt2_tiny": gpt2,
    "anchor_free": anchor_free,
    "edgetl_detect": of_edgetl("tf_efficientnet_lite0", "detect", (352, 640)),
    "edgetl_segment": of_edgetl("resnet18", "segment", (352, 640)),
    "edgetl_rtdetrv2_r18": of_edgetl("rtdetrv2-r18", "detect", (640, 640)),
}


def export(name: str, path: Path) -> Path:
    """Write one network of ZOO as ONNX."""
    torch.manual_seed(0)
    module, example, outputs = ZOO[name]()
    input_name = "frame" if example.dtype == torch.uint8 else "tokens" if example.dtype == torch.int64 else "image"
    to_onnx(module.eval(), example, path, input_name=input_name, output_names=outputs)
    return path
