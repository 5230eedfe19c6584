"""Masks, boxes, categories, a legend and a status strip on a copy of the frame."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.imports import cv2 as _cv2
from edgetl_runtime.result import Detections, Mask, Scores
from edgetl_runtime.spec import SegmentHead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.result import Frame, Result
    from edgetl_runtime.spec import Head

# Okabe and Ito's colours, which people with colour blindness tell apart; BGR.
PALETTE = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (167, 121, 204),
    (0, 94, 213),
    (178, 114, 0),
    (240, 240, 240),
)
# Of these, what shows as a tint on asphalt: green, vermillion, sky blue, purple, yellow, orange, blue; no white.
MASK_PALETTE = tuple(PALETTE[i] for i in (2, 5, 1, 4, 3, 0, 6))
MASK_OPACITY = 0.45
_STRIP_BGR = (32, 32, 32)
_TEXT_BGR = (235, 235, 235)
_LATE_BGR = (40, 40, 200)
_PLAIN_LABELS = frozenset({"background", "other", "void", "unlabelled", "unlabeled"})
_SHADES = (1.0, 0.65, 0.4)

Colour = tuple[int, int, int]


def colour_of(number: int, palette: tuple[Colour, ...] = PALETTE) -> Colour:
    """The colour (BGR) of a running number: the palette, then darker shades of it, then from the start again."""
    shade = _SHADES[number // len(palette) % len(_SHADES)]
    blue, green, red = (round(v * shade) for v in palette[number % len(palette)])
    return blue, green, red


def drawn_classes(labels: tuple[str, ...]) -> tuple[int, ...]:
    """The classes of a mask that get a colour: of two the second, of more all but the background."""
    if len(labels) == 2:
        return (1,)
    return tuple(i for i, label in enumerate(labels) if label.lower() not in _PLAIN_LABELS)


def drawn_boxes(found: Detections, labels: Sequence[str]) -> list[tuple[list[float], str, Colour]]:
    """Corners, text and colour (BGR) of every box: of its class, or of its object where that has a number.

    The text has the distance from the vehicle's origin where the box's place is known.
    """
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    numbers = [-1] * len(found) if found.track_ids is None else found.track_ids.tolist()
    drawn = []
    for (box, score, index), number, away in zip(rows, numbers, _distances(found), strict=True):
        name = labels[index] if number < 0 else f"{labels[index]} #{number}"
        drawn.append((box, f"{name} {score:.2f}{away}", colour_of(index if number < 0 else number)))
    return drawn


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is read better on this colour."""
    bright = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 128
    return (0, 0, 0) if bright else (255, 255, 255)


def _distances(found: Detections) -> list[str]:
    """What is written of each box's distance, "" where it is not known."""
    if found.places is None:
        return [""] * len(found)
    away_m = np.hypot(*found.places.positions_m.T).tolist()
    return [f" {d:.1f} m" if d < 9.95 else f" {d:.0f} m" if d == d else "" for d in away_m]  # noqa: PLR0124


