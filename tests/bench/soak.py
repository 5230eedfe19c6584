"""The whole live loop over very many frames with a fault every few hundred: does all add up, and does nothing grow?

    python tests/bench/soak.py [--frames 100000] [--bundle BUNDLE] [--rate 500] [--json]

A camera of noise that is opened again when it is lost, newest frame first, checks, network, decoding, publishing.
Without --bundle the network is a tiny one, so that the loop itself is what is tried. Ends 1 where something does not
hold: captured = processed + dropped + failed; ids rise and no frame is used twice; no result passes as fresh beyond its
deadline or while its frame is not new; every fault is seen and over at the end; memory, file handles and threads stay.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))

from runtime_support import write_test_bundle

from edgetl_runtime.bundle import open_bundle
from edgetl_runtime.cameras import keep_open
from edgetl_runtime.engines import Engine, load_bundle_engine
from edgetl_runtime.health import Condition, Event, Health
from edgetl_runtime.inject import KINDS, Fault, Injector
from edgetl_runtime.loop import run
from edgetl_runtime.repair import Patience
from edgetl_runtime.result import Frame, Result
from edgetl_runtime.session import rss_mb

SEEN_AS: dict[str, Condition] = {
    "stall": "stalled",
    "disconnect": "disconnected",
    "freeze": "frozen",
    "black": "dark",
    "duplicate": "duplicate",
    "disorder": "disordered",
    "clock": "clock",
    "resize": "resized",
    "engine": "engine",
    "nan": "not_finite",
}
"""What each injected fault has to be seen as."""

PATIENCE = Patience(stall_s=0.1, give_up_s=10.0, frozen_s=0.2)
DEADLINE_MS = 100.0
SHOWN = ("captured", "processed", "dropped", "failed", "lost", "age_ms", "states", "rss_mb")
SAMPLES = 50
CYCLE = 4000
EARLIER = 1800
MAX_GROWTH_MB = 2.0
"""Of memory between the first and the last fifth of the samples: the allocator's noise is below it, a leak of one small
object each frame is not."""


def plan(frames: int, rate: float) -> list[Fault]:
    """Every kind of fault once in 4,000 frames, one each 400; what lasts does so for less than a second.

    Those of the engine are counted in runs, of which a busy machine has fewer, and come earlier by EARLIER. The last
    2,000 frames are left alone, so that all can be over at the end.
    """
    amounts = {"stall": 0.25, "disconnect": 0.3, "freeze": int(0.4 * rate), "black": int(0.7 * rate), "engine": 4}
    faults = []
    for i, kind in enumerate(SEEN_AS):
        earlier = EARLIER if kind in ("engine", "nan") else 0
        for at in range(400 * (i + 1) - earlier, frames - 2000 + 1, CYCLE):
            faults.append(Fault(kind, amounts.get(kind, KINDS[kind][0]), at))
            if kind == "clock":  # the next one ends it
                faults.append(Fault(kind, KINDS[kind][0], at + 300))
    return faults


@dataclass(frozen=True)
class Seen:
    """How often a fault was brought about, how often it was seen, and how long its condition held at the most."""

    injected: int
    seen: int
    longest_ms: float


class NoiseCamera:
    """Noise at a steady rate; every picture differs from the one before."""

    camera_id, live, failed = "noise", True, 0
    frame_count = None

    def __init__(self, images: list[np.ndarray], rate: float, stop: threading.Event, left: list[int]) -> None:
        self._images, self.fps, self._stop, self._left = images, rate, stop, left
        self.size_hw = (images[0].shape[0], images[0].shape[1])
        self.notes: list[str] = []
        self._number, self._due_s = 0, time.monotonic()

    def read(self) -> Frame | None:
        """The next picture when it is due; the end, for good, when none is left."""
        if self._left[0] <= 0:
            self._stop.set()
            return None
        self._left[0] -= 1
        self._due_s = max(self._due_s + 1 / self.fps, time.monotonic() - 0.05)
        time.sleep(max(self._due_s - time.monotonic(), 0.0))
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % len(self._images)], number, self.camera_id, time.monotonic_ns())

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class Witness:
    """Watches from outside what is published, and how the process grows."""

    frames: int
    wrong: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    results: int = 0
    last_id: int = -1
    last_ns: int = -1
    since: dict[str, int] = field(default_factory=dict)
    longest_ms: dict[str, float] = field(default_factory=dict)

    def result(self, result: Result) -> None:
        """Check one result, and sample the process now and then."""
        self.results += 1
        late = time.monotonic_ns() - result.t_capture_ns > DEADLINE_MS * 1e6
        if result.state == "fresh" and result.t_publish_ns - result.t_capture_ns > DEADLINE_MS * 1e6:
            self.wrong.append(f"frame {result.frame_id} was {result.age_ms:.0f} ms old and called fresh")
        if late and result.valid_until_ns is not None and time.monotonic_ns() < result.valid_until_ns:
            self.wrong.append(f"frame {result.frame_id} claims to be valid for too long")
        if result.frame_id <= self.last_id or result.t_capture_ns <= self.last_ns:
            self.wrong.append(f"frame {result.frame_id} came after frame {self.last_id}")
        self.last_id, self.last_ns = result.frame_id, result.t_capture_ns
        if self.results % max(self.frames // (2 * SAMPLES), 1) == 0:
            self.samples.append((rss_mb(), len(os.listdir("/proc/self/fd")), threading.active_count()))  # noqa: PTH208

    def event(self, event: Event) -> None:
        """Remember how long each condition held."""
        if event.began:
            self.since[event.condition] = event.t_ns
        else:
            held_ms = (event.t_ns - self.since.pop(event.condition)) / 1e6
            self.longest_ms[event.condition] = max(self.longest_ms.get(event.condition, 0.0), held_ms)


def soak(folder: Path, frames: int, rate: float) -> dict[str, Any]:
    """Run it; the document says what held."""
    bundle = open_bundle(folder)
    rng = np.random.default_rng(0)
    images = [rng.integers(40, 200, (180, 320, 3), dtype=np.uint8) for _ in range(64)]
    injector = Injector(plan(frames, rate))
    health, witness, left = Health(), Witness(frames), [frames]
    began_s = time.monotonic()

    def load() -> Engine:
        return injector.engine(load_bundle_engine(bundle))

    ended = threading.Event()
    camera = keep_open(
        lambda stop: NoiseCamera(images, rate, ended, left), give_up_s=10.0, health=health, wrap=injector.camera
    )

    class Ender:
        """Ends the run when the camera has nothing left and all is well again."""

        needs_picture = False

        @property
        def stop(self) -> bool:
            return left[0] <= 50 and not witness.since

        def write(self, *arguments: object) -> None: ...
        def event(self, event: object) -> None: ...
        def close(self) -> None: ...

    summary = run(
        bundle,
        camera,
        engine=load(),
        reload=load,
        golden="skip",
        health=health,
        patience=PATIENCE,
        deadline_ms=DEADLINE_MS,
        on_result=witness.result,
        on_event=witness.event,
        sinks=[Ender()],
    )
    counts: dict[str, int] = dict(summary.health["counts"])  # type: ignore[call-overload]
    faults = {
        kind: Seen(times, counts.get(SEEN_AS[kind], 0), witness.longest_ms.get(SEEN_AS[kind], 0.0))
        for kind, times in injector.injected.items()
    }
    wrong = list(witness.wrong)
    if summary.captured != summary.processed + summary.dropped + summary.failed:
        wrong.append(
            f"captured {summary.captured}, processed {summary.processed}, dropped {summary.dropped}, "
            f"failed {summary.failed}"
        )
    wrong += [f"{k}: {f.injected} injected, {f.seen} seen" for k, f in faults.items() if f.seen < f.injected]
    wrong += [f"{condition} was never over" for condition in witness.since]
    growth = _growth(witness, wrong)
    return {
        "frames": frames,
        "seconds": round(time.monotonic() - began_s, 1),
        "faults": {kind: dataclasses.asdict(row) for kind, row in faults.items()},
        "growth": growth,
        "wrong": wrong[:50],
        **{key: value for key, value in summary.as_json().items() if key in SHOWN},
    }


def _growth(witness: Witness, wrong: list[str]) -> dict[str, float]:
    """From the first fifth of the samples to the last, their medians; the first tenth is warming up."""
    samples = np.array(witness.samples[len(witness.samples) // 10 :], float)
    if len(samples) < 10:
        return {}
    fifth = len(samples) // 5
    first, last = np.median(samples[:fifth], axis=0), np.median(samples[-fifth:], axis=0)
    slope = float(np.polyfit(np.arange(len(samples)), samples[:, 0], 1)[0])
    growth = {
        "rss_mb_first": float(first[0]),
        "rss_mb_last": float(last[0]),
        "rss_mb_per_100k_frames": round(slope * 2 * SAMPLES * 100_000 / witness.frames, 3),
        "files_first": float(first[1]),
        "files_last": float(last[1]),
        "threads_first": float(first[2]),
        "threads_last": float(last[2]),
    }
    if last[0] - first[0] > MAX_GROWTH_MB:
        wrong.append(f"memory grew from {first[0]:.1f} to {last[0]:.1f} MB")
    for name, i in (("file handles", 1), ("threads", 2)):
        if last[i] > first[i]:
            wrong.append(f"{name} grew from {first[i]:.0f} to {last[i]:.0f}")
    return growth


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The document for people."""
    parts = " + ".join(f"{found[name]} {name}" for name in ("processed", "dropped", "failed"))
    yield f"{found['captured']} captured = {parts} in {found['seconds']} s"
    for kind, row in found["faults"].items():
        seen = f"injected {row['injected']:4}  seen {row['seen']:6}"
        yield f"  {kind:<11} {seen}  held for {row['longest_ms']:6.0f} ms at the most"
    yield f"  growth {found['growth']}"
    yield f"  states {found['states']}, age {found['age_ms']}"
    yield from (f"  WRONG: {line}" for line in found["wrong"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.bundle or write_test_bundle(Path(scratch) / "tiny.bundle")
        found = soak(folder, args.frames, args.rate)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(lines(found)))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
