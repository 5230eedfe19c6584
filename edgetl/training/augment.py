"""Augmentation for driving by torchvision's v2 functions: where the camera looks (framing.py), how it sees (light.py).

A frame is cut and resized on uint8 pixels, now and then warped as another mount of the camera would see it, mirrored
where nothing shows that a mirror makes wrong, then lit. All chance comes from the generator that is passed in, none
from torch's global one: one seed, one view, in any thread. Boxes follow in numpy: v2's boxes are clamped to the
picture, and how much of an object was cut off can't be told after that.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from edgetl.data import VOID, MaskLayer, Sample, read_image, read_mask_of
from edgetl.training import framing
from edgetl.training.close_up import CLOSENESS, is_close_up, seen_again
from edgetl.training.framing import Cut
from edgetl.training.light import Stage, apply_look, draw_look
from edgetl_runtime.letterbox import geometry

READABLE_PX = 24
"""From this height on a sign can be read, so that its mirror image would teach what no road shows."""
_TURNED = re.compile(r"left|arrow|(?<!b)(?<!up)right")
_WRITTEN = re.compile(r"sign(?!al)|plate")


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Ranges and chances of the augmentation.

    zoom: relative to the scale at which the network sees the frame. aim: chance that a crop looks at an object.
    mirror, mount, blur, motion, noise, night, fog, jpeg: chances. pitch_deg, roll_deg, stretch: ranges about 0 of
    another mount. brightness, contrast, saturation, balance: ranges about 1. turn_deg, shift, size: ranges about 0
    for a whole frame, shift and size as shares of it.
    """

    zoom: tuple[float, float] = (0.75, 1.6)
    aim: float = 0.6
    mirror: float = 0.5
    mount: float = 0.2
    pitch_deg: float = 3.0
    roll_deg: float = 2.0
    stretch: float = 0.06
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.4
    balance: float = 0.08
    blur: float = 0.07
    motion: float = 0.05
    noise: float = 0.15
    night: float = 0.08
    fog: float = 0.05
    jpeg: float = 0.12
    turn_deg: float = 8.0
    shift: float = 0.08
    size: float = 0.12
    pad_value: int = 114


