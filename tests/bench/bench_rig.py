"""What a rig costs beside a single session: the processor's time that the loop's own thread spends on each frame.

    python tests/bench/bench_rig.py [--frames 2000] [--repeat 5] [--json]

Small pictures from memory and an engine that gives the same outputs again, so that nearly all that is measured is the
loop. The same frames go through a Session and through rigs of one camera and one bundle and of several, in turn; the
medians over the repeats are shown, in us for each frame and each result. file: pictures as fast as they are taken;
live: at 400 a second, checked, with a wait before each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from rig_support import rig_of
from runtime_support import FakeCamera, write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.engines import load_bundle_engine
from edgetl_runtime.pipeline import Pipeline
from edgetl_runtime.session import Session


class Constant:
    """The outputs of the bundle's engine for a dark frame, at no cost."""

    def __init__(self, folder: Path) -> None:
        inner = load_bundle_engine(open_bundle(folder), threads=1)
        self.name, self.precision, self.inputs, self.outputs = inner.name, inner.precision, inner.inputs, inner.outputs
        dark = {t.name: np.zeros(t.shape, t.dtype) for t in inner.inputs}
        self._given = {name: np.array(values) for name, values in inner.infer(dark).items()}
        inner.close()

    def infer(self, inputs: object) -> dict[str, Any]:
        """The same again."""
        return self._given

    def close(self) -> None:
        """Nothing to free."""


def camera(frames: int, *, live: bool) -> FakeCamera:
    """The same few pictures again and again."""
    rng = np.random.default_rng(0)
    images = [rng.integers(40, 200, (64, 96, 3), dtype=np.uint8) for _ in range(4)]
    return FakeCamera([images[i % 4] for i in range(frames)], live=live, delay_s=0.0025 if live else 0.0)


def of_session(folder: Path, frames: int, *, live: bool) -> dict[str, float]:
    """One camera, one bundle, the usual way."""
    session = Session(camera(frames, live=live), Pipeline(open_bundle(folder), Constant(folder)))
    with session:
        spent_s = time.thread_time()
        for _ in session.frames():
            pass
        spent_s = time.thread_time() - spent_s
    return figures(spent_s, session.processed, 1, session.ledger.snapshot())


def of_rig(folder: Path, frames: int, cameras: int, bundles: int, *, live: bool) -> dict[str, float]:
    """Several of both; the bundles share a letterbox."""
    fakes = {f"c{i}": camera(frames, live=live) for i in range(cameras)}
    names = [f"b{i}" for i in range(bundles)]
    load = dict.fromkeys(names, lambda: Constant(folder))
    with rig_of(dict.fromkeys(names, folder), fakes, load=load) as rig:
        spent_s = time.thread_time()
        for _ in rig:
            pass
        spent_s = time.thread_time() - spent_s
    total = rig.summary().total
    return figures(spent_s, total.processed, bundles, total.stages)


def figures(spent_s: float, frames: int, bundles: int, stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of one run."""
    return {
        "us_per_frame": spent_s * 1e6 / frames,
        "us_per_result": spent_s * 1e6 / (frames * bundles),
        "age_p50_ms": stages["age"]["p50_ms"],
        "age_p99_ms": stages["age"]["p99_ms"],
    }


def measure(frames: int, repeat: int) -> dict[str, dict[str, float]]:
    """Medians of every figure by what was run."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_test_bundle(Path(scratch) / "tiny.bundle")
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(repeat):
            for live in (False, True):
                kind = "live" if live else "file"
                found.setdefault(f"session, {kind}", []).append(of_session(folder, frames, live=live))
                for cameras, bundles in ((1, 1), (1, 2), (2, 1), (4, 2)):
                    name = f"rig of {cameras} camera{'s' * (cameras > 1)} and {bundles}, {kind}"
                    found.setdefault(name, []).append(of_rig(folder, frames, cameras, bundles, live=live))
    return {
        name: {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
        for name, rows in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    document: dict[str, Any] = measure(args.frames, args.repeat)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        for name, row in document.items():
            print(f"{name:<32} " + "  ".join(f"{key} {value:8.2f}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
