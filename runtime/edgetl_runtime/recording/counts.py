"""What a recorder knows of the run: frames that were captured, dropped and failed, by camera and bundle."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from edgetl_runtime.recording.format import LaneCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from edgetl_runtime.rig.round import Round
    from edgetl_runtime.snapshot import Snapshot

Lane = tuple[str, str]
"""Camera and bundle."""


class Counts:
    """Counts in the loop's thread and is asked in the recorder's, without a lock."""

    def __init__(self, lanes: Iterable[Lane]) -> None:
        self.names = tuple(lanes)
        self._captured: Counter[Lane] = Counter(dict.fromkeys(self.names, 0))
        self._dropped: Counter[Lane] = Counter(dict.fromkeys(self.names, 0))
        self._sources: dict[Lane, Callable[[], Snapshot]] = {}

    def watch(self, lane: Lane, source: Callable[[], Snapshot]) -> None:
        """Take this lane's ledger and its count of failed frames from there."""
        self._sources[lane] = source

    def add(self, made: Round) -> None:
        """Frames are known to be dropped when the next result comes."""
        for camera, results in made.results.items():
            for bundle, result in results.items():
                self._captured[camera, bundle] += 1 + result.dropped_before
                self._dropped[camera, bundle] += result.dropped_before

    def loops(self) -> dict[Lane, Snapshot]:
        """What the loop says of itself now, of each lane that is watched."""
        return {lane: source() for lane, source in self._sources.items()}

    def lanes(self, loops: dict[Lane, Snapshot]) -> dict[str, dict[str, LaneCounts]]:
        """By camera, then by bundle."""
        found: dict[str, dict[str, LaneCounts]] = {}
        for camera, bundle in self.names:
            lane = camera, bundle
            failed = loops[lane].failed if lane in loops else 0
            found.setdefault(camera, {})[bundle] = LaneCounts(
                captured=self._captured[lane], dropped=self._dropped[lane], failed=failed
            )
        return found
