"""One process or many, on a CPU or on GPUs, with the same command: `accelerate launch -m edgetl.cli tune ...`.

Every process trains on its share of each epoch and holds the same weights; the first one alone probes, validates and
writes. Alone on a CPU nothing of this costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from edgetl_runtime.errors import MissingPackage

T = TypeVar("T")


class Team:
    """device: where this process trains. rank, size: which of how many processes this is."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator = _accelerator() if self.size > 1 else None
        if self._accelerator is not None:
            self.rank, self.device = int(self._accelerator.process_index), torch.device(self._accelerator.device)
        else:
            self.rank, self.device = 0, torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def first(self) -> bool:
        """Whether this process probes, validates, writes and talks."""
        return self.rank == 0

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over the team; it starts from the first process's weights."""
        if self._accelerator is None:
            return model
        wrapped: nn.Module = self._accelerator.prepare_model(model)
        return wrapped

    def share(self, chunks: Sequence[T]) -> Sequence[T]:
        """This process's part of an epoch's batches; all parts are of one length."""
        each = len(chunks) // self.size
        return chunks[self.rank : each * self.size : self.size] if self.size > 1 else chunks

    def agreed(self, value: T) -> T:
        """The first process's value, in every process."""
        if self._accelerator is None:
            return value
        from accelerate.utils import broadcast_object_list

        box: list[Any] = [value]
        broadcast_object_list(box)
        agreed: T = box[0]
        return agreed

    def close(self) -> None:
        """Part in an orderly way: a process that just ends takes the others down with it."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
            self._accelerator.end_training()


def _accelerator() -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError as error:
        raise MissingPackage("accelerate", extra="train") from error
    return Accelerator(
        cpu=not torch.cuda.is_available(), kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
    )
