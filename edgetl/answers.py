"""What a checkpoint's network answers to validation frames: `tune` asks it last, and `export` would ask the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.models.weights import sha256_of
from edgetl.versions import code_sha256, package_versions
from edgetl_runtime.files import arrays_in_cache, cache_directory, keep_arrays_in_cache
from edgetl_runtime.machine import machine

JUDGED_IMAGES = 250
"""Validation images that a network is judged by, where nothing else is said: by `tune` at last, and by `export`."""
MOST_BYTES = 256 << 20
"""More than this is not kept of one checkpoint."""
MOST_IN_ALL = 1 << 30
"""Of all; the longest unused go first."""

_FRAMES = "/frames"


def keep_answers(
    checkpoint: Path, frames: Sequence[NDArray[np.uint8]], rows: Sequence[Mapping[str, NDArray[np.generic]]]
) -> None:
    """Keep what the network in this file answers to these frames in the user's cache. A disk that takes no more costs
    nothing else.
    """
    if not rows or sum(array.nbytes for row in rows for array in row.values()) > MOST_BYTES:
        return
    arrays: dict[str, NDArray[np.generic]] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    path = _place(checkpoint)
    keep_arrays_in_cache(path, {**arrays, _FRAMES: _digests(frames)})
    _forget_oldest(path.parent)


def known_answers(checkpoint: Path, frames: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.generic]] | None:
    """What the network in this file answered to these frames, (N, ...) by output.

    None where that of one is not known, or the file, edgetl's code, a package or the machine was another.
    """
    kept = arrays_in_cache(_place(checkpoint))
    if kept is None or _FRAMES not in kept:
        return None
    place = {digest: i for i, digest in enumerate(kept.pop(_FRAMES).tolist())}
    found = [place.get(digest) for digest in _digests(frames).tolist()]
    if None in found or any(len(array) != len(place) for array in kept.values()):
        return None
    return {name: array[np.array(found, np.intp)] for name, array in kept.items()}


def _place(checkpoint: Path) -> Path:
    depends = (sha256_of(checkpoint), code_sha256(), package_versions(), machine())
    return cache_directory() / "tuned" / f"{hashlib.sha256(repr(depends).encode()).hexdigest()[:32]}.npz"


def _digests(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.bytes_]:
    return np.array([hashlib.sha256(frame.tobytes()).hexdigest().encode() for frame in frames], "S64")


def _forget_oldest(folder: Path) -> None:
    """Leave the newest that are MOST_IN_ALL together; other processes may do the same at once."""
    held = 0
    with suppress(OSError):
        kept = sorted(((p.stat().st_mtime_ns, p.stat().st_size, p) for p in folder.glob("*.npz")), reverse=True)
        for _, size, path in kept:
            held += size
            if held > MOST_IN_ALL:
                path.unlink()
