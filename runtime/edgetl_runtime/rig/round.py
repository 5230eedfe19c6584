"""What one round of several cameras gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_runtime.health import Event, State
    from edgetl_runtime.result import Frame, Result


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a camera has no frame in a round. state: its health's. why: one line for people."""

    state: State
    why: str


@dataclass(frozen=True, slots=True)
class Round:
    """The frames that were there together, and what every bundle made of each.

    number: counts from 0. frames, results, failures: by camera, and then by bundle; a camera with a new frame is in all
    three. failures: why a bundle gave no result for a frame. absent: the cameras without a new frame. skew_ms: between
    the captures of the oldest frame and the newest, 0 where there is one only. A result's age ends when the whole round
    is handed out. Frames and results belong to the receiver.
    """

    number: int
    frames: dict[str, Frame]
    results: dict[str, dict[str, Result]]
    failures: dict[str, dict[str, str]]
    absent: dict[str, Absent]
    skew_ms: float


@dataclass(frozen=True, slots=True)
class RigEvent:
    """A condition began or ended: of a camera (bundle None), of a bundle's engine (camera None), of one bundle's
    results for one camera, or of the whole rig (both None)."""

    camera: str | None
    bundle: str | None
    event: Event

    def as_json(self) -> dict[str, object]:
        """Plain values: the event's, with camera_id and bundle, null where it is of all of them."""
        return self.event.as_json() | {"camera_id": self.camera, "bundle": self.bundle}
