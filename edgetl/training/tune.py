"""Fine-tuning: probe, train, validate, keep the best, average where that helps; stops and resumes anywhere."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from edgetl.data import Dataset
from edgetl.metrics.predict import Evaluation, Frames, evaluate, scored_kinds
from edgetl.models.infer import TorchInfer
from edgetl.models.normalise import Normalise
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import augmented_batches
from edgetl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.interrupt import Interrupt, TuneStopped
from edgetl.training.learn import Balance, LossNotFinite, apply_step, head_losses
from edgetl.training.logs import CurveLog
from edgetl.training.memory import fitting_batch, out_of_memory
from edgetl.training.mix import best_mixture
from edgetl.training.optimise import (
    Average,
    blocks_of,
    freeze_statistics,
    parameter_groups,
    rate_at,
    set_rate,
    train_only,
)
from edgetl.training.probe import ProbeEpoch, probe
from edgetl.training.start import first_model, load_teacher
from edgetl.training.trust import fit_trust
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import task_of

__all__ = ["LossNotFinite", "TuneResult", "TuneStopped", "tune"]


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


def tune(
    train: Dataset, val: Dataset, out: Path, config: TuneConfig, *, resume: bool = False, data_root: str = ""
) -> TuneResult:
    """Fine-tune on `train`, choose by `val`, write best.pt, last.pt, metrics.csv and TensorBoard into `out`.

    Raises TuneStopped after Ctrl-C with everything saved, LossNotFinite naming the batch, InputError for
    data that does not fit.
    """
    _same_labels(train, val)
    run = _Run(train, val.take(config.val_images), out, config, data_root=data_root, resume=resume)
    with Interrupt() as interrupt:
        try:
            return run.go(interrupt)
        finally:
            run.log.close()


def _same_labels(train: Dataset, val: Dataset) -> None:
    for what in ("classes", "categories", "layers"):
        if getattr(train, what) != getattr(val, what):
            raise InputError(
                f"the splits name different {what}: {getattr(train, what)} and {getattr(val, what)}",
                remedy="give splits of one dataset",
            )


class _Run:
    """The state of one fine-tuning run."""

    def __init__(
        self, train: Dataset, val: Dataset, out: Path, config: TuneConfig, *, data_root: str, resume: bool
    ) -> None:
        torch.manual_seed(config.seed)
        self.train_set, self.out, self.config = train, out, config
        self.card, model, self.kinds = first_model(train, config, data_root)
        self.scored = scored_kinds(self.kinds, val)
        self.transfer = config.weights != "none" or bool(config.start)
        self.teacher = None
        if config.teacher:
            self.teacher = load_teacher(Path(config.teacher), self.card.heads, self.card.preprocess)
        self.normalise = Normalise(self.card.preprocess)
        self.model = model.to(memory_format=torch.channels_last)
        if self.transfer:
            self._freeze()
        groups = parameter_groups(self.model, config, transfer=self.transfer)
        self.optimiser = torch.optim.AdamW(groups, foreach=True)
        self.average = Average(self.model, config.ema_decay)
        self.balance = Balance()
        self.at = Progressed()
        self._best_heads: dict[str, float] = {}
        if resume:
            self._restore()
        self.frames = Frames(val, self.card.preprocess, title="val images")
        self.log = CurveLog(out, self._columns(), resume=resume)
        self.batches_an_epoch = max(len(train) // config.batch, 1)
        self.started = time.monotonic() - self.at.seconds

    def _freeze(self) -> None:
        config, backbone = self.config, self.model.eval().backbone
        if config.recipe == "surgical":
            train_only(backbone, config.surgical_strides)
        elif config.recipe != "full" and config.freeze_stride:
            train_only(backbone, [s for s in blocks_of(backbone) if s > config.freeze_stride])

    def _columns(self) -> list[str]:
        losses = {"detect": ("heat", "box"), "segment": ("mask", "dice"), "classify": ("category",)}
        columns = []
        for kind in self.kinds:
            parts = (*losses[task_of(kind.head)], *(("imitation",) if self.config.teacher else ()))
            columns += [f"{kind.head.name}_{part}" for part in parts] + [f"val_{kind.head.name}"]
        return columns

    def go(self, interrupt: Interrupt) -> TuneResult:
        """Probe, then fine-tune, then average."""
        config = self.config
        if config.probes and config.weights != "none" and not config.start and not self.at.probed:
            self._probe(interrupt)
        self.at.probed = True
        steps = config.finetune_epochs * self.batches_an_epoch
        with Progress("fine-tune", steps, unit="steps", enabled=steps > 0) as progress:
            progress.done = self.at.step
            while self.at.epoch < config.finetune_epochs and not self._tired():
                try:
                    self._epoch(interrupt, progress, steps)
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    raise self._too_large() from error
        if not (self.out / "best.pt").is_file():
            self._validate("start")
        if config.average and self.at.step and not self.at.mixed:
            self._mix()
        best = self._trust()
        seconds = time.monotonic() - self.started
        return TuneResult(
            best=self.out / "best.pt",
            metric=best.card.metric,
            value=self.at.best,
            heads=dict(self._best_heads),
            epochs=self.at.epoch,
            steps=self.at.step,
            seconds=seconds,
            train_images=len(self.train_set),
            stopped_early=self.at.epoch < config.finetune_epochs,
        )

    def _tired(self) -> bool:
        return 0 < self.config.patience <= self.at.stale

    def _probe(self, interrupt: Interrupt) -> None:
        """After Ctrl-C it starts anew; features that were computed whole are kept."""

        def row(done: ProbeEpoch) -> None:
            self._row("probe", done.epoch, done.step, done.loss, done.parts, done.lr)

        probe(
            self.model,
            self.kinds,
            self.train_set,
            self.card.preprocess,
            self.config,
            after_each=lambda: self._stop_if_asked(interrupt),
            on_epoch=row,
        )
        self.average = Average(self.model, self.config.ema_decay)
        self._validate("probe")
        save_checkpoint(self.out / "probe.pt", Checkpoint(self.card, dict(self.average.state)))

    def _epoch(self, interrupt: Interrupt, progress: Progress, steps: int) -> None:
        config, at = self.config, self.at
        self.model.train()
        if self.transfer:
            freeze_statistics(self.model.backbone.modules())
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        value = 0.0
        figures: dict[str, float] = {}
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
            config=AugmentConfig(zoom=config.zoom, pad_value=self.card.preprocess.pad_value),
        ):
            set_rate(self.optimiser, rate_at(at.step, steps, warmup=min(60, steps // 10 + 1)))
            x = self.normalise(batch.frames).contiguous(memory_format=torch.channels_last)
            teacher = None
            if self.teacher is not None:
                with torch.no_grad():
                    teacher = self.teacher(x)
            losses, figures = head_losses(
                self.model(x), batch.targets, self.kinds, teacher=teacher, imitation=config.imitation
            )
            total = self.balance(losses)
            apply_step(total, self.optimiser, parameters, step=at.step, names=batch.names)
            self.average.update(self.model)
            at.step += 1
            at.batch += 1
            value = total.item()
            progress.step(note=f"epoch {at.epoch + 1}/{config.epochs}  loss {value:.3f}")
            self._stop_if_asked(interrupt)
        at.epoch += 1
        at.batch = 0
        if figures:
            self._row("fine-tune", at.epoch, at.step, value, figures, float(self.optimiser.param_groups[0]["lr"]))
        if at.epoch % config.val_every == 0 or at.epoch == config.finetune_epochs:
            found = self._validate("fine-tune")
            progress.note = f"val {found.metric} {found.value:.3f}"
        self._save_last()

    def _mix(self) -> None:
        """Try weights between the probe's and the best; keep a mixture that is as good."""
        if (self.out / "probe.pt").is_file():
            first = load_checkpoint(self.out / "probe.pt").model
            best = load_checkpoint(self.out / "best.pt")
            if best.card.history[-1:] != ("probe",):
                found = best_mixture(first, best.model, self.at.best, lambda state: self._score(state).value)
                if found.state is not None:
                    note = f"averaged with the probe, {found.share:.0%} of the fine-tuned weights"
                    self._keep(found.state, self._score(found.state), note)
        self.at.mixed = True
        self._save_last()

    def _trust(self) -> Checkpoint:
        """Fit temperature and thresholds of the best weights on the validation images."""
        best = load_checkpoint(self.out / "best.pt")
        self.model.load_state_dict(best.model)
        infer = TorchInfer(self.model.eval(), self.kinds, self.card.preprocess)
        heads, reliability = fit_trust(infer, self.frames, self.kinds)
        card = dataclasses.replace(best.card, heads=heads, reliability=reliability)
        trusted = Checkpoint(card, best.model)
        save_checkpoint(self.out / "best.pt", trusted)
        return trusted

    def _stop_if_asked(self, interrupt: Interrupt) -> None:
        """After Ctrl-C: save, and raise TuneStopped."""
        if interrupt.asked:
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

    def _score(self, state: dict[str, torch.Tensor]) -> Evaluation:
        """The metric of these weights on the validation images; the model's own are put back."""
        live = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(state)
        self.model.eval()
        found = evaluate(TorchInfer(self.model, self.kinds, self.card.preprocess), self.frames, self.scored)
        self.model.load_state_dict(live)
        return found

    def _validate(self, phase: str) -> Evaluation:
        """The metric of the averaged weights; keeps the best."""
        found = self._score(self.average.state)
        if found.value > self.at.best:
            self._keep(self.average.state, found, "probe" if phase == "probe" else f"epoch {self.at.epoch}")
            self.at.stale = 0
        else:
            self.at.stale += 1
        self.at.seconds = time.monotonic() - self.started
        heads = {f"val_{name}": value for name, value in found.values.items()}
        row: dict[str, float | int | str] = {"phase": phase, "epoch": self.at.epoch, "seconds": self.at.seconds}
        self.log.write(self.at.step, {**row, "val": found.value, **heads})
        return found

    def _keep(self, state: dict[str, torch.Tensor], found: Evaluation, note: str) -> None:
        self.at.best, self._best_heads = found.value, found.values
        history = (*self.card.history, note)
        card = dataclasses.replace(self.card, metric=found.metric, value=found.value, history=history)
        save_checkpoint(self.out / "best.pt", Checkpoint(card, dict(state)))

    def _row(self, phase: str, epoch: int, step: int, loss: float, parts: dict[str, float], lr: float) -> None:
        self.at.seconds = time.monotonic() - self.started
        row: dict[str, float | int | str] = {"phase": phase, "epoch": epoch, "seconds": self.at.seconds}
        self.log.write(step, {**row, "loss": loss, "lr": lr, **parts})

    def _save_last(self) -> None:
        self.at.seconds = time.monotonic() - self.started
        training = {
            "config": msgspec.to_builtins(self.config),
            "at": {f: getattr(self.at, f) for f in Progressed.__dataclass_fields__},
            "live": dict(self.model.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "average_updates": self.average.updates,
            "balance": dict(self.balance.means),
            "best_heads": dict(self._best_heads),
        }
        save_checkpoint(self.out / "last.pt", Checkpoint(self.card, dict(self.average.state), training))

    def _restore(self) -> None:
        path = self.out / "last.pt"
        saved = load_checkpoint(path)
        training = saved.training
        if training is None or saved.card.data_sha256 != self.card.data_sha256:
            raise InputError(
                f"{path}: was trained on other data than {self.train_set.name}", remedy="use another --out"
            )
        now = msgspec.to_builtins(self.config)
        if training["config"] != now:
            changed = [k for k, v in now.items() if training["config"].get(k) != v]
            raise InputError(
                f"{path}: the run has other settings: {', '.join(changed)}", remedy="resume with the same command"
            )
        if not training["at"]["probed"]:
            return  # the probe starts anew, from the same seed
        self.model.load_state_dict(training["live"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.average.state = saved.model
        self.average.updates = training["average_updates"]
        self.balance.means = training["balance"]
        self._best_heads = training["best_heads"]
        self.at = Progressed(**training["at"])
