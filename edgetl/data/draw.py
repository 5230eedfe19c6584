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
    colours = _colours(dataset)
    shown: list[str] = []
    for layer, file in zip(dataset.layers, sample.masks, strict=False):
        if file is None:
            continue
        try:
            mask = read_mask(file, layer)
        except InputError:
            continue
        shown += _paint(image, mask, layer.classes, colours)
    shown += _draw_boxes(image, sample, dataset.classes, colours)
    shown += [dataset.categories[sample.category]] if sample.category >= 0 else []
    legend = {name: colours.get(name, IGNORED) for name in shown}
    return np.vstack([image, _legend(legend, width)]) if legend else image


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


def _colours(dataset: Dataset) -> dict[str, Colour]:
    """A colour for every name: the same for a class that has both boxes and pixels, different for all others."""
    names = [*dataset.classes, *dataset.categories, *(c for layer in dataset.layers for c in layer.classes)]
    seen = [name for name in dict.fromkeys(names) if name not in BACKGROUNDS]
    return {"ignored": IGNORED} | {name: colour_of(i) for i, name in enumerate(seen)}


def _image(sample: Sample) -> U8:
    try:
        return read_image(sample.image)
    except InputError:
        return np.full((90, 160, 3), 128, np.uint8)


def _paint(image: U8, mask: U8, classes: tuple[str, ...], colours: dict[str, Colour]) -> list[str]:
    """Lay a mask over the image, in place; its background stays clear. Returns the classes that it shows."""
    import cv2

    fitted = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    present = [i for i in np.unique(fitted).tolist() if i < len(classes) and classes[i] in colours]
    for index in present:
        at = fitted == index
        image[at] = (image[at] * (1 - OPACITY) + np.array(colours[classes[index]]) * OPACITY).astype(np.uint8)
    return [classes[index] for index in present]


def _draw_boxes(image: U8, sample: Sample, classes: tuple[str, ...], colours: dict[str, Colour]) -> list[str]:
    """Draw the boxes, in place. Returns the names of those that were drawn."""
    import cv2

    size = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    pairs = zip(sample.labels.tolist(), sample.ignore.tolist(), strict=True)
    names = ["ignored" if ignored else classes[label] for label, ignored in pairs]
    for box, name in zip((sample.boxes * size).round().astype(int).tolist(), names, strict=True):
        cv2.rectangle(image, box[:2], box[2:], colours.get(name, IGNORED), 1, cv2.LINE_AA)
    return list(dict.fromkeys(names))


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
