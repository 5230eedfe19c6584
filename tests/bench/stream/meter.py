"""What every contestant measures of itself, in its own process: the time that its consumer waits, CPU, memory.

Needs numpy only, and runs in the peers' own environments.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "compilers"))

import numpy as np
from channel import Channel, job
from number import read_number
from numpy.typing import NDArray

__all__ = ["Channel", "Meter", "job"]


class Meter:
    """Call `have` with every result; it says when that was enough. The first `warmup` results are not counted.

    work: the job: `mode` is file (until the source ends) or live (until `seconds` after the warm-up), and `warmup`.
    """

    def __init__(self, work: dict[str, Any]) -> None:
        self._live, self._warmup = work["mode"] == "live", int(work["warmup"])
        self._seconds = float(work.get("seconds", 0.0))
        self._times_ms: list[float] = []
        self._outside_ms: list[float] = []
        self._engine_ms: list[float] = []
        self._seen: list[tuple[int | None, int]] = []
        self._boxes = self._results = 0
        self._cpu_s = self._began_s = 0.0
        self._asked_s = time.perf_counter()

    def have(self, picture: NDArray[np.uint8], *, outside_ms: float, engine_ms: float, boxes: int) -> bool:
        """Count one result, which is there now; False where the consumer may leave. picture: its frame as read.

        outside_ms: what the tool itself calls preprocessing and postprocessing. engine_ms: what it calls inference.
        """
        now_ns, now_s = time.monotonic_ns(), time.perf_counter()
        self._results += 1
        if self._results > self._warmup:
            self._times_ms.append((now_s - self._asked_s) * 1e3)
            self._outside_ms.append(outside_ms)
            self._engine_ms.append(engine_ms)
            self._boxes += boxes
            if self._live:
                self._seen.append((read_number(picture), now_ns))
        elif self._results == self._warmup:
            gc.collect()
            self._cpu_s, self._began_s = time.process_time(), time.monotonic()
        self._asked_s = time.perf_counter()
        return not (self._live and self._began_s and time.monotonic() - self._began_s >= self._seconds)

    def tell(self, channel: Channel, packages: Sequence[str], **more: Any) -> None:
        """Everything to the benchmark."""
        counted = len(self._times_ms)
        if not counted:
            raise SystemExit(f"there were {self._results} results, no more than the warm-up")
        channel.tell(
            times_ms=self._times_ms,
            outside_ms=self._outside_ms,
            engine_ms=self._engine_ms,
            seen=self._seen,
            boxes=self._boxes / counted,
            cpu_s=(time.process_time() - self._cpu_s) / counted,
            peak_mb=_status_mb("VmHWM"),
            rss_mb=_status_mb("VmRSS"),
            packages={p: _version(p) for p in packages},
            **more,
        )


def _status_mb(key: str) -> float:
    """A figure of this process in MB of 1e6 bytes; 0 where the system doesn't say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key + ":")), 0.0)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"