class Annotator:
    """Draws one result after the other into buffers that are kept; sizes follow the height of the frame.

    Boxes have the colour of their class in PALETTE, those of a numbered object its own; the classes of all masks run
    through MASK_PALETTE. Where two masks have something to show, the later head lies on top. strip: whether the frame's
    number, age and times stand above the picture, with what classify heads say.
    """

    def __init__(self, heads: Sequence[Head], *, strip: bool = True) -> None:
        self.heads = tuple(heads)
        self._with_strip = strip
        self._cv2 = _cv2()
        self._buffer: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._tint: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)
        self._which: NDArray[np.uint8] = np.empty((2, 0, 0), np.uint8)
        # A pixel's class in any mask becomes a place in one table of colours; place 0 is not drawn.
        self._places: dict[str, NDArray[np.uint8]] = {}
        self._colours: NDArray[np.uint8] = np.zeros((256, 1, 3), np.uint8)
        self._legend: list[tuple[str, Colour]] = []
        for head in self.heads:
            if isinstance(head, SegmentHead):
                self._add_mask(head)

    def _add_mask(self, head: SegmentHead) -> None:
        places = np.zeros(256, np.uint8)
        for index in drawn_classes(head.labels):
            place = min(len(self._legend) + 1, 255)
            colour = colour_of(place - 1, MASK_PALETTE)
            places[index], self._colours[place, 0] = place, colour
            self._legend.append((head.labels[index], colour))
        self._places[head.name] = places

    def __call__(self, frame: Frame, result: Result) -> NDArray[np.uint8]:
        """The annotated picture, (H, W, 3) uint8 BGR; it belongs to this object until the next call."""
        if self._buffer.shape != frame.image.shape:
            self._buffer = np.empty_like(frame.image)
            self._tint = np.empty_like(frame.image)
            self._which = np.empty((2, *frame.image.shape[:2]), np.uint8)
        image = self._buffer
        np.copyto(image, frame.image)
        scale, line = max(image.shape[0] / 1080, 0.4), max(1, round(image.shape[0] / 360))
        if self._places:
            self._masks(image, result)
            self._draw_legend(image, scale, line)
        notes = []
        for head in self.heads:
            output = result.outputs[head.name]
            if isinstance(output, Detections):
                notes.append(f"{len(output)} found")
                self._boxes(image, output, head.labels, scale, line)
            elif isinstance(output, Scores):
                notes.append(_category(output, head.labels))
        if self._with_strip:
            self._strip(image, result, notes, scale, line)
        return image

    def _masks(self, image: NDArray[np.uint8], result: Result) -> None:
        """Tint the pixels that have a colour, all masks at once."""
        cv2 = self._cv2
        which, other = self._which
        which.fill(0)
        for name, places in self._places.items():
            mask = result.outputs[name]
            assert isinstance(mask, Mask)
            dataclasses.replace(mask, classes=places[mask.classes]).at_source(out=other)
            np.maximum(which, other, out=which)
        cv2.applyColorMap(which, self._colours, dst=self._tint)
        cv2.addWeighted(image, 1 - MASK_OPACITY, self._tint, MASK_OPACITY, 0, dst=self._tint)
        cv2.copyTo(self._tint, which, image)

    def _draw_legend(self, image: NDArray[np.uint8], scale: float, line: int) -> None:
        """What the colours of masks mean, in rows at the lower edge."""
        cv2 = self._cv2
        (_, height), below = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        tall, gap = height + below + 2 * line, 2 * height
        rows: list[list[tuple[int, str, Colour]]] = [[]]
        left = 4
        for label, colour in self._legend:
            width = height + 4 + cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
            if rows[-1] and left + width > image.shape[1]:
                rows.append([])
                left = 4
            rows[-1].append((left, label, colour))
            left += width + gap
        top = max(image.shape[0] - tall * len(rows), 0)
        image[top:] = _STRIP_BGR
        for row in rows:
            for x, label, colour in row:
                cv2.rectangle(image, (x, top + line), (x + height, top + line + height), colour, cv2.FILLED)
                at = (x + height + 4, top + line + height)
                cv2.putText(image, label, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT_BGR, 1, cv2.LINE_AA)
            top += tall

    def _boxes(
        self, image: NDArray[np.uint8], found: Detections, labels: tuple[str, ...], scale: float, line: int
    ) -> None:
        for box, text, colour in reversed(drawn_boxes(found, labels)):  # the best on top
            self._box(image, box, text, colour, scale, line)

    def _box(
        self,
        image: NDArray[np.uint8],
        box: list[float],
        text: str,
        colour: tuple[int, int, int],
        scale: float,
        line: int,
    ) -> None:
        cv2 = self._cv2
        x1, y1, x2, y2 = (round(v) for v in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, line, cv2.LINE_AA)
        (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        tall = height + below + 2
        left = max(min(x1, image.shape[1] - width - 4), 0)
        top = y1 - tall if y1 >= tall else min(y2, image.shape[0] - tall)
        cv2.rectangle(image, (left, top), (left + width + 4, top + tall), colour, cv2.FILLED)
        at = (left + 2, top + height + 1)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink_on(colour), 1, cv2.LINE_AA)

    def _strip(self, image: NDArray[np.uint8], result: Result, notes: Sequence[str], scale: float, line: int) -> None:
        cv2 = self._cv2
        parts = [f"frame {result.frame_id}", f"age {result.age_ms:.0f} ms"]
        parts += [f"{stage} {ms:.1f} ms" for stage, ms in result.stages_ms.items() if stage == "infer"]
        parts += notes
        if result.dropped_before:
            parts.append(f"{result.dropped_before} dropped")
        late = result.state == "late"
        text = "   ".join(["LATE", *parts] if late else parts)
        (_, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        tall = height + below + 2 * line
        image[:tall] = _LATE_BGR if late else _STRIP_BGR
        at = (4, height + line)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _TEXT_BGR, 1, cv2.LINE_AA)


def _category(scores: Scores, labels: tuple[str, ...]) -> str:
    if scores.label < 0:
        return "not sure"
    return f"{labels[scores.label]} {scores.probabilities[scores.label]:.2f}"