@dataclass(frozen=True, slots=True)
class View:
    """An image (H, W, 3) uint8 BGR with boxes (N, 4) in its pixels, labels (N,) and ignore (N,).

    category: of the whole image, -1 for none. masks: (H, W) uint8 for each of the dataset's layers, VOID where
    the image has none.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    category: int = -1
    masks: tuple[NDArray[np.uint8], ...] = ()


class Sides(NamedTuple):
    """Indices of classes that have sides.

    turned: left becomes right, so a mirror makes the label wrong. written: the label stays right, but no real sign
    looks like its mirror image.
    """

    turned: frozenset[int] = frozenset()
    written: frozenset[int] = frozenset()


NO_SIDES = Sides()


@functools.lru_cache(maxsize=64)
def sided_classes(names: tuple[str, ...]) -> Sides:
    """Which of these classes a mirror would turn or make unreadable, by their names."""
    lower = [n.lower() for n in names]
    turned = frozenset(i for i, n in enumerate(lower) if _TURNED.search(n))
    return Sides(turned, frozenset(i for i, n in enumerate(lower) if _WRITTEN.search(n)) - turned)


@dataclass(slots=True)
class _Shot:
    """A view in the making, without padding: pixels (3, h, w) RGB, masks (1, h, w), `matrix` from source pixels."""

    pixels: Tensor
    masks: list[Tensor]
    matrix: framing.Matrix
    stage: Stage | None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[2]


def augmented_view(
    sample: Sample,
    *,
    crop_hw: tuple[int, int],
    network_hw: tuple[int, int],
    sided: Sides,
    config: AugmentConfig,
    rng: np.random.Generator,
    layers: tuple[MaskLayer, ...] = (),
    sided_categories: Sides = NO_SIDES,
) -> View:
    """A random crop of the sample at `crop_hw`, at about the scale of a letterbox to `network_hw`.

    sided: of the classes of boxes; sided_categories: of whole images; those of masks come from the names in `layers`.
    The padding is `pad_value` in the image, whatever the light, as in the vehicle, and VOID in the masks.
    Raises InputError for a file that can't be read.
    """
    image = read_image(sample.image)
    height, width = image.shape[:2]
    base = min(network_hw[0] / height, network_hw[1] / width)
    scale = base * float(np.exp(rng.uniform(*np.log(config.zoom))))
    masks = _masks(sample, layers, (height, width))
    x, y = _target(sample, masks, config.aim, rng)
    rows = framing.random_cut(height, scale, crop_hw[0], y and y * height, rng)
    columns = framing.random_cut(width, scale, crop_hw[1], x and x * width, rng)
    shot = _shot(image, masks, rows, columns)
    if rng.random() < config.mount:
        _mount(shot, config, rng)
    boxes, labels, ignore = _labels(shot, sample, (height, width))
    mirror = rng.random() < config.mirror
    if mirror and not (
        _boxes_have_sides(boxes, labels, sided)
        or any(_mask_is_turned(m, sided_classes(k.classes)) for m, k in zip(shot.masks, layers, strict=True))
        or sample.category in sided_categories.turned | sided_categories.written
    ):
        boxes = _mirror(shot, boxes)
    return _finished(shot, boxes, labels, ignore, sample.category, (rows, columns, crop_hw), config, rng)


def whole_view(
    sample: Sample,
    *,
    network_hw: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    layers: tuple[MaskLayer, ...] = (),
) -> View:
    """The whole frame as letterboxed to `network_hw`, a little turned, shifted and resized, lit, and never mirrored.

    For categories of whole images (which sign, what weather). The frame's edge goes on where the frame moved away.
    A picture cut out around one object is also seen from other distances and in other light (close_up.py).
    """
    image = read_image(sample.image)
    height, width = image.shape[:2]
    closeness = 1.0
    if is_close_up((height, width)):
        image, closeness = seen_again(image, rng), CLOSENESS
    place = geometry((height, width), network_hw)
    rows, columns = Cut(0, height, place.new_hw[0], place.pad_top), Cut(0, width, place.new_hw[1], place.pad_left)
    shot = _shot(image, _masks(sample, layers, (height, width)), rows, columns)
    shot.stage = None
    turn, *rest = rng.uniform(-1, 1, 5) * closeness
    warp = framing.moved(
        place.new_hw,
        turn_deg=config.turn_deg * turn,
        shift_xy=(config.shift * rest[0], config.shift * rest[1]),
        # Near and far together, and a little of each axis alone, as a box drawn by another hand.
        zoom=(1 + config.size * (0.8 * rest[2] + 0.2 * rest[3]), 1 + config.size * (0.8 * rest[2] - 0.2 * rest[3])),
    )
    reach = closeness * (config.shift + config.size + float(np.sin(np.radians(config.turn_deg))))
    _warp(shot, warp, margin=int(reach * max(place.new_hw) * 0.75) + 2)
    boxes, labels, ignore = _labels(shot, sample, (height, width))
    return _finished(shot, boxes, labels, ignore, sample.category, (rows, columns, network_hw), config, rng)


def _target(
    sample: Sample, masks: list[Tensor], aim: float, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    """The middle of one object, or without boxes a pixel of a mask, as shares of the frame; or None twice.

    A class that shows is drawn first, then one of it: were objects or pixels drawn alike, the many cars would leave
    the few riders without crops of their own, and the road all other classes.
    """
    known = np.flatnonzero(~sample.ignore)
    chance, first, second = rng.random(3)
    if chance >= aim:
        return None, None
    if not len(known):
        return _pixel_of(masks[0][0].numpy(), first, second) if masks else (None, None)
    classes = np.unique(sample.labels[known])
    same = known[sample.labels[known] == classes[int(first * len(classes))]]
    x1, y1, x2, y2 = sample.boxes[same[int(second * len(same))]].tolist()
    return (x1 + x2) / 2, (y1 + y2) / 2


def _pixel_of(mask: NDArray[np.uint8], first: float, second: float) -> tuple[float | None, float | None]:
    """A pixel of a class that a coarse look finds, as shares of the frame."""
    coarse = mask[2::4, 2::4]
    classes = np.unique(coarse[coarse != VOID])
    if not len(classes):
        return None, None
    places = np.flatnonzero(coarse.ravel() == classes[int(first * len(classes))])
    row, column = divmod(int(places[int(second * len(places))]), coarse.shape[1])
    return (column + 0.5) / coarse.shape[1], (row + 0.5) / coarse.shape[0]


def _masks(sample: Sample, layers: tuple[MaskLayer, ...], source_hw: tuple[int, int]) -> list[Tensor]:
    """(1, H, W) uint8 for each layer at the image's size, VOID where the sample has none."""
    masks = []
    for i, layer in enumerate(layers):
        path = sample.masks[i] if i < len(sample.masks) else None
        if path is None:
            masks.append(torch.full((1, *source_hw), VOID, dtype=torch.uint8))
            continue
        mask = torch.from_numpy(read_mask_of(path, layer, source_hw))[None]
        if mask.shape[1:] != source_hw:
            everything = (Cut(0, mask.shape[1], source_hw[0], 0), Cut(0, mask.shape[2], source_hw[1], 0))
            mask = framing.cut_out(mask, *everything, classes=True)
        masks.append(mask)
    return masks


