"""What travels through the runtime: frames in, what the heads found and results out.

Arrays belong to whoever received the object; the runtime never writes to one it has handed out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgetl_runtime.health import State
    from edgetl_runtime.spec import Head

CLOCK = "CLOCK_MONOTONIC"
"""The clock of every `_ns` stamp in this package (time.monotonic_ns on Linux)."""

ResultState = Literal["fresh", "late"]
"""late: older at publish than the deadline that the run was given. Never acted on as if it were fresh."""

MOST_DEADLINE_MS = 1e9
"""Of a deadline: eleven days, more is a mistake."""

LEAST_SHOWN = 0.01
"""Probabilities below this are left out of a line of JSON."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera picture.

    image: (H, W, 3) uint8 BGR, contiguous. frame_id counts from 0 by camera, gaps are frames that the
    camera lost. t_capture_ns is stamped before any processing, on CLOCK. media_time_s is the position in
    a file, or None for a live camera.
    """

    image: NDArray[np.uint8]
    frame_id: int
    camera_id: str
    t_capture_ns: int
    media_time_s: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype.name != "uint8":
            raise ValueError(f"Frame.image must be (H, W, 3) uint8, found {self.image.shape} {self.image.dtype}")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the boxes of one frame stand on the road, a row for each box.

    In base_link by REP-103: metres, x forward, y to the left, from the vehicle's own origin. positions_m: (N, 2)
    float32, the middle of the side that faces the camera, where it touches the ground; halfway along what may be hidden
    of an object that the picture's left or right edge cuts. covariances_m2: (N, 2, 2) float32, its uncertainty: 90 % of
    errors are meant to be within 1.645 standard deviations. closing_speeds_mps: (N,) float32, how fast the distance
    from the camera shrinks, below zero where it grows. times_to_collision_s: (N,) float32, until that distance is used
    up at that speed. closing_speed_stds_mps, time_to_collision_stds_s: (N,) float32 each, one standard deviation of the
    speed and of the time (see Closing in edgetl_runtime.geometry.approach), None where it is not known for any box.

    NaN where nothing can be said: a position for a box that touches no ground in the picture, a speed for an object
    that is not tracked (long enough), a time where nothing comes nearer.
    """

    positions_m: NDArray[np.float32]
    covariances_m2: NDArray[np.float32]
    closing_speeds_mps: NDArray[np.float32]
    times_to_collision_s: NDArray[np.float32]
    closing_speed_stds_mps: NDArray[np.float32] | None = None
    time_to_collision_stds_s: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.positions_m)
        parts = (self.positions_m, self.covariances_m2, self.closing_speeds_mps, self.times_to_collision_s)
        shapes = [part.shape for part in parts]
        if shapes != [(n, 2), (n, 2, 2), (n,), (n,)]:
            raise ValueError(
                f"Places must hold positions ({n}, 2), covariances ({n}, 2, 2), speeds ({n},) and times ({n},), "
                f"found {shapes}"
            )
        deviations = {"speeds": self.closing_speed_stds_mps, "times": self.time_to_collision_stds_s}
        for what, stds in deviations.items():
            if stds is not None and stds.shape != (n,):
                raise ValueError(f"Places must hold a deviation for each of {n} {what}, found {stds.shape}")

    def __len__(self) -> int:
        return len(self.positions_m)


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one frame, best score first.

    boxes_xyxy: (N, 4) float32, x1, y1, x2, y2 in pixels of the source image, inside it.
    scores: (N,) float32 in 0..1. classes: (N,) int64 index into labels.

    Where objects are tracked, all of these, otherwise None: track_ids: (N,) int64, the same number for the same object
    in every frame of a run, -1 where there is none (yet). track_ages_s: (N,) float32, seconds since the object was
    first seen. velocities_px_s: (N, 2) float32, of the box's centre, x and y in pixels of the source image. Ages and
    velocities are NaN where there is no number. A box with a number has the label of its track, and may have a score
    below the head's threshold. places: where the boxes stand, None without a calibrated camera.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    track_ids: NDArray[np.int64] | None = None
    track_ages_s: NDArray[np.float32] | None = None
    velocities_px_s: NDArray[np.float32] | None = None
    places: Places | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4) or self.classes.shape != (n,) or self.scores.ndim != 1:
            raise ValueError(
                "Detections must hold boxes (N, 4), scores (N,) and classes (N,), found "
                f"{self.boxes_xyxy.shape}, {self.scores.shape}, {self.classes.shape}"
            )
        tracks = (self.track_ids, self.track_ages_s, self.velocities_px_s)
        shapes = [None if part is None else part.shape for part in tracks]
        if shapes not in ([None] * 3, [(n,), (n,), (n, 2)]):
            raise ValueError(
                f"Detections must hold track ids ({n},), ages ({n},) and velocities ({n}, 2), or none of them, "
                f"found {shapes}"
            )
        if self.places is not None and len(self.places) != n:
            raise ValueError(f"Detections must hold a place for each of {n} boxes, found {len(self.places)}")

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Mask:
    """A class for every pixel of one frame, at a reduced resolution.

    classes: (h, w) uint8 index into labels, cells of `cell` x `cell` network pixels. size_hw: of the source image.
    window: where the source image lies on them, as top, left, height, width in network pixels; None: it covers all
    of them. With padding that is no whole number of cells, the first and last cells lie partly outside it.
    """

    classes: NDArray[np.uint8]
    size_hw: tuple[int, int]
    cell: int = 1
    window: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.classes.ndim != 2 or self.classes.dtype != np.uint8 or not self.classes.size:
            raise ValueError(f"Mask.classes must be (h, w) uint8, found {self.classes.shape} {self.classes.dtype}")

    def at_source(self, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """(H, W) uint8, the class of the cell under each source pixel's centre; a new array, or `out`."""
        axes = zip(self.size_hw, self.classes.shape, self._spans(), strict=True)
        rows, columns = (_cells_under(source, cells, span, self.cell) for source, cells, span in axes)
        wide = self.classes.take(columns, axis=1)
        found: NDArray[np.uint8] = np.take(wide, rows, axis=0, out=out, mode="clip")
        return found

    def shares(self, labels: int) -> NDArray[np.float64]:
        """(labels,) share of the image's area by class, adding up to 1."""
        rows, columns = (
            _overlaps(cells, span, self.cell) for cells, span in zip(self.classes.shape, self._spans(), strict=True)
        )
        whole = rows.min() == rows.max() and columns.min() == columns.max()  # counting is faster than weighing
        weights = None if whole else np.outer(rows, columns).ravel()
        counts = np.bincount(self.classes.ravel(), weights=weights, minlength=labels)
        shares: NDArray[np.float64] = counts / counts.sum()
        return shares

    def _spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Start and length of the source image on each axis, in network pixels."""
        h, w = self.classes.shape
        top, left, height, width = self.window or (0, 0, h * self.cell, w * self.cell)
        return (top, height), (left, width)


def _cells_under(source: int, cells: int, span: tuple[int, int], cell: int) -> NDArray[np.intp]:
    """Index of the cell under the centre of each source pixel; in whole numbers, so that no edge is rounded."""
    start, length = span
    centres = 2 * source * start + (2 * np.arange(source) + 1) * length
    return np.minimum(centres // (2 * source * cell), cells - 1)


def _overlaps(cells: int, span: tuple[int, int], cell: int) -> NDArray[np.int64]:
    """How many pixels of the span lie in each cell."""
    edges = np.clip(np.arange(cells + 1) * cell, span[0], span[0] + span[1])
    return np.diff(edges)


@dataclass(frozen=True, slots=True)
class Scores:
    """One class for the whole frame.

    probabilities: (C,) float32, adding up to 1. label: index of the largest, -1 where it is below its threshold.
    """

    probabilities: NDArray[np.float32]
    label: int

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 1 or not -1 <= self.label < len(self.probabilities):
            raise ValueError(
                f"Scores must hold (C,) probabilities and a label below C, found {self.probabilities.shape} "
                f"and {self.label}"
            )


Output = Detections | Mask | Scores
"""What one head says of one frame."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one frame gave, with its age.

    outputs: by the name of the head. t_capture_ns and t_publish_ns are on CLOCK; stages_ms maps stage name to
    milliseconds; dropped_before counts frames of this camera that were captured but never processed since the
    last result. valid_until_ns: nothing may be decided on it after that, None where no deadline was given. health: the
    state of the whole loop at publish. shift: the share of frames like the training's that lie nearer to them, None
    without statistics of that domain. embedding: (D,) float32, what the network's backbone made of the whole frame,
    None where the bundle gives none.
    """

    frame_id: int
    camera_id: str
    t_capture_ns: int
    t_publish_ns: int
    outputs: dict[str, Output]
    size_hw: tuple[int, int]
    stages_ms: dict[str, float] = field(default_factory=dict)
    dropped_before: int = 0
    media_time_s: float | None = None
    name: str = ""
    state: ResultState = "fresh"
    valid_until_ns: int | None = None
    health: State = "ok"
    shift: float | None = None
    embedding: NDArray[np.float32] | None = None

    @property
    def age_ms(self) -> float:
        """Time from capture to publish, in milliseconds."""
        return (self.t_publish_ns - self.t_capture_ns) / 1e6

    @property
    def scene_ns(self) -> int:
        """When the scene was so, to be compared with other results: t_capture_ns, or of a file, which is read faster or
        slower than it was made, the position in it."""
        return self.t_capture_ns if self.media_time_s is None else round(self.media_time_s * 1e9)

    @property
    def detections(self) -> Detections:
        """The boxes. Raises KeyError that names the heads where none of them gives boxes."""
        for output in self.outputs.values():
            if isinstance(output, Detections):
                return output
        raise KeyError(f"no head of this bundle gives boxes; there are {list(self.outputs)}")

    def as_json(self, heads: tuple[Head, ...]) -> dict[str, Any]:
        """Plain values for one line of JSON; heads: the manifest's.

        detections: boxes rounded to a hundredth of a pixel; where objects are tracked with track_id, track_age_s and
        velocity_px_s, all null for a box without a number; with a calibrated camera with position_m, position_std_m,
        closing_speed_mps, its closing_speed_std_mps, time_to_collision_s and its time_to_collision_std_s, null where
        nothing can be said. masks: by head, the share of the image by label. categories: by head, the label (null where
        none is sure enough), the largest probability, and all from 0.01.
        """
        document: dict[str, Any] = {
            "frame_id": self.frame_id,
            "camera_id": self.camera_id,
            "name": self.name,
            "media_time_s": self.media_time_s,
            "clock": CLOCK,
            "t_capture_ns": self.t_capture_ns,
            "t_publish_ns": self.t_publish_ns,
            "age_ms": round(self.age_ms, 3),
            "state": self.state,
            "valid_until_ns": self.valid_until_ns,
            "health": self.health,
            "shift": None if self.shift is None else round(self.shift, 4),
            "size_hw": list(self.size_hw),
            "dropped_before": self.dropped_before,
            "stages_ms": {k: round(v, 3) for k, v in self.stages_ms.items()},
        }
        for head in heads:
            output = self.outputs[head.name]
            if isinstance(output, Detections):
                document["detections"] = _boxes_json(output, head.labels)
            elif isinstance(output, Mask):
                shares = output.shares(len(head.labels)).round(4).tolist()
                document.setdefault("masks", {})[head.name] = dict(zip(head.labels, shares, strict=True))
            else:
                document.setdefault("categories", {})[head.name] = _scores_json(output, head.labels)
        return document


def _boxes_json(found: Detections, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
    boxes: list[dict[str, Any]] = [
        {"label": labels[c], "class": c, "score": round(s, 4), "box_xyxy": [round(v, 2) for v in b]} for b, s, c in rows
    ]
    _add_tracks(boxes, found)
    if found.places is not None:
        _add_places(boxes, found.places)
    return boxes


def _add_tracks(boxes: list[dict[str, Any]], found: Detections) -> None:
    if found.track_ids is None or found.track_ages_s is None or found.velocities_px_s is None:
        return
    tracks = zip(found.track_ids.tolist(), found.track_ages_s.tolist(), found.velocities_px_s.tolist(), strict=True)
    for box, (number, age_s, velocity) in zip(boxes, tracks, strict=True):
        known = number >= 0
        box["track_id"] = number if known else None
        box["track_age_s"] = round(age_s, 3) if known else None
        box["velocity_px_s"] = [round(v, 2) for v in velocity] if known else None


def _add_places(boxes: list[dict[str, Any]], places: Places) -> None:
    deviations = np.sqrt(places.covariances_m2.diagonal(axis1=1, axis2=2))
    columns = {
        "position_m": places.positions_m,
        "position_std_m": deviations,
        "closing_speed_mps": places.closing_speeds_mps,
        "time_to_collision_s": places.times_to_collision_s,
    }
    if places.closing_speed_stds_mps is not None:
        columns["closing_speed_std_mps"] = places.closing_speed_stds_mps
    if places.time_to_collision_stds_s is not None:
        columns["time_to_collision_std_s"] = places.time_to_collision_stds_s
    for name, column in columns.items():
        known = np.isfinite(column) if column.ndim == 1 else np.isfinite(column).all(axis=1)
        rows = zip(boxes, column.astype(np.float64).round(3).tolist(), known.tolist(), strict=True)
        for box, value, told in rows:
            box[name] = value if told else None


def _scores_json(found: Scores, labels: tuple[str, ...]) -> dict[str, Any]:
    shares = found.probabilities.tolist()
    return {
        "label": labels[found.label] if found.label >= 0 else None,
        "probability": round(max(shares), 4),
        "probabilities": {name: round(p, 4) for name, p in zip(labels, shares, strict=True) if p >= LEAST_SHOWN},
    }
