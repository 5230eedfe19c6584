"""How true are places on the road? Distances, speeds and the check of the camera against roadworld's exact poses.

    python tests/bench/bench_geometry.py [--bundle DIR] [--stills 150] [--drives 4] [--seconds 30] [--json]

Three kinds of boxes: roadworld's own; the same with edges that shake (2 % of the height and half a pixel, correlated
over 0.5 s) and a camera whose pitch is off (0.3 degrees, half of it for a whole drive, half nodding); and with --bundle
those of a real detector, with the pitch as stated. Truth is the nearest point that an object touches the ground at,
along the axis; closing speeds are of exact positions. Only objects that count (not `ignore`) and of which at least 90 %
are seen are measured; coverage is the share of errors within 1.645 stated deviations, which is 90 % where those are
right and errors are normal. Then false alarms and finding times of the moved camera, and the time of one update.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl.roadworld import CLASSES, render_clip, render_still
from edgetl.roadworld.calibrate import calibration_of
from edgetl.roadworld.labels import Rendered, RenderedObject
from edgetl_runtime.association import overlaps
from edgetl_runtime.geometry.approach import ApproachSettings
from edgetl_runtime.geometry.calibration import Calibration
from edgetl_runtime.geometry.ground import Ground
from edgetl_runtime.geometry.placing import HeadPlacing
from edgetl_runtime.result import Detections, Frame, Places

SIZE_HW = (360, 640)
FPS = 10.0
SHAKE_SHARE, SHAKE_PX, SHAKE_S = 0.02, 0.5, 0.5
PITCH_DEG = 0.3
BANDS_M = ((0, 10), (10, 20), (20, 30), (30, 50))
NORMAL = 1.645
ALONE = {"ground alone": ApproachSettings(use_extent=False), "size alone": ApproachSettings(use_ground=False)}
FIRST_SEED = 500
"""Settings were chosen on drives below it."""


@dataclass(frozen=True)
class Truth:
    """What is exactly so of one box: distance along the axis, from the camera's foot, and how fast that shrinks."""

    object_id: int
    label: int
    forward_m: float
    distance_m: float
    measured: bool
    closing_mps: float = float("nan")


@dataclass(frozen=True)
class Seen:
    """Boxes of one picture with what is true of them, None for a box that no object fits; the calibration in use."""

    time_s: float
    size_hw: tuple[int, int]
    found: Detections
    truth: list[Truth | None]
    calibration: Calibration


def truth_of(item: RenderedObject) -> Truth:
    """The nearest place where it touches the ground."""
    forward = min(x for x, _ in item.stand.touches_m)
    distance = float(np.hypot(forward, item.stand.position_m[1]))
    return Truth(item.object_id, item.label, forward, distance, not item.ignore and item.visible >= 0.9)


def standing(picture: Rendered) -> list[RenderedObject]:
    """Objects on the ground in front of the camera."""
    return [o for o in picture.objects if o.stand.touches_m and min(x for x, _ in o.stand.touches_m) > 1]


def with_speeds(pictures: list[list[Truth | None]], times_s: list[float]) -> list[list[Truth | None]]:
    """The same with closing speeds, from distances 0.2 s apart on both sides."""
    at: dict[int, list[tuple[float, float]]] = {}
    for time_s, row in zip(times_s, pictures, strict=True):
        for t in row:
            if t is not None:
                at.setdefault(t.object_id, []).append((time_s, t.distance_m))
    known = {number: np.array(points).T for number, points in at.items()}

    def fast(t: Truth, time_s: float) -> Truth:
        stamps, distances = known[t.object_id]
        near = np.abs(stamps - time_s) <= 0.21
        if near.sum() < 3:
            return t
        return dataclasses.replace(t, closing_mps=-float(np.polyfit(stamps[near], distances[near], 1)[0]))

    return [
        [None if t is None else fast(t, time_s) for t in row] for time_s, row in zip(times_s, pictures, strict=True)
    ]


def boxes_of(items: list[RenderedObject]) -> Detections:
    """roadworld's own boxes, numbered by object."""
    n = len(items)
    return Detections(
        np.array([o.box_xyxy for o in items], np.float32).reshape(n, 4),
        np.ones(n, np.float32),
        np.array([o.label for o in items], np.int64),
        np.array([o.object_id for o in items], np.int64),
        np.ones(n, np.float32),
        np.zeros((n, 2), np.float32),
    )


