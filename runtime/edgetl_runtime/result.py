"""What travels through the runtime: frames in, detections and results out.

Arrays belong to whoever received the object; the runtime never writes to one it has handed out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLOCK = "CLOCK_MONOTONIC"
"""The clock of every `_ns` stamp in this package (time.monotonic_ns on Linux)."""

ResultState = Literal["fresh", "late"]
"""late: older at publish than the deadline that the run was given. Never acted on as if it were fresh."""


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
class Detections:
    """Boxes of one frame, best score first.

    boxes_xyxy: (N, 4) float32, x1, y1, x2, y2 in pixels of the source image, inside it.
    scores: (N,) float32 in 0..1. classes: (N,) int64 index into labels.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes_xyxy.shape != (n, 4) or self.classes.shape != (n,) or self.scores.ndim != 1:
            raise ValueError(
                "Detections must hold boxes (N, 4), scores (N,) and classes (N,), found "
                f"{self.boxes_xyxy.shape}, {self.scores.shape}, {self.classes.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Result:
    """What one frame gave, with its age.

    t_capture_ns and t_publish_ns are on CLOCK; stages_ms maps stage name to milliseconds;
    dropped_before counts frames of this camera that were captured but never processed since the last result.
    """

    frame_id: int
    camera_id: str
    t_capture_ns: int
    t_publish_ns: int
    detections: Detections
    size_hw: tuple[int, int]
    stages_ms: dict[str, float] = field(default_factory=dict)
    dropped_before: int = 0
    media_time_s: float | None = None
    name: str = ""
    state: ResultState = "fresh"

    @property
    def age_ms(self) -> float:
        """Time from capture to publish, in milliseconds."""
        return (self.t_publish_ns - self.t_capture_ns) / 1e6

    def as_json(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Plain values for one line of JSON; boxes rounded to a hundredth of a pixel."""
        d = self.detections
        rows = zip(d.boxes_xyxy.tolist(), d.scores.tolist(), d.classes.tolist(), strict=True)
        return {
            "frame_id": self.frame_id,
            "camera_id": self.camera_id,
            "name": self.name,
            "media_time_s": self.media_time_s,
            "clock": CLOCK,
            "t_capture_ns": self.t_capture_ns,
            "t_publish_ns": self.t_publish_ns,
            "age_ms": round(self.age_ms, 3),
            "state": self.state,
            "size_hw": list(self.size_hw),
            "dropped_before": self.dropped_before,
            "stages_ms": {k: round(v, 3) for k, v in self.stages_ms.items()},
            "detections": [
                {
                    "label": labels[c],
                    "class": c,
                    "score": round(s, 4),
                    "box_xyxy": [round(v, 2) for v in b],
                }
                for b, s, c in rows
            ],
        }