def _shot(image: NDArray[np.uint8], masks: list[Tensor], rows: Cut, columns: Cut) -> _Shot:
    planes = torch.from_numpy(image).permute(2, 0, 1)
    pixels = framing.cut_out(planes, rows, columns).flip(0)
    cut = [framing.cut_out(mask, rows, columns, classes=True) for mask in masks]
    matrix = framing.cut_matrix(rows, columns)
    return _Shot(pixels, cut, matrix, framing.frame_stage((image.shape[0], image.shape[1]), matrix))


def _mount(shot: _Shot, config: AugmentConfig, rng: np.random.Generator) -> None:
    assert shot.stage is not None
    pitch, roll, stretch = rng.uniform(-1, 1, 3)
    warp = framing.other_mount(
        shot.size_hw,
        shot.stage,
        pitch_deg=pitch * config.pitch_deg,
        roll_deg=roll * config.roll_deg,
        stretch=stretch * config.stretch,
    )
    _warp(shot, warp)


def _warp(shot: _Shot, warp: framing.Matrix, margin: int = 0) -> None:
    shot.pixels = framing.warped(shot.pixels, warp, margin=margin)
    shot.masks = [framing.warped(m, warp, classes=True) for m in shot.masks]
    shot.matrix = warp @ shot.matrix


def _labels(
    shot: _Shot, sample: Sample, source_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes in the shot's pixels, labels and ignore of what it shows."""
    boxes = sample.boxes * np.array([source_hw[1], source_hw[0]] * 2, np.float32)
    clipped, keep, cut = framing.clip_boxes(framing.boxes_through(shot.matrix, boxes), shot.size_hw)
    return clipped[keep], sample.labels[keep], (sample.ignore | cut)[keep]


def _boxes_have_sides(boxes: NDArray[np.float32], labels: NDArray[np.int64], sided: Sides) -> bool:
    large = boxes[:, 3] - boxes[:, 1] > READABLE_PX
    return bool(np.isin(labels, list(sided.turned)).any() or np.isin(labels[large], list(sided.written)).any())


def _mask_is_turned(mask: Tensor, sided: Sides) -> bool:
    """Whether a mirror would make a label wrong. A mask of signs stays right: it doesn't say what is on them."""
    if not sided.turned:
        return False
    count = np.bincount(mask.numpy().ravel(), minlength=256)
    return any(count[i] for i in sided.turned)


def _mirror(shot: _Shot, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mirrors the shot in place; returns its boxes mirrored."""
    width = shot.size_hw[1]
    shot.pixels, shot.masks = v2.horizontal_flip(shot.pixels), [v2.horizontal_flip(m) for m in shot.masks]
    if shot.stage is not None:
        left, top, wide, high = shot.stage.left, shot.stage.top, shot.stage.width, shot.stage.height
        shot.stage = Stage(width - left - wide, top, wide, high)
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def _finished(
    shot: _Shot,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    ignore: NDArray[np.bool_],
    category: int,
    place: tuple[Cut, Cut, tuple[int, int]],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> View:
    """The shot lit, padded to its place's size, as arrays."""
    import cv2

    rows, columns, (height, width) = place
    mean = float(shot.pixels[:, ::8, ::8].float().mean())
    look = draw_look(config, rng, mean=mean, height=rows.size)
    pixels = apply_look(shot.pixels, look, rng, shot.stage)
    image = np.full((height, width, 3), config.pad_value, np.uint8)
    inside = np.s_[rows.before : rows.before + rows.size, columns.before : columns.before + columns.size]
    red, green, blue = (p.numpy() for p in pixels)
    # An eighth of the time of a permuted copy.
    image[inside] = cv2.merge([blue, green, red])
    masks = []
    for mask in shot.masks:
        padded = np.full((height, width), VOID, np.uint8)
        padded[inside] = mask[0].numpy()
        masks.append(padded)
    boxes = boxes + np.array([columns.before, rows.before] * 2, np.float32)
    return View(image, boxes, labels, ignore, category, tuple(masks))
