"""A fake camera that keeps a rate, and a rig on fake cameras."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import Camera
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.repair import Patience
from edgetl_runtime.rig.network import Network
from edgetl_runtime.rig.rig import Rig
from edgetl_runtime.rig.sharing import Letterboxes

QUICK = Patience(stall_s=0.1, give_up_s=5.0, frozen_s=0.5)


@dataclass
class RateCamera:
    """Noise at `rate` pictures a second, `frames` of them; from picture `stuck_at` on it says nothing any more.

    states: the rate that it claims, its true one where 0. phase_s: when the first picture comes.
    """

    rate: float
    frames: int = 1_000_000
    states: float = 0.0
    phase_s: float = 0.0
    stuck_at: int = -1
    size_hw: tuple[int, int] = (90, 160)
    live: bool = True
    camera_id: str = "fake"
    failed: int = 0
    frame_count: int | None = None
    notes: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(int(self.rate))
        self._images: list[NDArray[np.uint8]] = [rng.integers(60, 160, (*self.size_hw, 3), np.uint8) for _ in range(16)]
        self.fps = self.states or self.rate
        self._number = 0
        self._due_s: float | None = None
        self._ended = threading.Event()

    def read(self) -> Any:
        """The next picture when it is due."""
        from edgetl_runtime.result import Frame

        if self._number == self.stuck_at:
            self._ended.wait()
        if self._number >= self.frames or self._ended.is_set():
            return None
        if self.live:
            now_s = time.monotonic()
            due_s = now_s + self.phase_s if self._due_s is None else self._due_s + 1 / self.rate
            self._due_s = max(due_s, now_s - 0.02)
            self._ended.wait(self._due_s - now_s)
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % 16], number, self.camera_id, time.monotonic_ns())

    def interrupt(self) -> None:
        """Whoever waits for a picture gets none."""
        self._ended.set()

    def close(self) -> None:
        """Remember that it was closed."""
        self._ended.set()
        self.closed = True


@contextmanager
def rig_of(
    bundles: Mapping[str, Path],
    cameras: Mapping[str, Camera],
    *,
    load: Mapping[str, Callable[[], Engine]] | None = None,
    patience: Patience = QUICK,
    deadline_ms: float = 0.0,
    calibrations: Mapping[str, Calibration] | None = None,
    **options: Any,
) -> Iterator[Rig]:
    """A rig on open cameras. load: how a bundle's engine is made, where not as usual."""
    letterboxes = {name: Letterboxes() for name in cameras}
    networks = {}
    for name, folder in bundles.items():
        bundle = open_bundle(folder)
        make = (load or {}).get(name) or (lambda bundle=bundle: load_bundle_engine(bundle, threads=1))
        networks[name] = Network(
            name,
            bundle,
            make(),
            letterboxes,
            patience=patience,
            reload=make,
            deadline_ms=deadline_ms,
            calibrations=calibrations,
        )
    with Rig(cameras, networks, letterboxes, patience=patience, **options) as rig:
        yield rig


def adds_up(document: Mapping[str, Any]) -> bool:
    """captured = processed + dropped + failed: in all, for each camera, each bundle, and each bundle on each camera."""
    rows = [document, *document["cameras"].values(), *document["bundles"].values()]
    for camera in document["cameras"].values():
        rows += [row | {"captured": camera["captured"]} for row in camera["bundles"].values()]
    return all(r["captured"] == r["processed"] + r["dropped"] + r["failed"] for r in rows)
