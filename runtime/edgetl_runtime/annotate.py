"""Boxes, labels and a status strip on a copy of the frame."""

from __future__ import annotations

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
_STRIP_BGR = (32, 32, 32)
_TEXT_BGR = (235, 235, 235)
_LATE_BGR = (40, 40, 200)


MASK_OPACITY = 0.4
_PLAIN_LABELS = frozenset({"background", "other", "void", "unlabelled", "unlabeled"})


def _mask_colours(labels: tuple[str, ...]) -> NDArray[np.uint8]:
    """(256, 3) uint8 BGR for each class of a mask; black, which is not drawn, for the background."""
    table = np.zeros((256, 3), np.uint8)
    number = 0
    for index, label in enumerate(labels):
        if label.lower() not in _PLAIN_LABELS:
            fade = 1 - 0.35 * (number // len(PALETTE))
            table[index] = np.array(PALETTE[number % len(PALETTE)]) * max(fade, 0.3)
            table[index, 1] = max(table[index, 1], 1)
            number += 1
    return table


def _category(scores: Scores, labels: tuple[str, ...]) -> str:
    if scores.label < 0:
        return "not sure"
    return f"{labels[scores.label]} {scores.probabilities[scores.label]:.2f}"


class Annotator:
    """Draws one result after the other into a buffer that is kept; sizes follow the height of the frame."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self.heads = tuple(heads)
        self._tables = {h.name: _mask_colours(h.labels) for h in heads if isinstance(h, SegmentHead)}
        self._cv2 = _cv2()
        self._buffer: NDArray[np.uint8] = np.empty((0, 0, 3), np.uint8)

    def __call__(self, frame: Frame, result: Result) -> NDArray[np.uint8]:
        """The annotated picture, (H, W, 3) uint8 BGR; it belongs to this object until the next call."""
        if self._buffer.shape != frame.image.shape:
            self._buffer = np.empty_like(frame.image)
        image = self._buffer
        np.copyto(image, frame.image)
        scale, line = max(image.shape[0] / 1080, 0.4), max(1, round(image.shape[0] / 360))
        notes = []
        for head in sorted(self.heads, key=lambda h: not isinstance(h, SegmentHead)):  # masks under boxes
            output = result.outputs[head.name]
            if isinstance(output, Mask):
                self._mask(image, output, self._tables[head.name])
            elif isinstance(output, Detections):
                notes.append(f"{len(output)} found")
                self._boxes(image, output, head.labels, scale, line)
            else:
                notes.append(_category(output, head.labels))
        self._strip(image, result, notes, scale, line)
        return image

    def _mask(self, image: NDArray[np.uint8], mask: Mask, table: NDArray[np.uint8]) -> None:
        """Tint the cells whose label has a colour."""
        cv2 = self._cv2
        size_wh = (image.shape[1], image.shape[0])
        shown = (table[mask.classes] > 0).any(axis=2).astype(np.uint8)
        tint = cv2.resize(table[mask.classes], size_wh, interpolation=cv2.INTER_NEAREST)
        blend = cv2.addWeighted(image, 1 - MASK_OPACITY, tint, MASK_OPACITY, 0)
        cv2.copyTo(blend, cv2.resize(shown, size_wh, interpolation=cv2.INTER_NEAREST), image)

    def _boxes(
        self, image: NDArray[np.uint8], found: Detections, labels: tuple[str, ...], scale: float, line: int
    ) -> None:
        rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
        for box, score, index in reversed(list(rows)):  # the best on top
            self._box(image, box, f"{labels[index]} {score:.2f}", PALETTE[index % len(PALETTE)], scale, line)

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
        bright = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 128
        ink = (0, 0, 0) if bright else (255, 255, 255)
        at = (left + 2, top + height + 1)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)

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
