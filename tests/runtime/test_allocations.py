"""After the first frames the loop takes no more memory of the size of a frame, and none that stays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from runtime_support import DETECT, HEADS, write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import open_camera
from edgetl_runtime.cameras.paced import PacedCamera
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.session import Session
from edgetl_runtime.spec import Head

WARMUP, FRAMES = 20, 80
HW = (720, 1280)
FRAME_BYTES = HW[0] * HW[1] * 3
KEPT: list[NDArray[np.uint8]] = []


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 100.0, HW[::-1])
    for i in range(FRAMES):
        frame = np.full((*HW, 3), 90, np.uint8)
        frame[100:300, 4 * i : 4 * i + 200] = 230
        writer.write(frame)
    writer.release()
    return path


def growth(bundle: Path, clip: Path, *, live: bool, each: Callable[[NDArray[np.uint8]], None]) -> tuple[int, int]:
    """Bytes after the warm-up: the most above what there was then, and what is more at the end."""
    opened = open_bundle(bundle)
    engine = load_bundle_engine(opened)
    camera = open_camera(str(clip))
    session = Session(PacedCamera(camera) if live else camera, Pipeline(opened, engine))
    tracemalloc.start()
    try:
        with session:
            for frame, _ in session.frames():
                each(frame.image)
                del frame, _
                if session.processed == WARMUP:
                    gc.collect()
                    tracemalloc.reset_peak()
                    before = tracemalloc.get_traced_memory()[0]
                if session.processed == FRAMES - 10:
                    break
            after, peak = tracemalloc.get_traced_memory()
        assert session.processed > WARMUP + 10
    finally:
        tracemalloc.stop()
        KEPT.clear()
    return peak - before, after - before


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("heads", [(DETECT,), HEADS])
def test_nothing_of_the_size_of_a_frame_is_taken(
    tmp_path: Path, clip: Path, heads: tuple[Head, ...], live: bool
) -> None:
    bundle = write_test_bundle(tmp_path / "b", heads=heads)
    peak, kept = growth(bundle, clip, live=live, each=lambda image: None)
    assert peak < FRAME_BYTES / 16
    assert kept < FRAME_BYTES / 16


def test_this_sees_one_copy_of_a_frame_and_one_that_is_kept(tmp_path: Path, clip: Path) -> None:
    bundle = write_test_bundle(tmp_path / "b")
    peak, kept = growth(bundle, clip, live=False, each=lambda image: image.copy().fill(0))
    assert peak >= FRAME_BYTES
    assert kept < FRAME_BYTES
    assert growth(bundle, clip, live=False, each=lambda image: KEPT.append(image.copy()))[1] >= 40 * FRAME_BYTES