class Shaker:
    """Shakes boxes and nods the camera, from a fixed seed."""

    def __init__(self, seed: int, *, pitch_deg: float = PITCH_DEG) -> None:
        self._rng = np.random.default_rng(seed)
        self._drift: dict[int, NDArray[np.float64]] = {}
        self._steady, self._nod = self._rng.normal(0, pitch_deg * np.sqrt(0.5), 2)
        self._nod_std = pitch_deg * np.sqrt(0.5)

    def __call__(self, seen: Seen) -> Seen:
        """The same picture, seen worse."""
        keep = np.exp(-1 / (FPS * SHAKE_S))
        fresh = np.sqrt(1 - keep**2)
        self._nod = keep * self._nod + fresh * self._rng.normal(0, self._nod_std)
        boxes = seen.found.boxes_xyxy.astype(np.float64)
        assert seen.found.track_ids is not None
        for k, number in enumerate(seen.found.track_ids.tolist()):
            before = self._drift.get(number)
            drawn = self._rng.normal(0, 1, 4)
            self._drift[number] = drawn if before is None else keep * before + fresh * drawn
            boxes[k] += self._drift[number] * np.hypot(SHAKE_SHARE * (boxes[k, 3] - boxes[k, 1]), SHAKE_PX)
        h, w = seen.size_hw
        found = dataclasses.replace(seen.found, boxes_xyxy=boxes.clip(0, [w, h, w, h]).astype(np.float32))
        return dataclasses.replace(seen, found=found, calibration=tilted(seen.calibration, self._steady + self._nod))


def tilted(calibration: Calibration, pitch_deg: float) -> Calibration:
    """A calibration that is off by so much: the camera looks further down than it says."""
    mounting = msgspec.structs.replace(calibration.mounting, pitch_deg=calibration.mounting.pitch_deg - pitch_deg)
    return msgspec.structs.replace(calibration, mounting=mounting)


class Detector:
    """A bundle on rendered pictures, its boxes tracked and matched with what is there."""

    def __init__(self, bundle: Path) -> None:
        from edgetl_runtime.bundle import open_bundle
        from edgetl_runtime.engines import load_bundle_engine
        from edgetl_runtime.pipeline import Pipeline
        from edgetl_runtime.spec import DetectHead

        self._opened = open_bundle(bundle)
        self._engine = load_bundle_engine(self._opened)
        self._make: Callable[[], Pipeline] = lambda: Pipeline(self._opened, self._engine, track=True)
        head = next(h for h in self._opened.manifest.heads if isinstance(h, DetectHead))
        self.labels = head.labels
        self.restart()

    def restart(self) -> None:
        """Forget every track."""
        self._pipeline = self._make()

    def __call__(self, picture: Rendered) -> Seen:
        """What the bundle sees, with what is true of it."""
        stamp = round(picture.time_s * 1e9)
        result = self._pipeline.process(Frame(picture.image, stamp, "roadworld", stamp, media_time_s=picture.time_s))
        found = result.detections
        items = standing(picture)
        overlap = overlaps(
            found.boxes_xyxy.astype(np.float64), np.array([o.box_xyxy for o in items], np.float64).reshape(-1, 4)
        )
        truth: list[Truth | None] = []
        for row in overlap:
            best = int(row.argmax()) if len(row) else -1
            truth.append(truth_of(items[best]) if best >= 0 and row[best] >= 0.5 else None)
        return Seen(picture.time_s, result.size_hw, found, truth, calibration_of(picture))


def exact(picture: Rendered) -> Seen:
    """roadworld's own boxes."""
    items = standing(picture)
    return Seen(
        picture.time_s,
        picture.image.shape[:2],
        boxes_of(items),
        [truth_of(o) for o in items],
        calibration_of(picture, pitch_std_deg=PITCH_DEG, box_edge_std_share=SHAKE_SHARE, box_edge_std_px=SHAKE_PX),
    )


def stills(count: int, seed: int = FIRST_SEED) -> Iterator[Rendered]:
    """Pictures by day, each of a scene of its own."""
    return (render_still(seed, index, size_hw=SIZE_HW) for index in range(count))


def drive(seed: int, seconds: float, look: Callable[[Rendered], Seen]) -> list[Seen]:
    """One rendered drive, looked at frame by frame, with true speeds."""
    steps = [look(p) for p in render_clip(seed, seconds=seconds, fps=FPS, size_hw=SIZE_HW)]
    rows = with_speeds([s.truth for s in steps], [s.time_s for s in steps])
    return [dataclasses.replace(s, truth=row) for s, row in zip(steps, rows, strict=True)]


def placed(
    steps: Iterable[Seen], labels: tuple[str, ...], *, settings: ApproachSettings | None = None
) -> Iterator[Places]:
    """Places of one camera's pictures, in turn, each with its own calibration."""
    head: HeadPlacing | None = None
    for step in steps:
        ground = Ground(step.calibration)
        if head is None:
            head = HeadPlacing(ground, labels)
            head.approach.settings = settings or head.approach.settings
        head.ground = ground
        yield head.places(step.found, step.size_hw, t_ns=round(step.time_s * 1e9))


