"""Fine-tuning: probe, train, validate, keep the best, average where that helps; stops and resumes anywhere."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from edgetl.answers import JUDGED_IMAGES
from edgetl.data import Dataset, Reading, same_classes
from edgetl.metrics.predict import Frames, scored_kinds
from edgetl.models.detr import DetrNetwork
from edgetl.models.normalise import Normalise
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import Batch, augmented_batches
from edgetl.training.checkpoint import Checkpoint, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.interrupt import Interrupt, TuneStopped
from edgetl.training.keep import Keeper, Progressed, read_last
from edgetl.training.learn import Balance, LossNotFinite, train_step
from edgetl.training.memory import fitting_batch, out_of_memory
from edgetl.training.optimise import (
    Average,
    freeze_first,
    freeze_statistics,
    parameter_groups,
    train_only,
)
from edgetl.training.probe import ProbeEpoch, probe
from edgetl.training.sheet import write_sheet
from edgetl.training.start import first_model, load_teacher
from edgetl.training.team import Team
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress

__all__ = ["LossNotFinite", "TuneResult", "TuneStopped", "tune"]


ONE_CELL = "more than 1 value per channel"
"""What torch says where a batch norm in training gets a single value for each channel."""


@dataclass(frozen=True, slots=True)
class TuneResult:
    """best: path of the best checkpoint. metric, value: on the validation images used while training, in 0..1.

    heads: the value of each head. stopped_early: fewer epochs than asked for, because nothing improved.
    """

    best: Path
    metric: str
    value: float
    heads: dict[str, float]
    epochs: int
    steps: int
    seconds: float
    train_images: int
    stopped_early: bool


def tune(
    train: Dataset,
    val: Dataset,
    out: Path,
    config: TuneConfig,
    *,
    resume: bool = False,
    data_root: str = "",
    reading: Reading | None = None,
) -> TuneResult:
    """Fine-tune on `train`, choose by `val`, write best.pt, last.pt, metrics.csv and TensorBoard into `out`.

    data_root, reading: where both came from and how, for the commands that go on from the checkpoint.
    Raises TuneStopped after Ctrl-C with everything saved, LossNotFinite naming the batch, InputError for
    data that does not fit.
    """
    same_classes(train, val)
    run = _Run(train, val, out, config, data_root, reading, resume=resume)
    with Interrupt() as interrupt:
        try:
            result = run.go(interrupt)
            run.team.close()
            return result
        except ValueError as error:
            if ONE_CELL not in str(error):
                raise
            raise InputError(
                f"a batch of {config.batch} with crops of {config.crop_hw[1]}x{config.crop_hw[0]} has maps of one "
                "cell, which a batch norm can't learn from",
                remedy="give a larger --batch or --crop",
            ) from error
        finally:
            if run.keeper:
                run.keeper.close()


class _Run:
    """The state of one fine-tuning run."""

    def __init__(
        self,
        train: Dataset,
        val: Dataset,
        out: Path,
        config: TuneConfig,
        data_root: str,
        reading: Reading | None,
        *,
        resume: bool,
    ) -> None:
        torch.manual_seed(config.seed)
        self.train_set, self.val_set, self.out, self.config, self.team = train, val, out, config, Team()
        val = val.take(config.val_images)
        self.card, model, self.kinds = first_model(train, config, data_root, reading)
        scored_kinds(self.kinds, val)
        self.transfer = config.weights != "none" or bool(config.start)
        self.model = model.to(device=self.team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teacher = None
        if config.teacher:
            teacher = load_teacher(Path(config.teacher), self.card)
            self.teacher = teacher.to(self.team.device)
        self.normalise = Normalise(self.card.preprocess).to(self.team.device)
        self.of_queries = isinstance(model, DetrNetwork)
        if self.transfer and not self.of_queries:  # which is pretrained whole, and was published to be tuned whole
            self._freeze()
        groups = parameter_groups(self.model, config, transfer=self.transfer)
        self.optimiser = torch.optim.AdamW(groups, foreach=True)
        self.average = Average(self.model, config.ema_decay)
        self.balance = Balance()
        self.at = Progressed()
        heads = self._restore(val) if resume else {}
        self.keeper = None
        if self.team.first:
            frames = Frames(val, self.card.preprocess, title="val images")
            self.keeper = Keeper(out, self.card, self.model, self.kinds, frames, config, self.at, resume=resume)
            self.keeper.best_heads = heads
            if not resume:
                write_sheet(out / "augmentation.jpg", train, self._augment(), self.kinds, config)
        self.batches_an_epoch = max(len(train) // (config.batch * self.team.size), 1)

    def _augment(self) -> AugmentConfig:
        return AugmentConfig(zoom=self.config.zoom, pad_value=self.card.preprocess.pad_value)

    def _freeze(self) -> None:
        config, backbone = self.config, self.model.eval().backbone
        if config.recipe == "surgical":
            train_only(backbone, config.surgical_strides)
        elif config.recipe != "full" and config.freeze_stride:
            freeze_first(backbone, config.freeze_stride)

    def go(self, interrupt: Interrupt) -> TuneResult:
        """Probe, then fine-tune, then average, then fit what scores mean."""
        config, at = self.config, self.at
        if config.probes and config.weights != "none" and not config.start and not at.probed and self.keeper:
            if self.of_queries:
                sys.stderr.write(f"tune         {self.card.backbone} has nothing to probe: it is fine-tuned whole\n")
            else:
                self._probe(interrupt, self.keeper)
        if config.start and not at.probed and self.keeper:
            at.best = self.keeper.validate(self.average.state, "start").value  # what comes of it must be better
        at.probed = True
        at.best = self.team.agreed(at.best)
        learning = self.team.wrapped(self.model)
        self.average.state = self.team.agreed(self.average.state)
        steps = config.finetune_epochs * self.batches_an_epoch
        with Progress("fine-tune", steps, unit="steps", enabled=steps > 0 and self.team.first) as progress:
            progress.done = at.step
            while at.epoch < config.finetune_epochs and not self._tired():
                try:
                    self._epoch(learning, interrupt, progress, steps)
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    traceback.clear_frames(error.__traceback__)  # they hold what the failed step had in memory
                    raise self._too_large() from error
        metric = self._finish(self.keeper) if self.keeper else ""
        at.best, metric = self.team.agreed((at.best, metric))
        return TuneResult(
            best=self.out / "best.pt",
            metric=metric,
            value=at.best,
            heads=dict(self.keeper.best_heads) if self.keeper else {},
            epochs=at.epoch,
            steps=at.step,
            seconds=self.keeper.seconds if self.keeper else 0.0,
            train_images=len(self.train_set),
            stopped_early=at.epoch < config.finetune_epochs,
        )

    def _finish(self, keeper: Keeper) -> str:
        if not (self.out / "best.pt").is_file():
            self.at.best = keeper.validate(self.average.state, "start").value
        if self.config.average and self.at.step and not self.at.mixed:
            self.at.best = keeper.mix()
        self.at.mixed = True
        metric = keeper.trust(self._judging_frames(keeper.frames)).card.metric
        self._save_last()
        return metric

    def _judging_frames(self, frames: Frames) -> Frames:
        """Validation images that the best network is judged by at last, more than the `frames` between epochs."""
        more = self.val_set.take(max(self.config.val_images, JUDGED_IMAGES))
        return frames if len(more) == len(frames) else Frames(more, self.card.preprocess, title="val images")

    def _tired(self) -> bool:
        return 0 < self.config.patience <= self.at.stale

    def _probe(self, interrupt: Interrupt, keeper: Keeper) -> None:
        """After Ctrl-C it starts anew; features that were computed whole are kept."""

        def row(done: ProbeEpoch) -> None:
            keeper.row("probe", done.epoch, done.step, done.loss, done.parts, done.lr)

        def pause() -> None:
            if interrupt.asked:
                self._stop()

        probe(
            self.model,
            self.kinds,
            self.train_set,
            self.card.preprocess,
            self.config,
            after_each=pause,
            on_epoch=row,
        )
        self.average = Average(self.model, self.config.ema_decay)
        self.at.best = max(keeper.validate(self.average.state, "probe").value, self.at.best)
        save_checkpoint(self.out / "probe.pt", Checkpoint(self.card, dict(self.average.state)))

    def _epoch(self, learning: torch.nn.Module, interrupt: Interrupt, progress: Progress, steps: int) -> None:
        config, at = self.config, self.at
        learning.train()
        if self.transfer:
            freeze_statistics(self.model.backbone.modules(), learnt=not config.frozen_norms)
        value = 0.0
        figures: dict[str, float] = {}
        for batch in self._batches():
            # For dropout: every step its own chance, the same in a resumed run and another in each process.
            torch.manual_seed((config.seed * 1_000_003 + at.step * self.team.size + self.team.rank) % 2**63)
            value, figures = train_step(
                learning,
                batch,
                self.kinds,
                self.normalise,
                self.optimiser,
                self.balance,
                step=at.step,
                steps=steps,
                teacher=self.teacher,
                imitation=config.imitation,
            )
            self.average.update(self.model)
            at.step += 1
            at.batch += 1
            progress.step(note=f"epoch {at.epoch + 1}/{config.epochs}  loss {value:.3f}")
            if self.team.agreed(interrupt.asked):
                self._stop()
        at.epoch += 1
        at.batch = 0
        if figures and self.keeper:
            rate = float(self.optimiser.param_groups[0]["lr"])
            self.keeper.row("fine-tune", at.epoch, at.step, value, figures, rate)
        if at.epoch % config.val_every == 0 or at.epoch == config.finetune_epochs:
            self._validate(progress)
        self._save_last()

    def _batches(self) -> Iterator[Batch]:
        """This process's share of the epoch from where the run is, on its device."""
        config, at, device = self.config, self.at, self.team.device
        for batch in augmented_batches(
            self.train_set,
            self.kinds,
            crop_hw=config.crop_hw,
            network_hw=config.size_hw,
            batch=config.batch,
            seed=config.seed,
            epoch=at.epoch,
            skip=at.batch,
            balance=config.balance,
            config=self._augment(),
            share=self.team.share,
        ):
            targets = {name: tuple(t.to(device) for t in each) for name, each in batch.targets.items()}
            yield Batch(batch.frames.to(device), targets, batch.names)

    def _validate(self, progress: Progress) -> None:
        value = 0.0
        if self.keeper:
            found = self.keeper.validate(self.average.state, "fine-tune")
            progress.note, value = f"val {found.metric} {found.value:.3f}", found.value
        value = self.team.agreed(value)
        self.at.stale = 0 if value > self.at.best else self.at.stale + 1
        self.at.best = max(self.at.best, value)

    def _stop(self) -> None:
        """Save, and raise TuneStopped."""
        self._save_last()
        where = f"epoch {self.at.epoch + 1}, step {self.at.step}" if self.at.probed else "the probe"
        raise TuneStopped(
            f"stopped at {where}; saved {self.out / 'last.pt'}", remedy="go on with the same command and --resume"
        )

    def _too_large(self) -> InputError:
        config = self.config
        fits = fitting_batch(self.model, self.kinds, self.normalise, config.crop_hw, config.batch)
        height, width = config.crop_hw
        remedy = f"give --batch {fits}" if fits else "give a smaller --crop, even one frame is too large"
        return InputError(f"a batch of {config.batch} frames of {width}x{height} does not fit in memory", remedy=remedy)

    def _save_last(self) -> None:
        if self.keeper:
            training = {
                "live": dict(self.model.state_dict()),
                "optimiser": self.optimiser.state_dict(),
                "average_updates": self.average.updates,
                "balance": dict(self.balance.means),
            }
            self.keeper.save_last(self.average.state, training)

    def _restore(self, val: Dataset) -> dict[str, float]:
        """Put the run where it was; the best value of each head until then."""
        saved = read_last(self.out / "last.pt", self.card, self.config, val)
        training = saved.training
        assert training is not None
        if not training["at"]["probed"]:
            return {}  # the probe starts anew, from the same seed
        self.model.load_state_dict(training["live"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.average.state = {k: v.to(self.team.device) for k, v in saved.model.items()}
        self.average.updates = training["average_updates"]
        self.balance.means = training["balance"]
        self.at = Progressed(**training["at"])
        heads: dict[str, float] = training["best_heads"]
        return heads
