"""A cache of computed arrays on disk: what was computed once for the same network and data is read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.files import arrays_in_cache, cache_directory, keep_arrays_in_cache

Arrays = Mapping[str, NDArray[np.generic]]


def name_of(key: Mapping[str, object]) -> str:
    """The file name of what is kept under this key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def cached(key: Mapping[str, object], compute: Callable[[], Arrays]) -> dict[str, NDArray[np.generic]]:
    """The arrays of `key`, computed where they are not on disk yet.

    key: all that the arrays depend on, in plain JSON values. A file that can't be read is computed anew; a disk that
    takes no more costs the cache, not the result.
    """
    path = cache_directory() / "features" / f"{name_of(key)}.npz"
    known = arrays_in_cache(path)
    if known is not None:
        return known
    arrays = {k: np.asarray(v) for k, v in compute().items()}
    keep_arrays_in_cache(path, arrays)
    return arrays
