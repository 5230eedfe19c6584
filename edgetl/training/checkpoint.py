"""Checkpoints: everything that export and resume need, in plain types, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgetl.models.backbone import WeightSource, build_backbone
from edgetl.models.detector import Detector
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a checkpoint is: architecture, classes, preprocessing, and where weights and data came from.

    folded: the backbone's batch norms are folded into its convolutions.
    """

    task: str
    backbone: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    weights: WeightSource
    data: str
    data_root: str
    data_sha256: str
    metric: str = "ap50"
    value: float = 0.0
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model card, the weights (EMA where kept), and the training state for --resume or None."""

    card: ModelCard
    model: dict[str, Tensor]
    training: dict[str, Any] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write to a temporary name beside `path`, then rename. Raises InputError when the disk refuses."""
    import torch

    temporary = path.with_name(path.name + ".part")
    document = {
        "format": FORMAT,
        "card": msgspec.to_builtins(checkpoint.card),
        "model": checkpoint.model,
        "training": checkpoint.training,
    }
    try:
        torch.save(document, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: the checkpoint can't be written ({error})", remedy="free some space") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running code from it. Raises InputError for any other file."""
    import torch

    if path.is_dir():
        path = path / "best.pt"
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint", remedy="make one with: edgetl tune DATA --out DIR")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError("not written by edgetl tune")
        card = msgspec.convert(document["card"], ModelCard)
        return Checkpoint(card, document["model"], document["training"])
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{path}: not an edgetl checkpoint ({reason})", remedy="give the best.pt that edgetl tune wrote"
        ) from error


def load_detector(path: Path) -> tuple[Detector, ModelCard]:
    """The detector in a checkpoint, in eval mode."""
    checkpoint = load_checkpoint(path)
    model = Detector(
        build_backbone(checkpoint.card.backbone, "none", fold=checkpoint.card.folded), len(checkpoint.card.classes)
    )
    try:
        model.load_state_dict(checkpoint.model)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: its weights are not those of {checkpoint.card.backbone} with "
            f"{len(checkpoint.card.classes)} classes",
            remedy="give the checkpoint that edgetl tune wrote",
        ) from error
    return model.eval(), checkpoint.card
