"""The validation frames on which a variant's answers differ most from the network's own, drawn for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from edgetl_export.parity import Infer
from edgetl_runtime.annotate import Annotator
from edgetl_runtime.decode import decode
from edgetl_runtime.golden import TOLERANCE, head_error
from edgetl_runtime.imports import cv2 as need_cv2
from edgetl_runtime.letterbox import geometry
from edgetl_runtime.result import Detections, Frame, Mask, Output, Result, Scores
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head, SegmentHead

SHOWN = 4
LEAST_WIDTH = 480
"""Narrower frames are drawn enlarged by a whole factor, so that what is written on them can be read."""
LEAST_WIDTH_BARE = 192
"""The same where nothing is written on them, because heads only name a category."""
JPEG_QUALITY = 82


class Watched:
    """A network as a function of a frame, that keeps copies of some outputs of these frames as it goes.

    Frames are told apart by identity. What was not run in passing is run when it is asked for.
    """

    def __init__(self, infer: Infer, frames: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> None:
        self._infer, self.frames, self._names = infer, frames, tuple(names)
        self._watched = {id(frame) for frame in frames}
        self._kept: dict[int, dict[str, NDArray[np.generic]]] = {}

    def __call__(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        return self.through(self._infer)(frame)

    def through(self, infer: Infer) -> Infer:
        """Another way to run the same network, watched too."""

        def watched(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
            outputs = infer(frame)
            self.keep(frame, outputs)
            return outputs

        return watched

    def keep(self, frame: NDArray[np.uint8], outputs: Mapping[str, NDArray[np.generic]]) -> None:
        """Copy what the network gave for a frame, if it is one of those that are watched."""
        if id(frame) in self._watched:
            self._kept[id(frame)] = {name: np.array(outputs[name]) for name in self._names}

    def outputs(self, index: int) -> Mapping[str, NDArray[np.generic]]:
        """What the network gives for the frame at this place."""
        frame = self.frames[index]
        if id(frame) not in self._kept:
            self(frame)
        return self._kept[id(frame)]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstFrame:
    """One frame. index: its place in the validation set. reference, found: JPEG files.

    difference, reference_says, found_says: for a person; the last two may be empty. outlined: whether `found` has white
    lines around what has another class.
    """

    index: int
    head: str
    difference: str
    reference: bytes
    found: bytes
    reference_says: str
    found_says: str
    outlined: bool = False


@dataclass(frozen=True, slots=True)
class Worst:
    """reference, found: names of the two. compared: how many frames. frames: the worst, none where none differs."""

    reference: str
    found: str
    compared: int
    frames: tuple[WorstFrame, ...]


def worst_frames(
    heads: Sequence[Head], reference: Watched, found: Watched, *, names: tuple[str, str], shown: int = SHOWN
) -> Worst:
    """Compare all frames and draw the worst.

    names: of reference and found. With several heads their worst frames take turns, since their errors can't be
    compared with each other.
    """
    count = len(reference.frames)
    drawn = []
    for index, head, error in _worst(heads, reference, found, shown):
        both = (reference.outputs(index), found.outputs(index))
        pictures = _pictures(heads, reference.frames[index], both, index)
        drawn.append(
            WorstFrame(
                index=index,
                head=head.name,
                difference=_said(head, error),
                reference=pictures[0][0],
                found=pictures[1][0],
                reference_says=pictures[0][1],
                found_says=pictures[1][1],
                outlined=any(isinstance(head, SegmentHead) for head in heads),
            )
        )
    return Worst(names[0], names[1], count, tuple(drawn))


def _worst(heads: Sequence[Head], reference: Watched, found: Watched, shown: int) -> list[tuple[int, Head, float]]:
    """Place, head and error of the frames to show, each frame once."""
    queues = []
    for head in heads:
        errors = []
        for index, frame in enumerate(reference.frames):
            side = max(frame.shape[1:3])
            error = head_error(head, reference.outputs(index), found.outputs(index), side=side)
            if error > TOLERANCE:
                errors.append((index, head, error))
        queues.append(sorted(errors, key=lambda row: row[2], reverse=True)[: shown * len(heads)])
    chosen: dict[int, tuple[int, Head, float]] = {}
    for turn in zip_longest(*queues):
        for row in turn:
            if row is not None and len(chosen) < shown:
                chosen.setdefault(row[0], row)
    return list(chosen.values())


def _said(head: Head, error: float) -> str:
    """The error of `head_error` in words."""
    if isinstance(head, DetectHead):
        if error >= 1:
            return f"{head.name}: a box has no counterpart of its class"
        return f"{head.name}: the largest difference of a score or a box is {100 * error:.1f} per cent"
    if isinstance(head, SegmentHead):
        return f"{head.name}: {100 * error:.1f} per cent of the cells have another class"
    return f"{head.name}: a probability differs by {error:.2f}"


def _pictures(
    heads: Sequence[Head], frame: NDArray[np.uint8], both: Sequence[Mapping[str, NDArray[np.generic]]], index: int
) -> list[tuple[bytes, str]]:
    """The frame (1, H, W, 3) with what all heads say, by reference and found, as a JPEG file and in words."""
    cv2 = need_cv2()
    height, width = frame.shape[1:3]
    drawn_on = any(not isinstance(head, ClassifyHead) for head in heads)
    factor = max(-(-(LEAST_WIDTH if drawn_on else LEAST_WIDTH_BARE) // width), 1)
    size_hw = (height * factor, width * factor)
    image = cv2.resize(frame[0], size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    place, annotate = geometry(size_hw, (height, width)), Annotator(heads, strip=False)
    decoded = [{head.name: decode(outputs, head, place) for head in heads} for outputs in both]
    files = []
    for number, answers in enumerate(decoded):
        picture = annotate(Frame(image, index, "", 0), Result(index, "", 0, 0, answers, size_hw))
        if number:
            _outline(picture, *decoded)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        files.append((data.tobytes(), _words(heads, answers)))
    return files


def _outline(picture: NDArray[np.uint8], reference: Mapping[str, Output], found: Mapping[str, Output]) -> None:
    """White lines around what has another class in any mask: the colours alone hardly show it."""
    cv2 = need_cv2()
    for name, mask in found.items():
        other = reference[name]
        if isinstance(mask, Mask) and isinstance(other, Mask):
            changed = (mask.at_source() != other.at_source()).astype(np.uint8)
            contours, _ = cv2.findContours(changed, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, (255, 255, 255), 1)


def _words(heads: Sequence[Head], answers: Mapping[str, Output]) -> str:
    """Boxes counted, categories named; masks speak for themselves."""
    words = []
    for head in heads:
        output = answers[head.name]
        if isinstance(output, Detections):
            words.append(f"{len(output)} found")
        elif isinstance(output, Scores):
            best = int(output.probabilities.argmax())
            sure = "" if output.label >= 0 else "not sure, "
            words.append(f"{sure}{head.labels[best]} {output.probabilities[best]:.2f}")
    return ", ".join(words)
