"""What a checkpoint's network answers to validation frames: `tune` asks it last, and `export` would ask the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.models.weights import sha256_of
from edgetl.versions import code_sha256, package_versions
from edgetl_runtime.files import arrays_in_cache, keep_arrays_in_cache
from edgetl_runtime.machine import machine

MOST_BYTES = 256 << 20
"""More than this is not kept."""

_KEY, _FRAMES = "/key", "/frames"


def keep_answers(
    checkpoint: Path, frames: Sequence[NDArray[np.uint8]], rows: Sequence[Mapping[str, NDArray[np.generic]]]
) -> None:
    """Write what the network in this file answers to these frames, beside it. A disk that takes no more costs nothing
    else.
    """
    if not rows or sum(array.nbytes for row in rows for array in row.values()) > MOST_BYTES:
        return
    arrays: dict[str, NDArray[np.generic]] = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    keep_arrays_in_cache(_beside(checkpoint), {**arrays, _KEY: np.array(_key(checkpoint)), _FRAMES: _digests(frames)})


def known_answers(checkpoint: Path, frames: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.generic]] | None:
    """What the network in this file answered to these frames, (N, ...) by output.

    None where that of one is not known, or the file, edgetl's code, a package or the machine was another.
    """
    kept = arrays_in_cache(_beside(checkpoint))
    if kept is None or str(kept.pop(_KEY, "")) != _key(checkpoint):
        return None
    place = {digest: i for i, digest in enumerate(kept.pop(_FRAMES).tolist())}
    found = [place.get(digest) for digest in _digests(frames).tolist()]
    if None in found or any(len(array) != len(place) for array in kept.values()):
        return None
    return {name: array[np.array(found, np.intp)] for name, array in kept.items()}


def _beside(checkpoint: Path) -> Path:
    return checkpoint.with_name("answers.npz")


def _key(checkpoint: Path) -> str:
    depends = (sha256_of(checkpoint), code_sha256(), package_versions(), machine())
    return hashlib.sha256(repr(depends).encode()).hexdigest()


def _digests(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.bytes_]:
    return np.array([hashlib.sha256(frame.tobytes()).hexdigest().encode() for frame in frames], "S64")
