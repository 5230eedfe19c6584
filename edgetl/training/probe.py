"""The probe: neck and heads learn on cached features of the frozen backbone, before anything else moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from edgetl.data import Dataset
from edgetl.features.maps import feature_maps
from edgetl.heads import Kind
from edgetl.models.network import Network
from edgetl.training.batches import epoch_order, letterboxed_labels, stack_targets
from edgetl.training.config import TuneConfig
from edgetl.training.learn import Balance, apply_step, head_losses
from edgetl.training.optimise import rate_at, set_rate
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import Preprocess


class ProbeEpoch(NamedTuple):
    """Figures at the end of a probe epoch."""

    epoch: int
    step: int
    loss: float
    parts: dict[str, float]
    lr: float


def probe(
    model: Network,
    kinds: Sequence[Kind],
    train: Dataset,
    preprocess: Preprocess,
    config: TuneConfig,
    *,
    after_each: Callable[[], None],
    on_epoch: Callable[[ProbeEpoch], None],
) -> None:
    """Train the model's new parts in place. after_each is called after every image and step, and may raise to stop."""
    model.eval()
    parts = model.new_parts()
    parameters = [p for part in parts for p in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=config.probe_lr, weight_decay=config.weight_decay)
    for group in optimiser.param_groups:
        group["base_lr"] = config.probe_lr
    balance = Balance()
    device = parameters[0].device
    batches = max(len(train) // config.batch, 1)
    with feature_maps(model.backbone, train, preprocess, after_each=after_each) as maps:
        for part in parts:
            part.train()
        steps, step = config.probe_epochs * batches, 0
        with Progress("probe", steps, unit="steps") as progress:
            for epoch in range(config.probe_epochs):
                order = epoch_order(len(maps), seed=config.seed, epoch=10_000 + epoch)
                for i in range(batches):
                    indices = sorted(order[i * config.batch : (i + 1) * config.batch])
                    set_rate(optimiser, rate_at(step, steps, warmup=min(50, steps // 5 + 1)))
                    features = [level.to(device) for level in maps.batch(indices)]
                    wanted = {
                        k: tuple(t.to(device) for t in v)
                        for k, v in _targets(train, kinds, preprocess, indices).items()
                    }
                    losses, figures = head_losses(model.heads_on(features, preprocess.size_hw), wanted, kinds)
                    total = balance(losses)
                    names = tuple(train.samples[k].image.name for k in indices)
                    apply_step(total, optimiser, parameters, step=step, names=names)
                    step += 1
                    progress.step(note=f"loss {total.item():.3f}")
                    after_each()
                rate = float(optimiser.param_groups[0]["lr"])
                on_epoch(ProbeEpoch(epoch, step - steps, total.item(), figures, rate))
    model.eval()


def _targets(
    dataset: Dataset, kinds: Sequence[Kind], preprocess: Preprocess, indices: Sequence[int]
) -> dict[str, tuple[torch.Tensor, ...]]:
    """Targets of whole letterboxed frames by head. They are made anew every time: kept, those of 5,000 frames with ten
    classes at 640x352 would take 4 GB."""
    views = [letterboxed_labels(dataset, i, preprocess) for i in indices]
    return {k.head.name: stack_targets([k.targets(view) for view in views]) for k in kinds}
