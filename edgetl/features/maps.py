"""Features of a frozen backbone over a whole dataset, kept on disk for the probe and for whoever asks again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgetl.data import Dataset
from edgetl.features.frozen import backbone_maps, feature_key
from edgetl.features.store import name_of
from edgetl_runtime.errors import InputError
from edgetl_runtime.files import cache_directory
from edgetl_runtime.spec import Preprocess

LIMIT_BYTES = 8 * 1024**3
"""How much the cache of maps may hold; the longest unused are deleted first."""
ABANDONED_S = 24 * 3600.0
"""Unfinished maps in which nothing was written for so long are of a process that was killed."""


class FeatureMaps:
    """Half-precision features of whole letterboxed frames, one memory map a level: levels[l] is (N, C, h, w)."""

    def __init__(self, folder: Path, shapes: list[tuple[int, ...]]) -> None:
        self._levels = [np.memmap(folder / f"{i}.f16", np.float16, "r", shape=tuple(s)) for i, s in enumerate(shapes)]

    def __len__(self) -> int:
        return len(self._levels[0])

    def batch(self, indices: list[int]) -> list[Tensor]:
        """Features of these images, float32, in this order."""
        return [torch.from_numpy(level[indices].astype(np.float32)) for level in self._levels]

    def close(self) -> None:
        """Let go of the files."""
        self._levels.clear()

    def __enter__(self) -> FeatureMaps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def feature_maps(
    backbone: nn.Module, dataset: Dataset, preprocess: Preprocess, *, after_each: Callable[[], None]
) -> FeatureMaps:
    """Features of every image, from the cache where the same backbone saw the same images before.

    backbone: in eval mode. after_each is called after every image that is computed; what it raises ends the work, and
    leaves nothing behind. Raises InputError when the disk is full.
    """
    name = name_of(feature_key("maps", backbone, preprocess, dataset))
    folder = cache_directory() / "maps" / name
    try:
        maps = _opened(folder)
        os.utime(folder)
        return maps
    except (OSError, ValueError, IndexError):
        pass
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
        try:
            _compute(backbone, dataset, preprocess, work, after_each)
            maps = _opened(work)  # which stays open whatever another process does to the folder
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # another process has put the same there
                work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: no space for cached features ({error.strerror})",
            remedy="free some space, set EDGETL_CACHE to another place, or use --recipe full",
        ) from error
    _forget(folder.parent, keep=folder)
    return maps


def _opened(folder: Path) -> FeatureMaps:
    return FeatureMaps(folder, json.loads((folder / "shapes.json").read_text(encoding="utf-8")))


def _compute(
    backbone: nn.Module, dataset: Dataset, preprocess: Preprocess, folder: Path, after_each: Callable[[], None]
) -> None:
    levels: list[NDArray[np.float16]] = []
    for index, (_, features) in enumerate(backbone_maps(backbone, preprocess, dataset.samples, title="features")):
        if not levels:
            shapes = [(len(dataset), *f.shape[1:]) for f in features]
            _need(folder, 2 * sum(int(np.prod(s)) for s in shapes))
            levels = [np.memmap(folder / f"{i}.f16", np.float16, "w+", shape=s) for i, s in enumerate(shapes)]
        for level, feature in zip(levels, features, strict=True):
            level[index] = feature[0].to(torch.float16).cpu().numpy()
        after_each()
    (folder / "shapes.json").write_text(json.dumps([list(level.shape) for level in levels]), encoding="utf-8")


def _need(folder: Path, size: int) -> None:
    """Raise OSError where the disk can't take this many bytes: a full disk under a memory map kills the process."""
    free = shutil.disk_usage(folder).free
    if free < size * 1.05:
        raise OSError(28, f"{size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")


def _forget(parent: Path, *, keep: Path) -> None:
    """Delete the longest unused maps beyond the limit, and abandoned ones; other processes may do the same at once."""
    held = 0
    for folder in [folder for _, folder in sorted(_by_use(parent), reverse=True)]:
        with suppress(OSError):
            files = [f.stat() for f in folder.iterdir() if f.is_file()]
            latest = max([folder.stat().st_mtime, *(f.st_mtime for f in files)])
            if folder.name.startswith(".") and time.time() - latest > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            held += sum(f.st_size for f in files)
        if held > LIMIT_BYTES and folder != keep and not folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)


def _by_use(parent: Path) -> Iterator[tuple[float, Path]]:
    """The folders that are there, with when each was last used."""
    for folder in parent.iterdir():
        with suppress(OSError):
            if folder.is_dir():
                yield folder.stat().st_mtime, folder
