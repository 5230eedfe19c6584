"""A contact sheet of augmented views: what the network is about to learn from, for people to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.heads import Kind
from edgetl.training.augment import AugmentConfig, View, augmented_view, sided_classes, whole_view
from edgetl.training.config import TuneConfig
from edgetl_runtime.annotate import PALETTE
from edgetl_runtime.errors import InputError

Colour = tuple[int, int, int]
_GAP, _LINE, _PAPER, _INK, _IGNORED = 4, 18, 32, (235, 235, 235), (150, 150, 150)
_WIDEST = 1920


def write_sheet(
    path: Path, dataset: Dataset, augment: AugmentConfig, kinds: Sequence[Kind], config: TuneConfig, n: int = 12
) -> None:
    """Write a contact sheet of what a run will learn from, as a JPEG beside its curves."""
    import cv2

    whole = all(k.place == "whole" for k in kinds)
    sheet = contact_sheet(
        dataset, n, augment, crop_hw=config.crop_hw, network_hw=config.size_hw, seed=config.seed, whole=whole
    )
    if not cv2.imwrite(str(path), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise InputError(f"{path}: the contact sheet can't be written", remedy="free some space")


def contact_sheet(
    dataset: Dataset,
    n: int,
    config: AugmentConfig,
    *,
    crop_hw: tuple[int, int],
    network_hw: tuple[int, int],
    seed: int = 0,
    whole: bool = False,
) -> NDArray[np.uint8]:
    """A grid of `n` augmented views as (H, W, 3) uint8 BGR, with boxes, masks and categories drawn, and a legend.

    Of several layers of masks each view shows one, in turn. The samples lie evenly over the dataset, and come again
    with other chances where there are fewer than `n`. Grey boxes are ignored in training. whole: whole frames at
    `network_hw` (whole_view) instead of crops at `crop_hw`. Raises InputError for a dataset without samples.
    """
    if not len(dataset) or n < 1:
        raise InputError(f"can't show {n} views of {len(dataset)} samples", remedy="give at least one of each")
    samples = dataset.take(n).samples
    sided, sided_categories = sided_classes(dataset.classes), sided_classes(dataset.categories)
    tiles = []
    for i in range(n):
        sample, rng = samples[i % len(samples)], np.random.default_rng([seed, i])
        if whole:
            view = whole_view(sample, network_hw=network_hw, config=config, rng=rng, layers=dataset.layers)
        else:
            view = augmented_view(
                sample,
                crop_hw=crop_hw,
                network_hw=network_hw,
                sided=sided,
                config=config,
                rng=rng,
                layers=dataset.layers,
                sided_categories=sided_categories,
            )
        tiles.append(draw_view(view, dataset, layer=i % max(len(dataset.layers), 1)))
    return _with_legend(_grid(tiles), dataset)


def draw_view(view: View, dataset: Dataset, *, layer: int = 0) -> NDArray[np.uint8]:
    """A copy of the view's image, at least 128 pixels high, with its boxes, category and one layer's mask drawn."""
    import cv2

    image = view.image
    if view.masks:
        image = _tinted(image, view.masks[layer], dataset.layers[layer].classes)
    enlarge = max(-(-128 // image.shape[0]), 1)
    image = np.ascontiguousarray(image.repeat(enlarge, axis=0).repeat(enlarge, axis=1))
    for box, label, ignored in zip((view.boxes * enlarge).tolist(), view.labels, view.ignore, strict=True):
        x1, y1, x2, y2 = (round(v) for v in box)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), _IGNORED if ignored else PALETTE[label % len(PALETTE)], 1)
    if view.category >= 0:
        _write(image, dataset.categories[view.category], (3, 12), _INK)
    return image


def _tinted(image: NDArray[np.uint8], mask: NDArray[np.uint8], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """The image with a tint for each class but `background`, and lines of full colour where classes meet."""
    table = np.zeros((256, 3), np.float32)
    table[: len(classes)] = mask_colours(len(classes))
    share = np.where(np.arange(256) < len(classes), np.float32(0.28), np.float32(0))
    share[[i for i, name in enumerate(classes) if name == "background"]] = 0
    weight = share[mask]
    edge = np.zeros(mask.shape, np.bool_)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    weight[edge & (weight > 0)] = 0.9
    tinted: NDArray[np.uint8] = (image * (1 - weight[:, :, None]) + table[mask] * weight[:, :, None]).astype(np.uint8)
    return tinted


def mask_colours(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 BGR, far apart in hue; neighbours differ in lightness too."""
    rows = [colorsys.hls_to_rgb(i * 0.618 % 1.0, (0.58, 0.72)[i % 2], 0.9) for i in range(count)]
    return (np.array(rows).reshape(-1, 3)[:, ::-1] * 255).astype(np.uint8)


def _grid(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = tiles[0].shape[:2]
    most = max(_WIDEST // (width + _GAP), 1)
    columns = min(max(round((len(tiles) * 1.5 * height / width) ** 0.5), 1), most, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + _GAP), columns * (width + _GAP), 3), _PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _with_legend(sheet: NDArray[np.uint8], dataset: Dataset) -> NDArray[np.uint8]:
    """The sheet above lines with the names of the classes in their colours."""
    import cv2

    names: list[tuple[str, Colour]] = []
    if dataset.classes:
        names += [("boxes:", _INK), *((c, PALETTE[i % len(PALETTE)]) for i, c in enumerate(dataset.classes))]
        names.append(("ignored", _IGNORED))
    for layer in dataset.layers:
        colours = [(int(b), int(g), int(r)) for b, g, r in mask_colours(len(layer.classes))]
        names += [(f"{layer.name}:", _INK), *zip(layer.classes, colours, strict=True)]
    spots: list[tuple[str, tuple[int, int], Colour]] = []
    x, line = 6, 0
    for text, colour in names:
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] + 14
        if x > 6 and x + width > sheet.shape[1]:
            x, line = 6, line + 1
        spots.append((text, (x, line * _LINE + 13), colour))
        x += width
    strip = np.full(((line + 1) * _LINE if spots else 0, sheet.shape[1], 3), _PAPER, np.uint8)
    for text, at, colour in spots:
        _write(strip, text, at, colour)
    return np.concatenate([sheet, strip])


def _write(image: NDArray[np.uint8], text: str, at: tuple[int, int], colour: Colour) -> None:
    import cv2

    for thick, ink in ((3, (0, 0, 0)), (1, colour)):
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, thick, cv2.LINE_AA)
