"""Age of results when the network is three times too slow for the camera, for as long as you like.

    python tests/bench/bench_fresh.py [--seconds 600] [--fps 30] [--factor 3] [--json]

A camera of 1280x720 noise at a steady rate, a network that takes `factor` frame intervals. The newest frame wins, so
age must stay below one processing time plus one frame interval, and the last minute must be as fresh as the first.
Ends 1 where the 99th percentile is above that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from runtime_support import write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.loop import run
from edgetl_runtime.result import Frame, Result


class SteadyCamera:
    """Noise at a steady rate until its time is over."""

    camera_id, live, failed, frame_count = "steady", True, 0, None

    def __init__(self, fps: float, seconds: float) -> None:
        rng = np.random.default_rng(0)
        self._images = [rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8) for _ in range(16)]
        self.fps, self.size_hw, self.notes = fps, (720, 1280), list[str]()
        self._start_s, self._end_s, self._number = time.monotonic(), time.monotonic() + seconds, 0

    def read(self) -> Frame | None:
        """The next picture when it is due."""
        due_s = self._start_s + self._number / self.fps
        if due_s > self._end_s:
            return None
        time.sleep(max(due_s - time.monotonic(), 0.0))
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % 16], number, self.camera_id, time.monotonic_ns())

    def close(self) -> None:
        """Nothing to let go of."""


class SlowEngine:
    """A bundle's engine that takes a given time."""

    def __init__(self, inner: Engine, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self.name, self.precision, self.inputs, self.outputs = inner.name, inner.precision, inner.inputs, inner.outputs

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> Mapping[str, NDArray[np.generic]]:
        """Run, and wait for the rest of the time."""
        end_s = time.perf_counter() + self._seconds
        outputs = self._inner.infer(inputs)
        time.sleep(max(end_s - time.perf_counter(), 0.0))
        return outputs

    def close(self) -> None:
        """Free the network."""
        self._inner.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ages: list[tuple[float, float]] = []

    def note(result: Result) -> None:
        ages.append((result.t_publish_ns / 1e9, result.age_ms))

    with tempfile.TemporaryDirectory() as scratch:
        bundle = open_bundle(write_test_bundle(Path(scratch) / "b"))
        engine = SlowEngine(load_bundle_engine(bundle), args.factor / args.fps)
        summary = run(bundle, SteadyCamera(args.fps, args.seconds), engine=engine, golden="skip", on_result=note)
    stamps, found = np.array(ages).T
    processing_ms = sum(summary.stages[stage]["p99_ms"] for stage in ("letterbox", "infer", "decode"))
    limit_ms = processing_ms + 1e3 / args.fps
    fifth = len(found) // 5
    document = {
        "seconds": round(float(stamps[-1] - stamps[0]), 1),
        "results": summary.processed,
        "dropped": summary.dropped,
        "age_p50_ms": round(float(np.percentile(found, 50)), 1),
        "age_p99_ms": round(float(np.percentile(found, 99)), 1),
        "age_max_ms": round(float(found.max()), 1),
        "first_fifth_p99_ms": round(float(np.percentile(found[:fifth], 99)), 1),
        "last_fifth_p99_ms": round(float(np.percentile(found[-fifth:], 99)), 1),
        "limit_ms": round(limit_ms, 1),
    }
    document["met"] = document["age_p99_ms"] <= limit_ms
    print(json.dumps(document, indent=2) if args.json else "\n".join(f"{k:<20} {v}" for k, v in document.items()))
    return 0 if document["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
