"""The probe: neck and heads learn on cached features of the frozen backbone, before anything else moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.features.maps import feature_maps
from edgetl.heads import Kind
from edgetl.models.network import Network
from edgetl.training.batches import epoch_order, letterboxed_view, stack_targets
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
        targets = _Targets(train, kinds, preprocess)
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
                    wanted = {k: tuple(t.to(device) for t in v) for k, v in targets.batch(indices).items()}
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


class _Targets:
    """Targets of whole letterboxed frames, made when first asked for and kept."""

    def __init__(self, dataset: Dataset, kinds: Sequence[Kind], preprocess: Preprocess) -> None:
        self._dataset, self._kinds, self._preprocess = dataset, kinds, preprocess
        self._kept: dict[int, dict[str, tuple[NDArray[Any], ...]]] = {}

    def batch(self, indices: list[int]) -> dict[str, tuple[torch.Tensor, ...]]:
        for i in indices:
            if i not in self._kept:
                view = letterboxed_view(self._dataset, i, self._preprocess)
                self._kept[i] = {k.head.name: k.targets(view) for k in self._kinds}
        rows = [self._kept[i] for i in indices]
        return {k.head.name: stack_targets([r[k.head.name] for r in rows]) for k in self._kinds}
