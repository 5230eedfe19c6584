"""Calibration frames that INT8 ranges may be taken from: of the right form, of several scenes, no noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.errors import InputError

THUMB_HW = (9, 16)
SAME_SCENE = 0.95
"""Two thumbnails that correlate this much belong to one scene; so do those that a chain of such pairs connects.

In one second of three dashcam clips, pairs of 0.969 or more connect all frames. Of 64 frames drawn from BDD100K by day
or by night, CamVid or GTSRB, the one that is most apart correlates with no other by more than 0.76.
"""
ONE_SCENE_SHARE = 0.9
NOISE_CELLS = 8
NOISE_CONTRAST = 0.35
"""Share of a frame's standard deviation that is left in 8 x 8 means: of 8,700 real frames 0.43 or more, of white noise
on 32 x 32 pixels 0.28 or less, on 640 x 352 pixels 0.02."""
NOISE_CORRELATION = 0.1
"""Correlation of neighbouring pixels: white noise has 0, and fine texture, which has no contrast in means, far more."""
FLAT = 2.0
"""Grey levels: a frame with a lower standard deviation shows nothing, and what it has may well be sensor noise."""


def check_frames(frames: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int], *, names: Sequence[str] = ()) -> None:
    """Raise InputError unless the frames can serve for calibration: each (1, H, W, 3) uint8 BGR at `size_hw`.

    Refused are no frames at all, any of another size or type, random noise, and frames that all show one scene: their
    ranges would be too narrow for any other. names: of the frames for messages, e.g. files; their numbers where empty.
    """
    if not len(frames):
        raise InputError("no calibration frames", remedy="give images of the place where the network is to work")
    for i, frame in enumerate(frames):
        _check_form(frame, size_hw, _name(i, names))
    greys = [_grey(f) for f in frames]
    noisy = [i for i, grey in enumerate(greys) if _is_noise(grey)]
    if noisy:
        raise InputError(
            f"{len(noisy)} of {len(frames)} calibration frames are random noise, {_name(noisy[0], names)} first",
            remedy="calibrate on images that a camera took: ranges of noise fit nothing else",
        )
    largest = int(np.bincount(scenes(greys)).max())
    if largest >= ONE_SCENE_SHARE * len(frames):
        found = f"all {len(frames)}" if largest == len(frames) else f"{largest} of {len(frames)}"
        frames_word = f"{found} calibration frames show" if len(frames) > 1 else "the one calibration frame shows"
        raise InputError(
            f"{frames_word} one scene, so the INT8 ranges would be those of that scene",
            remedy="take them from several drives, places and times of day",
        )


def scenes(greys: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
    """(N,) int64: the number of each frame's scene, from 0. greys: (H, W) float32 each.

    Single linkage over the correlation of thumbnails, which brightness and contrast don't change; equal frames are
    one scene even where they show nothing.
    """
    thumbs = np.stack([_means(g, THUMB_HW).reshape(-1) for g in greys])
    centred = thumbs - thumbs.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    linked = unit @ unit.T >= SAME_SCENE
    linked |= (thumbs[:, None] == thumbs[None]).all(axis=-1)
    labels = np.full(len(greys), -1, np.int64)
    while (labels < 0).any():
        reached = np.arange(len(greys)) == np.argmax(labels < 0)
        while (more := linked[reached].any(axis=0) & ~reached).any():
            reached |= more
        labels[reached] = labels.max() + 1
    return labels


def _check_form(frame: NDArray[np.uint8], size_hw: tuple[int, int], name: str) -> None:
    expected = (1, *size_hw, 3)
    if frame.shape != expected or frame.dtype != np.uint8:
        raise InputError(
            f"calibration frame {name}: expected uint8 {expected}, found {frame.dtype} {tuple(frame.shape)}",
            remedy="letterbox it to the network's size as uint8 BGR",
        )


def _name(index: int, names: Sequence[str]) -> str:
    return names[index] if names else f"number {index + 1}"


def _grey(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) float32 luma of a (1, H, W, 3) uint8 BGR frame."""
    return np.asarray(frame[0] @ np.array([0.114, 0.587, 0.299], np.float32), np.float32)


def _means(grey: NDArray[np.float32], cells_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The means over a grid of cells (h, w), fewer where the picture has fewer pixels."""
    h, w = (min(cells, size) for cells, size in zip(cells_hw, grey.shape, strict=True))
    rows, columns = np.arange(h) * grey.shape[0] // h, np.arange(w) * grey.shape[1] // w
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0), columns, axis=1)
    area = np.outer(np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]]))
    return np.asarray(sums / area, np.float32)


def _is_noise(grey: NDArray[np.float32]) -> bool:
    contrast = float(grey.std())
    if contrast < FLAT or float(_means(grey, (NOISE_CELLS, NOISE_CELLS)).std()) >= NOISE_CONTRAST * contrast:
        return False
    centred = grey - grey.mean()
    along = float((centred[:, 1:] * centred[:, :-1]).mean())
    across = float((centred[1:] * centred[:-1]).mean())
    return (along + across) / 2 < NOISE_CORRELATION * contrast**2
