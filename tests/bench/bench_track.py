"""Do numbers stay with objects? Tracks over rendered drives whose objects are known, with a detector's faults put in.

    python tests/bench/bench_track.py [--seconds 20] [--drives 3] [--json]

By day and by night, with every frame and with frames dropped as a slow engine drops them: switches of number for each
object and minute, IDF1 and MOTA, against greedy matching by overlap without a motion model. The faults are drawn from
fixed seeds: boxes that shake, scores that drift, misses that last, boxes where nothing is, wrong classes. Then the time
of one update at 50 boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from track_metrics import TrackScore, Truth

from edgetl.roadworld import CLASSES, render_clip
from edgetl_runtime.association import greedy_pairs, overlaps
from edgetl_runtime.result import Detections
from edgetl_runtime.track import NO_TRACK, Tracker, TrackSettings

FPS = 30.0
SIZE_HW = (360, 640)
FIRST_SEED = 100
"""Of the drives that are measured; the settings were chosen on drives below it."""
SURE = 0.5
"""The threshold of every label."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with a detector.

    sure: score of an object that is seen well. shake: deviation of box edges in shares of the side. miss_rate: how
    often an object begins to be missed for 0.1 to 0.6 s, each second. ghosts: boxes where nothing is, each frame.
    flicker: share of boxes with a wrong class.
    """

    sure: float
    shake: float
    miss_rate: float
    ghosts: float
    flicker: float


FAULTS = {"day": Faults(0.85, 0.03, 0.15, 0.3, 0.05), "night": Faults(0.7, 0.05, 0.3, 0.6, 0.1)}
_SCORE_DEVIATION, _DRIFT_S = 0.15, 0.3


@dataclass(frozen=True)
class Step:
    """One frame: what is there, what the detector says of it at any score."""

    truth: Truth
    found: Detections


@dataclass
class _Seen:
    """How the detector does on one object."""

    drift: float = 0.0
    missed_until_s: float = -1.0


def drive(seed: int, domain: str, seconds: float) -> list[Step]:
    """One rendered drive at FPS."""
    rng, faults = np.random.default_rng(seed), FAULTS[domain]
    seen: dict[int, _Seen] = {}
    steps = []
    for picture in render_clip(seed, seconds=seconds, fps=FPS, size_hw=SIZE_HW, domain=domain):
        objects = picture.objects
        truth = Truth(
            picture.time_s,
            np.array([o.box_xyxy for o in objects], np.float64).reshape(-1, 4),
            np.array([o.object_id for o in objects], np.int64),
            np.array([o.ignore for o in objects], bool),
        )
        rows = []
        for o in objects:
            state = seen.setdefault(o.object_id, _Seen(drift=rng.normal()))
            row = _detected(o.box_xyxy, o.label, o.visible, state, picture.time_s, faults, rng)
            rows += [row] if row else []
        rows += [_ghost(faults, rng) for _ in range(rng.poisson(faults.ghosts))]
        steps.append(Step(truth, _detections(rows)))
    return steps


_Row = tuple[NDArray[np.float64], float, int]


def _detected(
    box: tuple[float, float, float, float],
    label: int,
    visible: float,
    state: _Seen,
    time_s: float,
    faults: Faults,
    rng: np.random.Generator,
) -> _Row | None:
    keep = np.exp(-1 / (FPS * _DRIFT_S))
    state.drift = keep * state.drift + np.sqrt(1 - keep**2) * rng.normal()
    if rng.random() < faults.miss_rate / FPS:
        state.missed_until_s = time_s + rng.uniform(0.1, 0.6)
    corners = np.array(box)
    sides = corners[2:] - corners[:2]
    small = max(16 - sides[1], 0) / 16
    score = faults.sure - 0.6 * (1 - visible) - 0.6 * small + _SCORE_DEVIATION * state.drift
    shaken = corners + rng.normal(0, faults.shake, 4) * np.tile(sides, 2)
    shaken[2:] = np.maximum(shaken[2:], shaken[:2] + 1)
    wrong = rng.random() < faults.flicker
    index = int(rng.integers(len(CLASSES))) if wrong else label
    if time_s < state.missed_until_s or score < 0.05:
        return None
    return shaken, min(score, 0.99), index


def _ghost(faults: Faults, rng: np.random.Generator) -> _Row:
    sides = rng.uniform(10, 80, 2)
    corner = rng.uniform(0, 1, 2) * (np.array(SIZE_HW[::-1]) - sides)
    return np.concatenate([corner, corner + sides]), rng.uniform(0.1, 0.7), int(rng.integers(len(CLASSES)))


def _detections(rows: list[_Row]) -> Detections:
    rows = sorted(rows, key=lambda row: -row[1])
    boxes = np.array([r[0] for r in rows]).reshape(-1, 4).clip(0, [*SIZE_HW[::-1]] * 2)
    rows = [r for r, b in zip(rows, boxes, strict=True) if b[2] > b[0] and b[3] > b[1]]
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return Detections(
        boxes.astype(np.float32), np.array([r[1] for r in rows], np.float32), np.array([r[2] for r in rows], np.int64)
    )


def dropped(steps: list[Step], seed: int) -> list[Step]:
    """What is left where the engine takes from one frame to six, 0.1 s on average."""
    rng = np.random.default_rng(seed)
    kept, at = [], 0
    while at < len(steps):
        kept.append(steps[at])
        at += int(rng.choice([1, 2, 3, 4, 6], p=[0.1, 0.3, 0.35, 0.15, 0.1]))
    return kept


class Plain:
    """What is written first: sure boxes, greedy by overlap with where the track was last, as long a memory."""

    def __init__(self, memory_s: float, confirm_hits: int) -> None:
        self._memory_s, self._confirm_hits = memory_s, confirm_hits
        self._tracks: list[tuple[NDArray[np.float32], float, int, int]] = []  # box, seen, number, hits
        self._next_id = 0

    def update(self, found: Detections, time_s: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Boxes and their numbers."""
        boxes = found.boxes_xyxy[found.scores >= SURE]
        worth = overlaps(boxes.astype(np.float64), np.array([t[0] for t in self._tracks], np.float64).reshape(-1, 4))
        places = np.nonzero(worth >= 0.3)
        track_of = dict(zip(*greedy_pairs(*places, worth[places]), strict=True))
        ids = []
        for i, box in enumerate(boxes):
            if i in track_of:
                _, _, number, hits = self._tracks[track_of[i]]
                self._tracks[track_of[i]] = (box, time_s, number, hits + 1)
            else:
                number, hits = self._next_id, 0
                self._next_id += 1
                self._tracks.append((box, time_s, number, 1))
            ids.append(number if hits + 1 >= self._confirm_hits else NO_TRACK)
        self._tracks = [t for t in self._tracks if time_s - t[1] <= self._memory_s]
        known = np.array(ids, np.int64) >= 0
        return boxes[known].astype(np.float64), np.array(ids, np.int64)[known]


