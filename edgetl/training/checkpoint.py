"""Checkpoints: everything that export and resume need, in plain types, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgetl.data import Reading
from edgetl.heads import build_network, kinds_of
from edgetl.models.backbone import WeightSource
from edgetl.models.network import Network
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Head, Preprocess, Reliability

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a checkpoint is: architecture, heads, preprocessing, and where weights and data came from.

    folded: the backbone's batch norms are folded into its convolutions. metric, value: on the validation images that
    it was chosen by. history: what was done to the weights since, a line each. reliability: of the heads that have
    scores. reading: how data_root was read.
    """

    heads: tuple[Head, ...]
    backbone: str
    preprocess: Preprocess
    weights: WeightSource
    data: str
    data_root: str
    data_sha256: str
    metric: str = ""
    value: float = 0.0
    folded: bool = False
    history: tuple[str, ...] = ()
    reliability: dict[str, Reliability] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)

    def data_from(self, given: Path | None, reading: Reading) -> tuple[Path, Reading]:
        """Where data is and how it is read: as given, and else as it was when this was tuned.

        That holds of the directory of then alone, and of one that was given for it where it is gone.
        """
        then = Path(self.data_root)
        if given is None or given.resolve() == then.resolve() or not then.exists():
            return given or then, reading.over(self.reading)
        return given, reading


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


def checkpoint_file(path: Path) -> Path:
    """The file that a run's folder, or a file itself, stands for."""
    return path / "best.pt" if path.is_dir() else path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running code from it. Raises InputError for any other file."""
    import torch

    path = checkpoint_file(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint", remedy="make one with: edgetl tune DATA --out DIR")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(document, dict) or "format" not in document:
            raise ValueError("not written by edgetl tune")
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, this edgetl reads {FORMAT}: tune again")
        card = msgspec.convert(document["card"], ModelCard)
        return Checkpoint(card, document["model"], document["training"])
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{path}: not an edgetl checkpoint ({reason})", remedy="give the best.pt that edgetl tune wrote"
        ) from error


def load_network(path: Path) -> tuple[Network, ModelCard]:
    """The network in a checkpoint, in eval mode."""
    checkpoint = load_checkpoint(path)
    return network_from(checkpoint, path), checkpoint.card


def network_from(checkpoint: Checkpoint, path: Path) -> Network:
    """A network with a checkpoint's weights, in eval mode; `path` is for messages."""
    card = checkpoint.card
    kinds = kinds_of(card.heads, backbone=card.backbone)
    model = build_network(card.backbone, "none", kinds, fold=card.folded).network
    try:
        model.load_state_dict(checkpoint.model)
    except (RuntimeError, TypeError, AttributeError) as error:
        heads = ", ".join(f"{h.name} ({len(h.labels)} classes)" for h in card.heads)
        raise InputError(
            f"{path}: its weights are not those of {card.backbone} with the heads {heads}",
            remedy="give the checkpoint that edgetl tune wrote",
        ) from error
    return model.eval()
