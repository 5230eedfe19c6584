"""What a run keeps: the best weights by validation, the last state for --resume, and what is fitted at the end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from edgetl.answers import MOST_BYTES, keep_answers
from edgetl.data import Dataset
from edgetl.heads import Kind, kinds_of
from edgetl.metrics.predict import Evaluation, Frames, evaluate, scored_kinds
from edgetl.models.deploy import deployable
from edgetl.models.infer import RunOnce, TorchInfer
from edgetl.models.network import Network
from edgetl.training.checkpoint import Checkpoint, ModelCard, load_checkpoint, network_from, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.logs import CurveLog
from edgetl.training.mix import best_mixture
from edgetl.training.trust import fit_trust
from edgetl_runtime.errors import InputError

AVERAGED = "averaged with the probe"


@dataclass
class Progressed:
    """How far a run is: counts that --resume picks up."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0
    stale: int = 0
    seconds: float = 0.0
    probed: bool = False
    mixed: bool = False


class Keeper:
    """Validates, logs and saves for one run; of several processes only the first has one."""

    def __init__(
        self,
        out: Path,
        card: ModelCard,
        model: Network,
        kinds: Sequence[Kind],
        frames: Frames,
        config: TuneConfig,
        at: Progressed,
        *,
        resume: bool,
    ) -> None:
        self.out, self.card, self.config, self.at = out, card, config, at
        self.best_heads: dict[str, float] = {}
        self._model, self._kinds, self.frames = model, kinds, frames
        self._scored = scored_kinds(kinds, frames.dataset)
        self._log = CurveLog(out, _columns(kinds, config), after=at.step if resume and at.probed else None)
        self._started = time.monotonic() - at.seconds

    @property
    def seconds(self) -> float:
        """Time spent on the run, before and after a resume."""
        return time.monotonic() - self._started

    def close(self) -> None:
        """Close the curve's files."""
        self._log.close()

    def row(self, phase: str, epoch: int, step: int, loss: float, parts: Mapping[str, float], lr: float) -> None:
        """One line of the training curve."""
        self._write(step, {"phase": phase, "epoch": epoch, "loss": loss, "lr": lr, **parts})

    def score(self, state: Mapping[str, Tensor]) -> Evaluation:
        """The metric of these weights on the validation images; the model's own are put back."""
        live = {k: v.detach().clone() for k, v in self._model.state_dict().items()}
        self._model.load_state_dict(dict(state))
        self._model.eval()
        found = evaluate(TorchInfer(self._model, self._kinds, self.card.preprocess), self.frames, self._scored)
        self._model.load_state_dict(live)
        return found

    def validate(self, state: Mapping[str, Tensor], phase: str) -> Evaluation:
        """The metric of these weights, kept as the best where they are."""
        found = self.score(state)
        if not math.isfinite(found.value):
            raise InputError(
                f"{self.frames.dataset.name}: nothing in its {len(self.frames)} images can be scored",
                remedy="give validation images with labels, or more of them with --val-images",
            )
        if found.value > self.at.best:
            self.keep(state, found, phase if phase in {"probe", "start"} else f"epoch {self.at.epoch}")
        heads = {f"val_{name}": value for name, value in found.values.items()}
        self._write(self.at.step, {"phase": phase, "epoch": self.at.epoch, "val": found.value, **heads})
        return found

    def keep(self, state: Mapping[str, Tensor], found: Evaluation, note: str) -> None:
        """Write best.pt."""
        self.best_heads = found.values
        card = dataclasses.replace(
            self.card, metric=found.metric, value=found.value, history=(*self.card.history, note)
        )
        save_checkpoint(self.out / "best.pt", Checkpoint(card, _on_cpu(state)))

    def mix(self) -> float:
        """Try weights between the probe's and the best, keep a mixture that is as good; the best value after it."""
        if not (self.out / "probe.pt").is_file():
            return self.at.best
        best = load_checkpoint(self.out / "best.pt")
        if best.card.history[-1:] == ("probe",):
            return self.at.best
        if best.card.history[-1:] and best.card.history[-1].startswith(AVERAGED):  # before the run was killed
            return best.card.value
        first = load_checkpoint(self.out / "probe.pt").model
        found = best_mixture(first, best.model, self.at.best, lambda state: self.score(state).value)
        if found.state is not None:
            note = f"{AVERAGED}, {found.share:.0%} of the fine-tuned weights"
            self.keep(found.state, self.score(found.state), note)
        return found.value

    def trust(self, frames: Frames) -> Checkpoint:
        """Fit temperature and thresholds of the best weights on these validation images, and write them.

        The network runs as it is exported, and what it answers is kept: `export` need not ask again.
        """
        path = self.out / "best.pt"
        best = load_checkpoint(path)
        network = deployable(network_from(best, path)).to(next(self._model.parameters()).device)
        run = RunOnce(network, best.card.preprocess, MOST_BYTES)
        heads, reliability = fit_trust(run.decoded(self._kinds), frames, self._kinds)
        trusted = Checkpoint(dataclasses.replace(best.card, heads=heads, reliability=reliability), best.model)
        save_checkpoint(path, trusted)
        if run.holds(frames.images):
            infer = run.decoded(kinds_of(heads, backbone=best.card.backbone))
            keep_answers(path, frames.images, [infer(image) for image in frames.images])
        return trusted

    def save_last(self, average: Mapping[str, Tensor], training: Mapping[str, Any]) -> None:
        """Write last.pt: averaged weights, and all that --resume needs."""
        self.at.seconds = self.seconds
        state = {
            "config": msgspec.to_builtins(self.config),
            "at": dataclasses.asdict(self.at),
            "best_heads": dict(self.best_heads),
            "val_sha256": self.frames.dataset.fingerprint(),
            **training,
        }
        save_checkpoint(self.out / "last.pt", Checkpoint(self.card, _on_cpu(average), state))

    def _write(self, step: int, values: Mapping[str, float | int | str]) -> None:
        self.at.seconds = self.seconds
        self._log.write(step, {"seconds": self.at.seconds, **values})


def _columns(kinds: Sequence[Kind], config: TuneConfig) -> list[str]:
    columns = []
    for kind in kinds:
        parts = (*kind.losses, *(("imitation",) if config.teacher else ()))
        columns += [f"{kind.head.name}_{part}" for part in parts] + [f"val_{kind.head.name}"]
    return columns


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().cpu() for k, v in state.items()}


def read_last(path: Path, card: ModelCard, config: TuneConfig, val: Dataset) -> Checkpoint:
    """The saved state of a run. Raises InputError where it was made with other data or settings."""
    saved = load_checkpoint(path)
    if saved.training is None or saved.card.data_sha256 != card.data_sha256:
        raise InputError(f"{path}: was trained on other data than {card.data}", remedy="use another --out")
    val_sha256 = val.fingerprint()
    if saved.training.get("val_sha256", val_sha256) != val_sha256:  # what is the best by one is not by another
        raise InputError(f"{path}: was judged by other images than {val.name}", remedy="resume with the same --val")
    now = msgspec.to_builtins(config)
    if saved.training["config"] != now:
        changed = [k for k, v in now.items() if saved.training["config"].get(k) != v]
        raise InputError(
            f"{path}: the run has other settings: {', '.join(changed)}", remedy="resume with the same command"
        )
    return saved