def plain(steps: Iterable[Step], score: TrackScore) -> None:
    """The plain way over one drive."""
    settings = TrackSettings()
    tracker = Plain(settings.memory_s, settings.confirm_hits)
    for step in steps:
        score.add(step.truth, *tracker.update(step.found, step.truth.time_s))


def tracked(steps: Iterable[Step], score: TrackScore, settings: TrackSettings | None = None) -> None:
    """edgetl's tracker over one drive."""
    settings = settings or TrackSettings()
    tracker = Tracker((SURE,) * len(CLASSES), settings)
    for step in steps:
        f, low = step.found, step.found.scores >= SURE * settings.low_share
        found = Detections(f.boxes_xyxy[low], f.scores[low], f.classes[low])
        found = tracker.update(found, t_ns=round(step.truth.time_s * 1e9), size_hw=SIZE_HW)
        assert found.track_ids is not None
        known = found.track_ids >= 0
        score.add(step.truth, found.boxes_xyxy[known].astype(np.float64), found.track_ids[known])


WAYS = {"plain": plain, "edgetl": tracked}


def quality(seconds: float, drives: int) -> dict[str, dict[str, dict[str, float]]]:
    """By light and rate, then by way: figures over all drives."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for place, light in enumerate(FAULTS):
        # The light changes no box, so there are other drives by night.
        seeds = range(FIRST_SEED + place * drives, FIRST_SEED + (place + 1) * drives)
        every = [drive(seed, light, seconds) for seed in seeds]
        some = [dropped(steps, seed) for steps, seed in zip(every, seeds, strict=True)]
        for name, clips in ((f"{light}, 30 frames/s", every), (f"{light}, dropped to 10/s", some)):
            rows[name] = {}
            for way, over in WAYS.items():
                score = TrackScore()
                for clip in clips:
                    score.next_clip()
                    over(clip, score)
                rows[name][way] = score.figures()
    return rows


def cost_ms(boxes: int, updates: int = 1000) -> dict[str, float]:
    """Percentiles of one update: `boxes` objects that drift, all of them found, a third of them below the threshold."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, [1150, 600], (boxes, 2))
    at = np.concatenate([corners, corners + rng.uniform(20, 120, (boxes, 2))], 1)
    classes = np.arange(boxes) % len(CLASSES)
    tracker, taken = Tracker((SURE,) * len(CLASSES)), []
    for k in range(updates):
        moved = (at + 0.03 * k + rng.normal(0, 1, at.shape)).astype(np.float32)
        scores = np.sort(rng.uniform(0.25, 1, boxes))[::-1].astype(np.float32)
        found = Detections(moved, scores, classes)
        start = time.perf_counter()
        tracker.update(found, t_ns=k * 33_000_000, size_hw=(720, 1280))
        taken.append(1e3 * (time.perf_counter() - start))
    p50, p99 = np.percentile(taken[updates // 10 :], [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each drive")
    parser.add_argument("--drives", type=int, default=3, help="for each light")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cost = {str(n): cost_ms(n) for n in (0, 10, 50, 100)}
    rows = quality(args.seconds, args.drives)
    if args.json:
        print(json.dumps({"bench": "track", "quality": rows, "cost_ms_by_boxes": cost}))
        return
    for name, ways in rows.items():
        for way, f in ways.items():
            print(
                f"{name:<24} {way:<7} {f['switches_per_object_minute']:6.2f} switches/object minute   "
                f"IDF1 {f['idf1']:.3f}   MOTA {f['mota']:.3f}   {f['tracks']:.0f} tracks of {f['objects']:.0f} objects"
            )
    for boxes, figures in cost.items():
        print(f"one update, {boxes} boxes: {figures['p50_ms']} ms, p99 {figures['p99_ms']}")


if __name__ == "__main__":
    main()
