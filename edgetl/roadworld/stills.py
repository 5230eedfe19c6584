"""Stills rendered and encoded to files, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from edgetl.roadworld.labels import RenderedObject
from edgetl.roadworld.noise import U8
from edgetl.roadworld.render import render_still
from edgetl.roadworld.scene import Domain
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import usable_cores

JPEG_QUALITY = 92
MASKS = ("drivable", "lanes", "classes")
MAX_WORKERS = 8
CHUNK = 4
"""Stills that a worker renders at a time, and so at most finishes after an interrupt."""


@dataclass(frozen=True)
class Still:
    """A still to render: picture `number` of a split is scene `index` of the seed."""

    folder: Path
    split: str
    number: int
    index: int


@dataclass(frozen=True)
class StillLabels:
    """What the annotations need to know of a rendered still."""

    scene_id: str
    domain: Domain
    objects: tuple[RenderedObject, ...]


@contextmanager
def rendered_stills(
    stills: list[Still], seed: int, size_hw: tuple[int, int], domain: str, workers: int
) -> Iterator[Iterable[StillLabels]]:
    """The labels of these stills, in their order, each once its files are written; 0 workers: one for each core.

    The workers are gone when the context ends. Raises OSError when the disk refuses, InputError when a worker dies.
    """
    render = partial(_render, seed=seed, size_hw=size_hw, domain=domain)
    count = min(workers or min(usable_cores(), MAX_WORKERS), -(-len(stills) // CHUNK))
    if count == 1 or multiprocessing.current_process().daemon:  # a daemon may have no children
        yield map(render, stills)
        return
    # A fresh interpreter each: a fork would copy the caller's threads' locks, and torch or CUDA with them.
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        yield pool.map(render, stills, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise InputError(
            "a process that renders ended early",
            remedy="render with 1 worker; a script that renders needs `if __name__ == '__main__':`",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    """One thread for each worker; Ctrl-C is the parent's to handle, and without a parent there is nothing to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _render(still: Still, *, seed: int, size_hw: tuple[int, int], domain: str) -> StillLabels:
    """Render a still and write its picture and masks."""
    picture = render_still(seed, still.index, size_hw=size_hw, domain=domain)
    name = f"{still.split}/{still.number:06d}"
    _encode(still.folder / f"images/{name}.jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    for kind, mask in zip(MASKS, (picture.drivable, picture.lanes, picture.classes), strict=True):
        _encode(still.folder / f"masks/{kind}/{name}.png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    return StillLabels(picture.scene_id, picture.domain, picture.objects)


def _encode(path: Path, array: U8, options: list[int]) -> None:
    """Encode in memory and write as a file, so that a full disk is an OSError."""
    ok, data = cv2.imencode(path.suffix, array, options)
    if not ok:
        raise OSError(f"{path.name} can't be encoded as {path.suffix}")
    path.write_bytes(data.tobytes())