def distances(pairs: Iterable[tuple[Seen, Places]]) -> dict[str, dict[str, float]]:
    """By range of true distance: errors of the distance along the axis, and how well they are stated."""
    rows = []
    for seen, places in pairs:
        for k, t in enumerate(seen.truth):
            if t is not None and t.measured:
                rows.append((t.forward_m, places.positions_m[k, 0], np.sqrt(places.covariances_m2[k, 0, 0])))
    table = np.array(rows, np.float64).reshape(-1, 3)
    figures = {f"{a}-{b} m": _distance_figures(table[(table[:, 0] >= a) & (table[:, 0] < b)]) for a, b in BANDS_M}
    return figures | {"to 30 m": _distance_figures(table[table[:, 0] < 30])}


def _distance_figures(rows: NDArray[np.float64]) -> dict[str, float]:
    told = rows[np.isfinite(rows[:, 1])]
    if not len(told):
        return {"boxes": len(rows), "placed": 0}
    true, found, std = told.T
    error = np.abs(found - true)
    return {
        "boxes": len(rows),
        "placed": len(told),
        "median_error": round(float(np.median(error / true)), 4),
        "median_bias": round(float(np.median((found - true) / true)), 4),
        "p90_error": round(float(np.percentile(error / true, 90)), 4),
        "coverage_90": round(float((error <= NORMAL * std).mean()), 3),
        "median_std": round(float(np.median(std / true)), 4),
    }


def speeds(pairs: Iterable[tuple[Seen, Places]]) -> dict[str, float]:
    """Errors of closing speeds and of times to collision under 6 s, of objects to 50 m."""
    found, true, stds, times, true_times = [], [], [], [], []
    asked = asked_times = 0
    for seen, places in pairs:
        for k, t in enumerate(seen.truth):
            if t is None or not t.measured or not np.isfinite(t.closing_mps) or t.distance_m > 50:
                continue
            asked += 1
            speed, left = float(places.closing_speeds_mps[k]), float(places.times_to_collision_s[k])
            if np.isfinite(speed):
                found.append(speed)
                true.append(t.closing_mps)
                assert places.closing_speed_stds_mps is not None
                stds.append(float(places.closing_speed_stds_mps[k]))
            if t.closing_mps > 1 and t.distance_m / t.closing_mps < 6:
                asked_times += 1
                if np.isfinite(left):
                    times.append(left)
                    true_times.append(t.distance_m / t.closing_mps)
    off = np.abs(np.array(found) - np.array(true))
    late = np.abs(np.array(times) / np.array(true_times) - 1) if times else np.zeros(0)
    return {
        "boxes": asked,
        "speed_given": round(len(found) / max(asked, 1), 3),
        "speed_median_mps": _percentile(off, 50),
        "speed_p90_mps": _percentile(off, 90),
        "speed_coverage_90": round(float((off <= NORMAL * np.array(stds)).mean()), 3) if stds else float("nan"),
        "speed_median_std_mps": _percentile(np.array(stds), 50),
        "ttc_boxes": asked_times,
        "ttc_given": round(len(times) / max(asked_times, 1), 3),
        "ttc_median": _percentile(late, 50),
        "ttc_p90": _percentile(late, 90),
    }


def _percentile(values: NDArray[np.float64], share: float) -> float:
    return round(float(np.percentile(values, share)), 3) if len(values) else float("nan")


def horizon(drives: list[list[Seen]], labels: tuple[str, ...], pitch_deg: float) -> dict[str, Any]:
    """Drives with a camera that looks so much further down than calibrated: when that is told, how large it seems."""
    found, tilts, stds = [], [], []
    for steps in drives:
        head = HeadPlacing(Ground(tilted(steps[0].calibration, pitch_deg)), labels)
        told = float("nan")
        for step in steps:
            head.places(step.found, step.size_hw, t_ns=round(step.time_s * 1e9))
            if head.horizon.moved and np.isnan(told):
                told = step.time_s
            if head.horizon.tilt is not None:
                tilts.append(head.horizon.tilt.pitch_deg)
                stds.append(head.horizon.tilt.std_deg)
        found.append(told)
    return {
        "drives": len(drives),
        "seconds": round(sum(steps[-1].time_s for steps in drives), 1),
        "told": int(np.isfinite(found).sum()),
        "after_s": [None if np.isnan(f) else round(f, 1) for f in found],
        "tilt_p5_p50_p95_deg": [round(float(v), 2) for v in np.percentile(tilts, [5, 50, 95])] if tilts else None,
        "median_std_deg": round(float(np.median(stds)), 2) if stds else None,
    }


