"""What was measured of a graph on an engine, kept on disk: an export that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl_export.budget import Measured
from edgetl_export.parity import Parity
from edgetl_runtime.files import arrays_in_cache, cache_directory, keep_arrays_in_cache, keep_in_cache


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One graph on one engine: how near its tensors are to the reference, and the metric.

    not_finite: on how many frames of the metric something that it gave was not. outputs: a digest of what it gave on
    the parity frames, "" where nothing was asked for.
    """

    max_rel_error: float
    cosine: float
    tensor: str
    frame: int
    measured: Measured
    not_finite: int = 0
    outputs: str = ""


def trial_of(parity: Parity, measured: Measured, *, not_finite: int = 0, outputs: str = "") -> Trial:
    """What was found, as it is kept."""
    return Trial(
        max_rel_error=parity.max_rel_error,
        cosine=parity.cosine,
        tensor=parity.tensor,
        frame=parity.frame,
        measured=measured,
        not_finite=not_finite,
        outputs=outputs,
    )


class Trials:
    """Results by what they depend on.

    key: of all that a result depends on besides graph and engine: frames, labels, the way of scoring, the machine's
    packages. With an empty key results are kept in memory only.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._known: dict[str, Trial] = {}
        self.reused = 0

    def recall(
        self, graph: Path, engine: str, precision: str, compute: Callable[[], Trial], *, ships: Path | None = None
    ) -> Trial:
        """The trial of this graph's bytes, and of those of the graph that ships, computed where it is not known yet."""
        name = self._name(graph, engine, precision, ships)
        found = self._known.get(name) or self._read(name)
        if found is None:
            found = compute()
            self._write(name, found)
        else:
            self.reused += 1
        self._known[name] = found
        return found

    def known(self, graph: Path, engine: str, precision: str) -> Trial | None:
        """The trial of this graph's bytes that nothing ships as, None where it was not made."""
        name = self._name(graph, engine, precision)
        return self._known.get(name) or self._read(name)

    def answers(self, graph: Path, source: str, frames: int) -> dict[str, NDArray[np.generic]] | None:
        """What the source of this graph answered to all frames, (frames, ...) by output; None where it is not kept."""
        found = arrays_in_cache(self._answers_path(graph, source)) if self._key else None
        whole = found is not None and all(len(array) == frames for array in found.values())
        return found if whole else None

    def keep_answers(self, graph: Path, source: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep what `answers` gives."""
        if self._key:
            keep_arrays_in_cache(self._answers_path(graph, source), arrays)

    def _answers_path(self, graph: Path, source: str) -> Path:
        return cache_directory() / "answers" / f"{self._name(graph, source, 'answers')}.npz"

    def _name(self, graph: Path, engine: str, precision: str, ships: Path | None = None) -> str:
        files = [graph] if ships is None else [graph, ships]
        content = " ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        return hashlib.sha256(f"{self._key} {content} {engine} {precision}".encode()).hexdigest()[:32]

    def _path(self, name: str) -> Path:
        return cache_directory() / "trials" / f"{name}.msgpack"

    def _read(self, name: str) -> Trial | None:
        if not self._key:
            return None
        try:
            return msgspec.msgpack.decode(self._path(name).read_bytes(), type=Trial)
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, name: str, trial: Trial) -> None:
        if self._key:
            keep_in_cache(self._path(name), lambda path: path.write_bytes(msgspec.msgpack.encode(trial)))
