"""Out of memory: recognise it, and find the batch that would fit."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import torch

from edgetl.heads import Kind
from edgetl.models.network import Network
from edgetl.models.normalise import Normalise
from edgetl.training.augment import View
from edgetl.training.batches import Batch, collate
from edgetl.training.learn import head_losses

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether this error says that an allocation failed."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in SIGNS)


def fitting_batch(
    model: Network, kinds: Sequence[Kind], normalise: Normalise, crop_hw: tuple[int, int], batch: int
) -> int:
    """The largest of batch / 2, batch / 4, ... 1 for which one blank training step fits; 0 where none does."""
    layers = 1 + max((getattr(k, "layer", 0) for k in kinds), default=0)
    blank = View(
        np.zeros((*crop_hw, 3), np.uint8),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.bool_),
        0,
        tuple(np.zeros(crop_hw, np.uint8) for _ in range(layers)),
    )
    while (batch := batch // 2) > 0:
        model.zero_grad(set_to_none=True)
        gc.collect()
        try:
            _blank_step(model, kinds, normalise, collate([blank] * batch, kinds, ("",) * batch))
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error):
                continue
            raise
        return batch
    return 0


def _blank_step(model: Network, kinds: Sequence[Kind], normalise: Normalise, batch: Batch) -> None:
    """Forward and backward; all that it holds is free again when it returns or raises."""
    device = next(model.parameters()).device
    targets = {name: tuple(t.to(device) for t in each) for name, each in batch.targets.items()}
    losses, _ = head_losses(model(normalise(batch.frames.to(device))), targets, kinds)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
