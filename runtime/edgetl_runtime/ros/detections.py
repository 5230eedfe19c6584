"""vision_msgs/Detection2DArray and Detection3DArray as bytes, from a result's arrays.

Both are a header and a sequence of the same shape: a header, one hypothesis with its name, then nothing but doubles up
to the track's number. The doubles of all boxes are one array here, so that a box costs 2 us and not 20 as field by
field; the loop's own thread does this. Layout: CDR of https://www.omg.org/spec/DDS-XTYPES, version 1, little-endian:
a number of n bytes begins at a multiple of n, counted from behind the encapsulation.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.result import Detections, Places

BASE_FRAME = "base_link"
UNKNOWN_VARIANCE = 1e6
"""Of what was not measured: height, in square metres, and rotations, in square radians."""

_ENCAPSULATION = b"\x00\x01\x00\x00"
_SCORE, _POSE, _COVARIANCE, _BOX = 0, 1, 8, 44
_DOUBLES_2D, _DOUBLES_3D = _BOX + 5, _BOX + 10


def boxes_bytes(found: Detections, labels: Sequence[str], epoch_ns: int, frame_id: str) -> bytes:
    """A Detection2DArray of every box with its label's name, score and track, in pixels of the source image.

    epoch_ns: when the frame was captured, on the system clock. The hypothesis' pose is left at zero.
    """
    doubles = np.zeros((len(found), _DOUBLES_2D), "<f8")
    doubles[:, _SCORE] = found.scores
    doubles[:, _POSE + 6] = 1.0  # no rotation
    low, high = found.boxes_xyxy[:, :2].astype(np.float64), found.boxes_xyxy[:, 2:]
    doubles[:, _BOX : _BOX + 2] = (low + high) / 2
    doubles[:, _BOX + 3 :] = high - low
    return _array(found, labels, epoch_ns, frame_id, doubles, range(len(found)))


def places_bytes(found: Detections, places: Places, labels: Sequence[str], epoch_ns: int) -> bytes:
    """A Detection3DArray of the objects whose place is known, in base_link: their points on the ground.

    The covariance is that of x and y. z is 0 and nothing is rotated; neither was measured, as UNKNOWN_VARIANCE says.
    The box lies at the same point, its size is unknown: zero.
    """
    doubles = np.zeros((len(found), _DOUBLES_3D), "<f8")
    doubles[:, _SCORE] = found.scores
    for pose in (_POSE, _BOX):
        doubles[:, pose : pose + 2] = places.positions_m
        doubles[:, pose + 6] = 1.0
    covariances = doubles[:, _COVARIANCE:_BOX].reshape(-1, 6, 6)
    covariances[:, range(2, 6), range(2, 6)] = UNKNOWN_VARIANCE
    covariances[:, :2, :2] = places.covariances_m2
    known = np.flatnonzero(np.isfinite(doubles).all(axis=1)).tolist()
    return _array(found, labels, epoch_ns, BASE_FRAME, doubles, known)


def _array(
    found: Detections,
    labels: Sequence[str],
    epoch_ns: int,
    frame_id: str,
    doubles: NDArray[np.float64],
    rows: Sequence[int],
) -> bytes:
    numbers = [-1] * len(found) if found.track_ids is None else found.track_ids.tolist()
    classes = found.classes.tolist()
    header = _padded(struct.pack("<iI", *divmod(epoch_ns, 1_000_000_000)) + _text(frame_id), 4)
    parts = [_ENCAPSULATION, header, struct.pack("<I", len(rows))]
    at = len(header) + 4
    begins: dict[tuple[int, int], bytes] = {}
    for row in rows:
        phase = at % 8
        begin = begins.get((classes[row], phase))
        if begin is None:
            begin = begins[classes[row], phase] = _begin(header, labels[classes[row]], phase)
        end = _text(str(numbers[row]) if numbers[row] >= 0 else "")
        parts += (begin, doubles[row].tobytes(), end)
        at += len(begin) + doubles.shape[1] * 8 + len(end)
    return b"".join(parts)


def _begin(header: bytes, label: str, phase: int) -> bytes:
    """Of one detection that begins `phase` bytes behind a multiple of 8, up to its doubles."""
    gap = bytes(-phase % 4)
    text = gap + header + struct.pack("<I", 1) + _text(label)
    return text + bytes(-(phase + len(text)) % 8)


def _text(text: str) -> bytes:
    octets = text.encode() + b"\0"
    return struct.pack("<I", len(octets)) + octets


def _padded(octets: bytes, size: int) -> bytes:
    return octets + bytes(-len(octets) % size)
