"""A sample with its labels drawn, small enough for a page: masks and boxes in the colours of a legend below."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from edgetl.data.dataset import Dataset, Sample, read_image, read_mask
from edgetl_runtime.annotate import PALETTE
from edgetl_runtime.errors import InputError

U8 = NDArray[np.uint8]
Colour = tuple[int, int, int]

MORE: tuple[Colour, ...] = (
    (60, 20, 220), (50, 205, 50), (130, 0, 75), (19, 69, 139), (255, 255, 0), (180, 105, 255), (0, 90, 90),
)  # fmt: skip
"""Crimson, lime, indigo, brown, cyan, pink and olive, BGR, for classes beyond the runtime's eight colours."""
IGNORED: Colour = (150, 150, 150)
BACKGROUNDS = frozenset({"background", "other", "void"})
OPACITY = 0.55
ROW_PX, FONT_SCALE = 20, 0.42


def draw_sample(sample: Sample, dataset: Dataset, *, width: int = 480) -> U8:
    """The image at this width with all its labels, (H, width, 3) uint8 BGR, and a legend of what is in it below.

    Layers of masks lie one over the other. An image that can't be read is grey, a mask is left out.
    """
    image = shrink(_image(sample), width)
    shown: dict[str, Colour] = {}
    for layer, file in zip(dataset.layers, sample.masks, strict=False):
        if file is None:
            continue
        try:
            mask = read_mask(file, layer)
        except InputError:
            continue
        shown |= _paint(image, mask, layer.classes)
    for label in _draw_boxes(image, sample):
        shown[dataset.classes[label] if label >= 0 else "ignored"] = colour_of(label) if label >= 0 else IGNORED
    if sample.category >= 0:
        shown[dataset.categories[sample.category]] = colour_of(sample.category)
    return np.vstack([image, _legend(shown, width)]) if shown else image


def side_by_side(first: Sample, second: Sample, *, width: int = 480) -> U8:
    """Two images beside each other without their labels, (H, width, 3) uint8 BGR."""
    half = width // 2
    pair = [shrink(_image(s), half) for s in (first, second)]
    canvas = np.zeros((max(p.shape[0] for p in pair), 2 * half, 3), np.uint8)
    for i, picture in enumerate(pair):
        canvas[: picture.shape[0], i * half : (i + 1) * half] = picture
    return canvas


def shrink(image: U8, width: int) -> U8:
    """The image at this width, its shape kept; crops are enlarged in whole pixels."""
    import cv2

    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    how = cv2.INTER_AREA if image.shape[1] >= width else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), dtype=np.uint8)


def colour_of(index: int) -> Colour:
    """A class's colour, BGR: fifteen that differ well, then steps round the circle of hues."""
    known = (*PALETTE, *MORE)
    if index < len(known):
        return known[index]
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 0.9)
    return int(blue * 255), int(green * 255), int(red * 255)


def _image(sample: Sample) -> U8:
    try:
        return read_image(sample.image)
    except InputError:
        return np.full((90, 160, 3), 128, np.uint8)


def _paint(image: U8, mask: U8, classes: tuple[str, ...]) -> dict[str, Colour]:
    """Lay a mask over the image, in place; its background stays clear."""
    import cv2

    fitted = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    shown = {}
    for index in np.unique(fitted).tolist():
        if index >= len(classes) or classes[index] in BACKGROUNDS:
            continue
        at, colour = fitted == index, colour_of(index)
        image[at] = (image[at] * (1 - OPACITY) + np.array(colour) * OPACITY).astype(np.uint8)
        shown[classes[index]] = colour
    return shown


def _draw_boxes(image: U8, sample: Sample) -> list[int]:
    """Draw the boxes, in place; returns the labels that were drawn, -1 for ignored ones."""
    import cv2

    size = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    labels = np.where(sample.ignore, -1, sample.labels).tolist()
    for box, label in zip((sample.boxes * size).round().astype(int).tolist(), labels, strict=True):
        cv2.rectangle(image, box[:2], box[2:], colour_of(label) if label >= 0 else IGNORED, 1, cv2.LINE_AA)
    return sorted(set(labels))


def _legend(shown: dict[str, Colour], width: int) -> U8:
    """(H, width, 3) uint8 BGR: a swatch and a name for each, in as many rows as they need."""
    import cv2

    places, x, row = [], 6, 0
    for name in shown:
        text = name.encode("ascii", "replace").decode()
        wide = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)[0][0] + 26
        if x + wide > width and x > 6:
            x, row = 6, row + 1
        places.append((text, x, row))
        x += wide
    strip = np.full(((row + 1) * ROW_PX + 4, width, 3), 32, np.uint8)
    for (text, left, line), colour in zip(places, shown.values(), strict=True):
        top = line * ROW_PX + 7
        strip[top : top + 10, left : left + 10] = colour
        at = (left + 14, top + 10)
        cv2.putText(strip, text, at, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, (225, 225, 225), 1, cv2.LINE_AA)
    return strip
