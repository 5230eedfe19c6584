"""Fine-tuning: probe the head on frozen features, then train everything, keep the best by validation AP."""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetl.data import Dataset
from edgetl.metrics.predict import Frames, Infer, evaluate
from edgetl.models.backbone import build_backbone
from edgetl.models.detector import Detector, decode_maps
from edgetl.models.normalise import Normalise
from edgetl.training.augment import AugmentConfig
from edgetl.training.batches import augmented_batches, epoch_order
from edgetl.training.checkpoint import Checkpoint, ModelCard, load_checkpoint, save_checkpoint
from edgetl.training.config import TuneConfig
from edgetl.training.features import FeatureCache
from edgetl.training.logs import CurveLog
from edgetl.training.loss import Losses, detection_loss
from edgetl.training.optimise import Average, freeze_statistics, freeze_up_to, parameter_groups, rate_at, set_rate
from edgetl_runtime.errors import EdgetlError, InputError
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Preprocess

GRADIENT_LIMIT = 10.0


class TuneStopped(EdgetlError):
    """Ctrl-C: the run was saved and goes on with --resume."""

    code = "stopped"
    exit_status = 130


class LossNotFinite(EdgetlError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""

    code = "loss"
    exit_status = 1


@dataclass(frozen=True, slots=True)
class TuneResult:
    """best: path of the best checkpoint. ap50: on the validation images used while training, in 0..1."""

    best: Path
    ap50: float
    epochs: int
    steps: int
    seconds: float
    train_images: int


@dataclass
class Progressed:
    """How far a run is: counts that --resume picks up."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best: float = -1.0
    seconds: float = 0.0
    probed: bool = False


def tune(
    train: Dataset, val: Dataset, out: Path, config: TuneConfig, *, resume: bool = False, data_root: str = ""
) -> TuneResult:
    """Fine-tune on `train`, choose by `val`, write best.pt, last.pt, metrics.csv and TensorBoard into `out`.

    Raises TuneStopped after Ctrl-C with everything saved, LossNotFinite naming the batch, InputError for
    data that does not fit.
    """
    if train.classes != val.classes:
        raise InputError(f"the splits name different classes: {train.classes} and {val.classes}")
    if all(s.ignore.all() for s in val.take(config.val_images).samples):
        raise InputError(f"{val.name}: no labelled object to choose the best checkpoint by")
    run = _Run(train, val, out, config, data_root=data_root, resume=resume)
    with _Interrupt() as interrupt:
        try:
            return run.go(interrupt)
        finally:
            run.log.close()


class _Interrupt:
    """Turns the first Ctrl-C into a flag, so that a step ends and is saved; the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> _Interrupt:
        try:
            self._before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread: Ctrl-C is somebody else's
            self._before = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


class _Run:
    """The state of one fine-tuning run."""

    def __init__(
        self, train: Dataset, val: Dataset, out: Path, config: TuneConfig, *, data_root: str, resume: bool
    ) -> None:
        torch.manual_seed(config.seed)
        self.train_set, self.out, self.config = train, out, config
        card, self.model = _new_model(train, config, data_root)
        self.card = card
        self.transfer = config.weights != "none"
        self.normalise = Normalise(card.preprocess)
        self.model = self.model.to(memory_format=torch.channels_last)
        if self.transfer and config.freeze_stride:
            freeze_up_to(self.model.eval().backbone, config.freeze_stride)
        groups = parameter_groups(self.model, config, transfer=self.transfer)
        self.optimiser = torch.optim.AdamW(groups, foreach=True)
        self.average = Average(self.model, config.ema_decay)
        self.at = Progressed()
        if resume:
            self._restore()
        self.frames = Frames(val.take(config.val_images), card.preprocess, title="val images")
        self.log = CurveLog(out, resume=resume)
        self.batches_an_epoch = max(len(train) // config.batch, 1)
        self.started = time.monotonic() - self.at.seconds

    def go(self, interrupt: _Interrupt) -> TuneResult:
        """Probe, then fine-tune."""
        config = self.config
        if config.probe_epochs and self.transfer and not self.at.probed:
            self._probe(interrupt)
        self.at.probed = True
        steps = config.epochs * self.batches_an_epoch
        with Progress("fine-tune", steps, unit="steps") as progress:
            progress.done = self.at.step
            while self.at.epoch < config.epochs:
                self._epoch(interrupt, progress, steps)
        if not (self.out / "best.pt").is_file():
            self._validate("probe")
        seconds = time.monotonic() - self.started
        return TuneResult(self.out / "best.pt", self.at.best, config.epochs, self.at.step, seconds, len(self.train_set))

    def _probe(self, interrupt: _Interrupt) -> None:
        """Train neck and head on cached features of the frozen backbone; after Ctrl-C it starts anew."""
        config, model = self.config, self.model
        model.eval()
        head = [*model.neck.parameters(), *model.head.parameters()]
        optimiser = torch.optim.AdamW(head, lr=config.probe_lr, weight_decay=config.weight_decay)
        for group in optimiser.param_groups:
            group["base_lr"] = config.probe_lr
        with FeatureCache(self.out) as cache:
            cache.fill(
                model.backbone, self.train_set, self.card.preprocess, after_each=lambda: self._stop_if_asked(interrupt)
            )
            model.neck.train()
            model.head.train()
            steps = config.probe_epochs * self.batches_an_epoch
            step = 0
            with Progress("probe", steps, unit="steps") as progress:
                for epoch in range(config.probe_epochs):
                    order = epoch_order(len(cache), seed=config.seed, epoch=10_000 + epoch)
                    for i in range(self.batches_an_epoch):
                        indices = order[i * config.batch : (i + 1) * config.batch]
                        features, targets = cache.batch(indices)
                        set_rate(optimiser, rate_at(step, steps, warmup=min(50, steps // 5 + 1)))
                        losses = detection_loss(model.head_on(features), targets)
                        self._learn(losses, optimiser, head, names=("cached features",))
                        step += 1
                        progress.step(note=f"loss {losses.total.item():.3f}")
                        self._stop_if_asked(interrupt)
                    self._row("probe", epoch, step - steps, losses, optimiser)
        self._validate("probe", step=0)

    def _epoch(self, interrupt: _Interrupt, progress: Progress, steps: int) -> None:
        config, at = self.config, self.at
        self.model.train()
        if self.transfer:
            freeze_statistics(self.model.backbone.modules())
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        losses: Losses | None = None
        for batch in augmented_batches(
            self.train_set,
            crop_hw=config.crop_hw,
            network_hw=config.size_hw,
            batch=config.batch,
            seed=config.seed,
            epoch=at.epoch,
            skip=at.batch,
            config=AugmentConfig(zoom=config.zoom, pad_value=self.card.preprocess.pad_value),
        ):
            set_rate(self.optimiser, rate_at(at.step, steps, warmup=min(60, steps // 10 + 1)))
            x = self.normalise(batch.frames).contiguous(memory_format=torch.channels_last)
            losses = detection_loss(self.model(x), batch.targets)
            self._learn(losses, self.optimiser, parameters, names=batch.names)
            self.average.update(self.model)
            at.step += 1
            at.batch += 1
            progress.step(note=f"epoch {at.epoch + 1}/{config.epochs}  loss {losses.total.item():.3f}")
            self._stop_if_asked(interrupt)
        at.epoch += 1
        at.batch = 0
        if losses is not None:
            self._row("fine-tune", at.epoch, at.step, losses, self.optimiser)
        if at.epoch % config.val_every == 0 or at.epoch == config.epochs:
            ap50 = self._validate("fine-tune", step=at.step)
            progress.note = f"val AP50 {ap50:.3f}"
        self._save_last()

    def _stop_if_asked(self, interrupt: _Interrupt) -> None:
        """After Ctrl-C: save, and raise TuneStopped."""
        if interrupt.asked:
            self._save_last()
            where = f"epoch {self.at.epoch + 1}, step {self.at.step}" if self.at.probed else "the probe"
            raise TuneStopped(
                f"stopped at {where}; saved {self.out / 'last.pt'}", remedy="go on with the same command and --resume"
            )

    def _learn(
        self, losses: Losses, optimiser: torch.optim.Optimizer, parameters: list[Any], *, names: tuple[str, ...]
    ) -> None:
        if not math.isfinite(losses.total.item()):
            raise self._not_finite("loss", losses.total.item(), names)
        optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_LIMIT)
        if not math.isfinite(norm.item()):
            raise self._not_finite("gradient", norm.item(), names)
        optimiser.step()

    def _not_finite(self, what: str, value: float, names: tuple[str, ...]) -> LossNotFinite:
        return LossNotFinite(
            f"the {what} is {value} at step {self.at.step} on the batch {', '.join(names)}",
            remedy="the last good checkpoint is kept; look at these images, or lower --backbone-lr and --head-lr",
        )

    def _validate(self, phase: str, *, step: int = 0) -> float:
        """AP50 of the averaged weights (of the present ones after the probe); keeps the best."""
        if phase == "probe":
            self.average = Average(self.model, self.config.ema_decay)
        live = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.state)
        self.model.eval()
        metric = evaluate(
            torch_infer(self.model, self.card.preprocess, self.config.max_detections),
            self.frames,
            max_detections=self.config.max_detections,
        )
        if metric.ap50 > self.at.best:
            self.at.best = metric.ap50
            card = dataclasses.replace(self.card, value=metric.ap50)
            save_checkpoint(self.out / "best.pt", Checkpoint(card, dict(self.average.state)))
        self.model.load_state_dict(live)
        self.at.seconds = time.monotonic() - self.started
        values: dict[str, float | int | str] = {"phase": phase, "epoch": self.at.epoch, "seconds": self.at.seconds}
        self.log.write(step, {**values, "val_ap50": metric.ap50, "val_ap": metric.ap})
        return metric.ap50

    def _row(self, phase: str, epoch: int, step: int, losses: Losses, optimiser: torch.optim.Optimizer) -> None:
        self.at.seconds = time.monotonic() - self.started
        self.log.write(
            step,
            {
                "phase": phase,
                "epoch": epoch,
                "seconds": self.at.seconds,
                "loss": losses.total.item(),
                "heat_loss": losses.heat.item(),
                "box_loss": losses.box.item(),
                "lr": float(optimiser.param_groups[0]["lr"]),
            },
        )

    def _save_last(self) -> None:
        self.at.seconds = time.monotonic() - self.started
        training = {
            "config": msgspec.to_builtins(self.config),
            "at": {f: getattr(self.at, f) for f in Progressed.__dataclass_fields__},
            "live": dict(self.model.state_dict()),
            "optimiser": self.optimiser.state_dict(),
            "average_updates": self.average.updates,
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
        if training["config"] != msgspec.to_builtins(self.config):
            changed = [k for k, v in msgspec.to_builtins(self.config).items() if training["config"].get(k) != v]
            raise InputError(
                f"{path}: the run has other settings: {', '.join(changed)}", remedy="resume with the same command"
            )
        if not training["at"]["probed"]:
            return  # the probe starts anew, from the same seed
        self.model.load_state_dict(training["live"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.average.state = saved.model
        self.average.updates = training["average_updates"]
        self.at = Progressed(**training["at"])


def _new_model(train: Dataset, config: TuneConfig, data_root: str) -> tuple[ModelCard, Detector]:
    """A detector for these classes, and its card."""
    transfer = config.weights != "none"
    backbone = build_backbone(config.backbone, config.weights, fold=transfer)
    preprocess = Preprocess(
        size_hw=config.size_hw, mean=backbone.input_range.mean, std=backbone.input_range.std, channel_order="rgb"
    )
    card = ModelCard(
        task=config.task,
        backbone=config.backbone,
        classes=train.classes,
        preprocess=preprocess,
        weights=backbone.weights,
        data=train.name,
        data_root=data_root,
        data_sha256=train.fingerprint(),
        folded=backbone.folded,
    )
    return card, Detector(backbone, len(train.classes))


def torch_infer(model: Detector, preprocess: Preprocess, max_detections: int) -> Infer:
    """The torch network as a function of one uint8 frame (1, H, W, 3), with decoded outputs."""
    normalise = Normalise(preprocess)

    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        with torch.inference_mode():
            x = normalise(torch.from_numpy(frame)).contiguous(memory_format=torch.channels_last)
            outputs: tuple[Tensor, ...] = decode_maps(model(x), max_detections)
        return dict(zip(("boxes", "scores", "classes"), (o.numpy() for o in outputs), strict=True))

    return infer
