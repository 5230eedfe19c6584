"""What a picture comes with: exact boxes from the owner buffer, and masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld.camera import Pose
from edgetl.roadworld.canvas import BUILDING, MAX_OBJECTS, PLANT, POLE, Canvas
from edgetl.roadworld.contact import Stand
from edgetl.roadworld.noise import U8
from edgetl.roadworld.scene import CLASSES, Domain

F64 = NDArray[np.float64]
Box = tuple[float, float, float, float]

MASK_NAMES: tuple[str, ...] = (
    "sky", "road", "lane marking", "sidewalk", "terrain", "building", "vegetation", "pole", *CLASSES,
)  # fmt: skip
"""What each value of the class mask means."""
FIRST_OBJECT = 8
IGNORE_HEIGHT = 10 / 360
"""A visible box lower than this share of the picture is marked ignore."""
IGNORE_VISIBLE = 0.25
LABEL_REACH_M = 62.0


@dataclass(frozen=True)
class RenderedObject:
    """One labelled object; boxes are x1, y1, x2, y2 in pixels, inside the picture.

    box_xyxy bounds the visible pixels; amodal_xyxy the whole object as far as it is in the picture. visible is
    the share of the whole object that can be seen, what lies beyond the picture's edge counted as hidden.
    ignore: too small, too far or too hidden to be asked for. stand: exactly where it is, whatever is seen of it.
    """

    object_id: int
    label: int
    box_xyxy: Box
    amodal_xyxy: Box
    visible: float
    distance_m: float
    pixels: int
    ignore: bool
    stand: Stand


@dataclass(frozen=True)
class Rendered:
    """A picture and all that is known about it; arrays belong to the receiver.

    image (H, W, 3) uint8 BGR. drivable and lanes (H, W) uint8, 0 or 1; classes (H, W) uint8, see MASK_NAMES;
    owners (H, W) uint8, 1 + index into `objects` or 0. matrix is K (3, 3) in pixels; pose is the camera's place
    in the world, height_m above it, looking down by pitch_rad.
    """

    image: U8
    objects: tuple[RenderedObject, ...]
    drivable: U8
    lanes: U8
    classes: U8
    owners: U8
    matrix: F64
    height_m: float
    pitch_rad: float
    pose: Pose
    domain: Domain
    scene_id: str
    time_s: float


@dataclass
class _Entry:
    """Bookkeeping of one painted object."""

    object_id: int
    label: int
    distance_m: float
    stand: Stand
    full: int = 0
    amodal: Box = (0.0, 0.0, 0.0, 0.0)
    inside: float = 1.0


class Ledger:
    """Follows the objects of one picture while it is painted; slot k belongs to the k-th object opened."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def open(self, object_id: int, label: int, distance_m: float, stand: Stand) -> int:
        """A new object's slot; beyond MAX_OBJECTS they share the last one, which is then not labelled."""
        self._entries.append(_Entry(object_id, label, distance_m, stand))
        return min(len(self._entries), MAX_OBJECTS + 1)

    def close(self, slot: int, canvas: Canvas) -> None:
        """Count what was painted for it, before anything nearer covers it."""
        x1, y1, x2, y2 = canvas.extent
        if slot > MAX_OBJECTS or not np.isfinite(x1):
            return
        entry = self._entries[slot - 1]
        h, w = canvas.owner.shape
        a, b = int(max(x1 - 2, 0)), int(min(x2 + 3, w))
        c, e = int(max(y1 - 2, 0)), int(min(y2 + 3, h))
        if a >= b or c >= e:
            return
        found = _is(canvas.owner[c:e, a:b], slot)
        entry.full = int(cv2.countNonZero(found))
        if entry.full:
            x, y, bw, bh = cv2.boundingRect(found)
            entry.amodal = (float(a + x), float(c + y), float(a + x + bw), float(c + y + bh))
        held = max(min(x2, w) - max(x1, 0), 0) * max(min(y2, h) - max(y1, 0), 0)
        entry.inside = min(held / max((x2 - x1) * (y2 - y1), 1e-6), 1.0)

    def finish(self, owner: U8) -> tuple[tuple[RenderedObject, ...], U8, U8]:
        """The objects that can be seen; per pixel 1 + index into them; per pixel the class of what is upright."""
        index, upright = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
        upright[[BUILDING, PLANT, POLE]] = (5, 6, 7)
        objects: list[RenderedObject] = []
        for slot, entry in enumerate(self._entries[:MAX_OBJECTS], start=1):
            found = _labelled(entry, slot, owner) if entry.full else None
            if not found:
                continue
            objects.append(found)
            index[slot], upright[slot] = len(objects), FIRST_OBJECT + entry.label
        return tuple(objects), cv2.LUT(owner, index), cv2.LUT(owner, upright)


def _is(owner: U8, slot: int) -> U8:
    """1 where the pixel belongs to this slot; cv2.compare can't tell a number from a 4x1 part of a picture."""
    found: NDArray[np.bool_] = owner == slot
    return found.view(np.uint8)


def _labelled(entry: _Entry, slot: int, owner: U8) -> RenderedObject | None:
    """The object, or None when all of it is hidden."""
    a, c, b, e = (int(v) for v in entry.amodal)
    found = _is(owner[c:e, a:b], slot)
    pixels = int(cv2.countNonZero(found))
    if not pixels:
        return None
    x, y, bw, bh = cv2.boundingRect(found)
    visible = min(pixels / entry.full * entry.inside, 1.0)
    small = bh < IGNORE_HEIGHT * owner.shape[0]
    box = (float(a + x), float(c + y), float(a + x + bw), float(c + y + bh))
    return RenderedObject(
        entry.object_id, entry.label, box, entry.amodal, visible, entry.distance_m, pixels,
        ignore=small or visible < IGNORE_VISIBLE or entry.distance_m > LABEL_REACH_M,
        stand=entry.stand,
    )  # fmt: skip
