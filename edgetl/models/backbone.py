"""Backbones: any timm `features_only` network, with weights whose source is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from edgetl.models.fold import fold_batch_norms
from edgetl.models.licences import Use
from edgetl.models.weights import WeightSource, hub_name, load_weights, split_tag
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DEFAULT_BACKBONE", "STRIDES", "Backbone", "InputRange", "WeightSource", "build_backbone"]

STRIDES = (4, 8, 16, 32)
DEFAULT_BACKBONE = "tf_efficientnet_lite0"
TRIAL_HW = (96, 160)
"""A small frame that every network is tried on: two sizes that are no training crop, both multiples of 32."""


@dataclass(frozen=True, slots=True)
class InputRange:
    """mean and std on the 0..255 scale, in RGB order, that the weights were trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Backbone:
    """Features at about strides 4, 8, 16 and 32, their channels, and what the weights are.

    Maps are H / stride x W / stride only where the network pads: Inception's are a cell or more smaller, and
    networks that round down differ from those that round up where the frame is no multiple of 32.
    """

    name: str
    module: nn.Module
    channels: tuple[int, ...]
    input_range: InputRange
    weights: WeightSource
    folded: bool = False


LITE_RANGE = InputRange((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""EfficientNet-Lite's own (x - 127) / 128, from its reference implementation in TensorFlow's TPU models."""


def build_backbone(
    name: str, weights: str, *, fold: bool = False, use: Use = "commercial", allow_license: bool = False
) -> Backbone:
    """A timm features_only network; `fold` folds its batch norms, whose statistics then stay as they are.

    name: timm's architecture, with a pretrained tag if wanted (`resnet18.a1_in1k`). weights: `package` (ImageNet
    weights out of a registry package), `hub` or `hub:TAG` (timm's on the Hugging Face hub), `none` (random), or a
    file with a state dict of this architecture. use, allow_license: see licences.check_licence.
    Raises InputError for an unknown name, for weights that do not fit, can't be had or may not be used so, and for
    a network without features at strides 4 to 32 of any frame.
    """
    name = _known(name, weights)
    module = _feature_network(name)
    source = load_weights(module, name, weights, use=use, allow_license=allow_license)
    channels = _tried(module, name)
    input_range = _input_range(module, name)
    kept = module
    if fold:
        module = fold_batch_norms(module)
    return Backbone(name, module, channels, input_range, source, folded=module is not kept)


def _known(name: str, weights: str) -> str:
    """The name, with the tag that `hub:TAG` adds. Raises InputError for what timm does not have."""
    import timm

    architecture, tag = split_tag(name)
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture.split('_', maxsplit=1)[0]}*")[:5])
        raise InputError(
            f"backbone {name!r} is not one of timm's", remedy=f"nearest: {near or 'see timm.list_models()'}"
        )
    if tag or weights.partition(":")[0] == "hub":
        return hub_name(name, weights if weights.partition(":")[0] == "hub" else "")
    return name


def _feature_network(name: str) -> nn.Module:
    """timm's network cut down to its features at STRIDES, with random weights."""
    import timm

    remedy = f"choose another, such as {DEFAULT_BACKBONE}"
    try:
        by_stride = _levels(name)
    except Exception as error:
        raise InputError(f"backbone {name} gives no features ({_reason(error)})", remedy=remedy) from error
    if any(s not in by_stride for s in STRIDES):
        raise InputError(
            f"backbone {name} has features at strides {sorted(by_stride)}, expected {list(STRIDES)} among them",
            remedy=remedy,
        )
    indices = tuple(by_stride[s] for s in STRIDES)
    module: nn.Module = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
    return module


def _levels(name: str) -> dict[int, int]:
    """Stride -> timm's number of the last level that has it, which has seen the most layers."""
    import timm
    import torch

    try:
        with torch.device("meta"):  # no memory, no time: VGG's classifier alone is half a gigabyte
            network = timm.create_model(name, pretrained=False, features_only=True)
    except Exception:
        network = timm.create_model(name, pretrained=False, features_only=True)
    info = network.feature_info  # of the levels that are given by default, which need not begin with the first
    return {int(r): int(i) for r, i in zip(info.reduction(), info.out_indices, strict=True)}


def _tried(module: nn.Module, name: str) -> tuple[int, ...]:
    """Channels of the four maps, found by running a frame through; InputError where that gives anything else."""
    import torch

    training = module.training
    try:
        with torch.no_grad():
            maps: list[Tensor] = module.eval()(torch.zeros(1, 3, *TRIAL_HW))
    except Exception as error:
        raise InputError(
            f"backbone {name} can't take a frame of {TRIAL_HW[0]}x{TRIAL_HW[1]} ({_reason(error)})",
            remedy=f"choose one that takes any size, such as {DEFAULT_BACKBONE}",
        ) from error
    finally:
        module.train(training)
    channels = tuple(int(c) for c in cast("Any", module).feature_info.channels())
    shapes = [tuple(m.shape) for m in maps]
    if [s[1] for s in shapes] != list(channels) or not all(_near(s, t) for s, t in zip(shapes, STRIDES, strict=True)):
        raise InputError(
            f"backbone {name} gives maps {shapes} for a frame of {TRIAL_HW[0]}x{TRIAL_HW[1]}, expected channels first "
            f"at strides {list(STRIDES)}",
            remedy=f"choose another, such as {DEFAULT_BACKBONE}",
        )
    return channels


def _near(shape: tuple[int, ...], stride: int) -> bool:
    """Whether a map has the cells of this stride, less what unpadded convolutions take off its sides."""
    return len(shape) == 4 and all(
        0.3 * side / stride <= cells <= side / stride + 1 for side, cells in zip(TRIAL_HW, shape[2:], strict=True)
    )


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


def _input_range(module: nn.Module, name: str) -> InputRange:
    if "efficientnet_lite" in name:
        return LITE_RANGE
    config = getattr(module, "default_cfg", None) or {}
    mean = config.get("mean", (0.485, 0.456, 0.406))
    std = config.get("std", (0.229, 0.224, 0.225))
    scaled = [tuple(float(v) * 255 for v in values) for values in (mean, std)]
    return InputRange((scaled[0][0], scaled[0][1], scaled[0][2]), (scaled[1][0], scaled[1][1], scaled[1][2]))
