"""What OpenCV does not do for an mp4: see that it is whole, and give each picture the time that it was taken at.

Boxes and their fields: ISO/IEC 14496-12, sections 4.2 and 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PARENTS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"})
"""Boxes that hold others, on the way to those that are changed."""
_HEAD = struct.Struct(">I4s")
MOST_UNITS = 2**32 - 1


class _OtherwiseBuilt(ValueError):
    """The index has another form than what OpenCV's FFmpeg writes."""


def is_whole(path: Path) -> bool:
    """Whether a file is whole boxes to the end, the index `moov` among them, which comes last."""
    boxes = list(_boxes_of(path))
    end = boxes[-1][1] + boxes[-1][2] if boxes else 0
    return b"moov" in [kind for kind, _, _ in boxes] and end == path.stat().st_size


def set_times(path: Path, times_ns: Sequence[int], fps: float) -> bool:
    """Let the pictures of an mp4 that OpenCV wrote at a constant rate be shown as far apart as they were taken.

    times_ns: of each; one that is not later than the one before it is shown 1 / fps after it. Where none is half a
    picture off the constant rate, and where the index has a form that is not known here, the file stays as it was.
    Returns whether it was changed. Raises OSError where the disk does not take it.
    """
    gaps = np.diff(np.asarray(times_ns, np.int64)).astype(np.float64) / 1e9
    gaps[gaps <= 0] = 1 / fps
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    if np.abs(times - np.arange(len(times)) / fps).max() < 0.5 / fps:
        return False
    boxes = list(_boxes_of(path))
    if not boxes or boxes[-1][0] != b"moov":
        return False
    _, at, length = boxes[-1]
    with path.open("r+b") as stream:
        stream.seek(at)
        try:
            index = _retimed(stream.read(length), np.append(times, times[-1] + 1 / fps))
        except (_OtherwiseBuilt, struct.error, LookupError):
            return False
        stream.seek(at)
        stream.write(index)
        stream.truncate()
    return True


def _boxes_of(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of a file's boxes, up to one that has no sense."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        while at + 8 <= size:
            stream.seek(at)
            head = stream.read(16)
            length, kind = _HEAD.unpack_from(head)
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return
            yield kind, at, length
            at += length


def _retimed(moov: bytes, times: NDArray[np.float64]) -> bytes:
    """The index with other times, (N + 1,) in seconds: of N pictures, and when the last one ends."""
    found = _fields(moov)
    movie_scale = _unpack(">I", found[b"mvhd"], 12)
    media_scale = _unpack(">I", found[b"mdhd"], 12)
    entries = _unpack(">I", found[b"stts"], 4)
    counts = [_unpack(">I", found[b"stts"], 8 + 8 * i) for i in range(entries)]
    if sum(counts) != len(times) - 1 or b"ctts" in found:
        raise _OtherwiseBuilt
    whole = round(float(times[-1]) * movie_scale)
    units = np.round(times * media_scale).astype(np.int64)
    if max(whole, int(units[-1])) > MOST_UNITS or (np.diff(units) < 1).any():
        raise _OtherwiseBuilt
    runs = [(len(list(same)), int(step)) for step, same in groupby(np.diff(units))]
    changed = {
        b"mvhd": _with(found[b"mvhd"], 16, whole),
        b"tkhd": _with(found[b"tkhd"], 20, whole),
        b"mdhd": _with(found[b"mdhd"], 16, int(units[-1])),
        b"stts": struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs),
    }
    if b"elst" in found:
        if _unpack(">I", found[b"elst"], 4) != 1:
            raise _OtherwiseBuilt
        changed[b"elst"] = _with(found[b"elst"], 8, whole)
    return _rewritten(moov, changed)


def _fields(box: bytes) -> dict[bytes, bytes]:
    """The contents of all boxes within that hold no others, by kind."""
    kind, content = box[4:8], box[8:]
    if kind not in PARENTS:
        return {kind: content}
    found: dict[bytes, bytes] = {}
    for inner in _split(content):
        if inner[4:8] == b"trak" and b"stts" in found:
            raise _OtherwiseBuilt
        found |= _fields(inner)
    return found


def _rewritten(box: bytes, changed: dict[bytes, bytes]) -> bytes:
    kind, content = box[4:8], box[8:]
    if kind in PARENTS:
        content = b"".join(_rewritten(inner, changed) for inner in _split(content))
    else:
        content = changed.get(kind, content)
    return _HEAD.pack(8 + len(content), kind) + content


def _split(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        length, _ = _HEAD.unpack_from(content, at)
        if length < 8 or at + length > len(content):
            raise _OtherwiseBuilt
        yield content[at : at + length]
        at += length


def _unpack(form: str, content: bytes, at: int) -> int:
    """A field of a box of version 0."""
    if content[0] != 0:
        raise _OtherwiseBuilt
    value: int = struct.unpack_from(form, content, at)[0]
    return value


def _with(content: bytes, at: int, value: int) -> bytes:
    """A box of version 0 with another 32-bit field."""
    if content[0] != 0:
        raise _OtherwiseBuilt
    return content[:at] + struct.pack(">I", value) + content[at + 4 :]
