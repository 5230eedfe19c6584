"""Out of memory: recognised in every wording, and the batch that would fit is found and named."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgetl.data import Dataset, MaskLayer, read_dataset
from edgetl.heads import Kind, heads_for, kinds_of
from edgetl.models.network import Outputs
from edgetl.models.normalise import Normalise
from edgetl.training import learn as learn_module
from edgetl.training import tune as tune_module
from edgetl.training.config import TuneConfig
from edgetl.training.memory import fitting_batch, out_of_memory
from edgetl.training.tune import tune
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = (MaskLayer("ground", ("other", "road")), MaskLayer("light", ("off", "on")))
DATA = Dataset("d", ("car",), (), ("day", "night"), LAYERS)
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (MemoryError(), True),
        (RuntimeError("size mismatch"), False),
        (ValueError("x"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, is_one: bool) -> None:
    assert out_of_memory(error) is is_one


class Hungry(nn.Module):
    """A network that fails above `limit` frames, as one does on a full device."""

    def __init__(self, limit: int, message: str = MESSAGE) -> None:
        super().__init__()
        self.limit, self.message = limit, message
        self.weight = nn.Parameter(torch.ones(1))
        self.tried: list[int] = []

    def forward(self, x: Tensor) -> Outputs:
        self.tried.append(len(x))
        if len(x) > self.limit:
            raise RuntimeError(self.message)
        n, h, w = len(x), x.shape[2] // 4, x.shape[3] // 4
        masks = {layer.name: torch.zeros(n, 2, h, w) * self.weight for layer in LAYERS}
        return Outputs({**masks, "classify": torch.zeros(n, 2) * self.weight}, torch.zeros(n, 8))


def fits(model: nn.Module, batch: int) -> int:
    kinds: tuple[Kind, ...] = kinds_of(heads_for(DATA, ("segment", "classify")), DATA)
    normalise = Normalise(Preprocess(size_hw=(32, 64), mean=(0.0,) * 3, std=(1.0,) * 3))
    return fitting_batch(model, kinds, normalise, (32, 64), batch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "batch", "expected", "tried"),
    [(3, 16, 2, [8, 4, 2]), (5, 16, 4, [8, 4]), (1, 6, 1, [3, 1]), (0, 4, 0, [2, 1]), (9, 1, 0, [])],
)
def test_the_largest_half_that_fits(limit: int, batch: int, expected: int, tried: list[int]) -> None:
    model = Hungry(limit)
    assert fits(model, batch) == expected
    assert model.tried == tried


def test_another_error_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        fits(Hungry(0, "size mismatch"), 4)


class Held:
    """Stands for a step's memory."""


def test_a_run_says_which_batch_fits_and_lets_go_of_the_failed_one(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it tries smaller batches, nothing of the batch that failed may still be held."""
    held: list[weakref.ref[Held]] = []
    found: list[bool] = []

    def failing(*args: object, **kwargs: object) -> None:
        memory = Held()
        held.append(weakref.ref(memory))
        raise RuntimeError(MESSAGE)

    def trying(*args: object) -> int:
        gc.collect()
        found.append(held[0]() is None)
        return 2

    monkeypatch.setattr(learn_module, "head_losses", failing)
    monkeypatch.setattr(tune_module, "fitting_batch", trying)
    config = TuneConfig(size_hw=(64, 96), crop_hw=(32, 64), epochs=1, weights="none", val_images=2)
    data = read_dataset(scenes, "train"), read_dataset(scenes, "val")
    with pytest.raises(InputError, match=r"a batch of 4 frames of 64x32 does not fit in memory; give --batch 2"):
        tune(*data, tmp_path, config)
    assert found == [True]