def cost_ms(boxes: int, *, tracked: bool, distorted: bool, updates: int = 1000) -> dict[str, float]:
    """Percentiles of one update with so many boxes."""
    from edgetl_runtime.geometry.calibration import Mounting

    calibration = Calibration(
        camera_name="bench",
        size_hw=(720, 1280),
        matrix=(1000.0, 0.0, 639.5, 0.0, 1000.0, 359.5, 0.0, 0.0, 1.0),
        model="plumb_bob",
        coefficients=(-0.3, 0.1, 0.001, -0.001, 0.0) if distorted else (0.0,) * 5,
        mounting=Mounting(position_m=(1.0, 0.0, 1.5), pitch_deg=2.0),
    )
    rng = np.random.default_rng(0)
    corners = rng.uniform([0, 330], [1200, 500], (boxes, 2))
    at = np.concatenate([corners, corners + rng.uniform(30, 150, (boxes, 2))], 1)
    head, taken = HeadPlacing(Ground(calibration), CLASSES), []
    tracks = (np.arange(boxes), np.ones(boxes, np.float32), np.ones((boxes, 2), np.float32)) if tracked else ()
    for k in range(updates):
        moved = (at + rng.normal(0, 1, at.shape)).astype(np.float32)
        found = Detections(moved, np.ones(boxes, np.float32), np.arange(boxes) % 5, *tracks)
        start = time.perf_counter()
        head.places(found, (720, 1280), t_ns=k * 33_000_000)
        taken.append(1e3 * (time.perf_counter() - start))
    p50, p99 = np.percentile(taken[updates // 10 :], [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def measure(*, count: int, drives: int, seconds: float, bundle: Path | None) -> dict[str, Any]:
    """All figures by name."""
    document: dict[str, Any] = {"places": {}, "speeds": {}, "moved": {}, "cost": {}}
    pictures = [exact(p) for p in stills(count)]
    shaken = [Shaker(k)(s) for k, s in enumerate(pictures)]
    worse = [dataclasses.replace(s, found=w.found) for s, w in zip(pictures, shaken, strict=True)]
    for name, seen in (("exact boxes", pictures), ("shaken boxes, pitch off", shaken), ("shaken boxes", worse)):
        document["places"][name] = distances((s, next(placed([s], CLASSES))) for s in seen)
    clips = [drive(FIRST_SEED + k, seconds, exact) for k in range(drives)]
    document_drives(document, "exact boxes", clips, CLASSES)
    shaken_clips = []
    for k, steps in enumerate(clips):
        shaker = Shaker(FIRST_SEED + k)
        shaken_clips.append([shaker(s) for s in steps])
    document_drives(document, "shaken boxes, pitch off", shaken_clips, CLASSES)
    if bundle is not None:
        detector = Detector(bundle)
        seen_stills = []
        for picture in stills(count):
            detector.restart()
            seen_stills.append(detector(picture))
        document["places"]["bundle"] = distances((s, next(placed([s], detector.labels))) for s in seen_stills)
        seen_clips = []
        for k in range(drives):
            detector.restart()
            seen_clips.append(drive(FIRST_SEED + k, seconds, detector))
        document_drives(document, "bundle", seen_clips, detector.labels)
    for boxes in (0, 20, 50):
        for tracked in (False, True):
            for distorted in (False, True):
                name = f"{boxes} boxes{', tracked' * tracked}{', distorted' * distorted}"
                document["cost"][name] = cost_ms(boxes, tracked=tracked, distorted=distorted)
    return document


def document_drives(document: dict[str, Any], name: str, clips: list[list[Seen]], labels: tuple[str, ...]) -> None:
    """Speeds and the camera's check over drives."""
    pairs = [pair for steps in clips for pair in zip(steps, placed(steps, labels), strict=True)]
    document["speeds"][name] = speeds(pairs)
    for way, settings in ALONE.items():
        alone = (pair for steps in clips for pair in zip(steps, placed(steps, labels, settings=settings), strict=True))
        document["speeds"][f"{name}, {way}"] = speeds(alone)
    if name == "bundle":
        document["places"]["bundle, drives"] = distances(pairs)
    for pitch_deg in (0.0, 2.0, -2.0):
        document["moved"][f"{name}, {pitch_deg:+g} degrees"] = horizon(clips, labels, pitch_deg)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a detector of roadworld's classes")
    parser.add_argument("--stills", type=int, default=150)
    parser.add_argument("--drives", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each drive")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    document = measure(count=args.stills, drives=args.drives, seconds=args.seconds, bundle=args.bundle)
    if args.json:
        print(json.dumps({"bench": "geometry", **document}))
        return
    for part, rows in document.items():
        print(part)
        for name, row in rows.items():
            if part != "places":
                print(f"  {name:<40} {row}")
                continue
            for band, figures in row.items():
                print(f"  {name:<26} {band:<8} {figures}")


if __name__ == "__main__":
    main()
