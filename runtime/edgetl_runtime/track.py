"""The same object keeps its number from frame to frame: tracks over a detector's boxes.

Association in two stages after ByteTrack (Zhang et al., ECCV 2022): boxes over the head's thresholds look for a track
first, then boxes below them may go on with a track that found none. An object that is half hidden or far away scores
lower for a while; the track is the evidence that the box lacks. So the head has to be decoded at lower thresholds while
objects are tracked (`lowered`), and the tracker holds back what nothing speaks for: every box that reaches its own
threshold is shown as without tracking, from its first frame on, and of the others only those of a numbered track.

Motion is edgetl_runtime.motion's. Pairs are taken greedily: an optimal assignment in its place, tried on drives like
those of tests/bench/bench_track.py, changed IDF1 by at most 0.002, up or down. Time is the frames' own and never their
number, because frames are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from edgetl_runtime.association import greedy_pairs, overlaps
from edgetl_runtime.errors import UnfitBundle
from edgetl_runtime.motion import RATE, VALUE, WIDTH, begin, boxes_from_states, correct, predict, states_from_boxes
from edgetl_runtime.result import Detections
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.result import Frame, Output
    from edgetl_runtime.spec import Head

NO_TRACK = -1
_BORN, _SEEN, _SURE, _HITS, _ID = range(WIDTH, WIDTH + 5)
_VOTES = WIDTH + 5  # from here on, one column for each label
_NONE = np.zeros(0, np.intp)
_STAGE = 2.0  # more than any overlap: a pair of an earlier stage is worth more than any of a later one


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How tracks begin, go on and end. Times are in seconds of the frames' clock.

    low_share: boxes from this share of their label's threshold on may go on with a track. grow: boxes are compared with
    every edge moved out by so many mean sides, so that small ones which just miss each other overlap (Yang et al., WACV
    2023). least_overlap: with the predicted box, of boxes over their threshold; least_overlap_low: of the others.
    other_class: what an overlap is worth where box and track differ in class.

    confirm_hits: boxes over the threshold until a track has a number; try_s: how long it may be missed until then, in
    frames that came. memory_s: how long after that. low_s: how long a track lives on boxes below the threshold alone.
    label_s: after so long a vote for a label counts 1 / e. most: tracks that are kept, those seen last.
    """

    low_share: float = 0.4
    grow: float = 0.1
    least_overlap: float = 0.2
    least_overlap_low: float = 0.3
    other_class: float = 0.7
    confirm_hits: int = 2
    try_s: float = 0.3
    memory_s: float = 1.0
    low_s: float = 2.0
    label_s: float = 1.0
    most: int = 256


class _Seen(NamedTuple):
    """The boxes of one frame, best score first. states: (N, 4), see motion; sure: (N,) over their own threshold."""

    states: NDArray[np.float64]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    sure: NDArray[np.bool_]


class Tracker:
    """The tracks of one head of one camera. One thread only.

    thresholds: the head's, one for each label. Numbers count from 0 and none is given twice, whatever is forgotten.
    """

    def __init__(self, thresholds: Sequence[float], settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self._thresholds = np.array(thresholds, np.float32)
        self._rows: NDArray[np.float64] = np.zeros((0, _VOTES + len(thresholds)))
        self._next_id = 0
        self._zero_ns = self._last_ns = 0
        self._size_hw = (0, 0)

    def __len__(self) -> int:
        """Tracks that are kept, seen or not."""
        return len(self._rows)

    def update(self, found: Detections, *, t_ns: int, size_hw: tuple[int, int]) -> Detections:
        """The boxes that count, with their tracks; new arrays.

        found: decoded at `lowered` thresholds. A box counts if it reaches its own threshold, or goes on with a track
        that has a number; it keeps its place, and in a numbered track takes the track's label. t_ns: when the frame
        was captured; where that lies before the last one, or after all memory of it, or size_hw changed, all tracks are
        forgotten.
        """
        now_s = self._advance(t_ns, size_hw)
        order = _order(found)
        scores, classes = found.scores[order], found.classes[order]
        sure = scores >= self._thresholds[classes]
        seen = _Seen(states_from_boxes(found.boxes_xyxy[order]), scores, classes, sure)
        rows, columns = self._match(seen, now_s)
        track_of = np.full(len(order), NO_TRACK)
        track_of[rows] = columns
        self._go_on(rows, columns, seen, now_s)
        new = np.flatnonzero(sure & (track_of < 0))
        track_of[new] = len(self._rows) + np.arange(len(new))
        self._begin(new, seen, now_s)
        self._number()
        places = np.empty_like(track_of)
        places[order] = track_of
        result = self._shown(found, places, now_s)
        self._forget(now_s)
        return result

    def _advance(self, t_ns: int, size_hw: tuple[int, int]) -> float:
        """Predict all tracks, or forget them; the time in seconds since the last reset."""
        dt_s = (t_ns - self._last_ns) / 1e9
        if not 0 <= dt_s <= self.settings.memory_s or size_hw != self._size_hw:
            self._rows = self._rows[:0]
            self._zero_ns, self._size_hw = t_ns, size_hw
        elif len(self._rows):
            predict(self._rows, dt_s)
            self._rows[:, _VOTES:] *= np.exp(-dt_s / self.settings.label_s)
        self._last_ns = t_ns
        return (t_ns - self._zero_ns) / 1e9

    def _match(self, seen: _Seen, now_s: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Places of boxes and of their tracks. Stages: sure boxes with numbered tracks, other boxes with those of them
        that were sure not long ago, sure boxes with tracks on trial.
        """
        settings, tracks, n = self.settings, self._rows, len(seen.scores)
        if not n or not len(tracks):
            return _NONE, _NONE
        grown = boxes_from_states(np.concatenate([seen.states, tracks[:, VALUE]]), grow=settings.grow)
        overlap = overlaps(grown[:n], grown[n:])
        rows, columns = np.nonzero(overlap >= min(settings.least_overlap, settings.least_overlap_low))
        worth = overlap[rows, columns]
        other = seen.classes[rows] != tracks[:, _VOTES:].argmax(1)[columns]
        worth[other] *= settings.other_class
        numbered, surely = (tracks[:, _ID] >= 0)[columns], seen.sure[rows]
        recent = (tracks[:, _SURE] >= now_s - settings.low_s)[columns]
        possible = worth >= np.where(surely, settings.least_overlap, settings.least_overlap_low)
        possible &= surely | (numbered & recent)
        worth += np.where(surely, 2 * _STAGE * numbered, _STAGE)
        return greedy_pairs(rows[possible], columns[possible], worth[possible])

    def _go_on(self, rows: NDArray[np.intp], columns: NDArray[np.intp], seen: _Seen, now_s: float) -> None:
        if not len(rows):
            return
        kept, sure = self._rows[columns], seen.sure[rows]
        correct(kept, seen.states[rows])
        kept[:, _SEEN] = now_s
        kept[sure, _SURE] = now_s
        kept[:, _HITS] += sure
        kept[np.arange(len(rows)), _VOTES + seen.classes[rows]] += seen.scores[rows]
        self._rows[columns] = kept

    def _begin(self, new: NDArray[np.intp], seen: _Seen, now_s: float) -> None:
        """Tracks on trial for these boxes, at the end."""
        if not len(new):
            return
        rows = np.zeros((len(new), self._rows.shape[1]))
        rows[:, :WIDTH] = begin(seen.states[new])
        rows[:, [_BORN, _SEEN, _SURE]] = now_s
        rows[:, _HITS], rows[:, _ID] = 1, NO_TRACK
        rows[np.arange(len(new)), _VOTES + seen.classes[new]] = seen.scores[new]
        self._rows = np.concatenate([self._rows, rows])

    def _number(self) -> None:
        """Give numbers to tracks that have been seen often enough."""
        rows = self._rows
        ready = np.flatnonzero((rows[:, _ID] < 0) & (rows[:, _HITS] >= self.settings.confirm_hits))
        rows[ready, _ID] = np.arange(self._next_id, self._next_id + len(ready))
        self._next_id += len(ready)

    def _shown(self, found: Detections, places: NDArray[np.int64], now_s: float) -> Detections:
        """What counts of the boxes, in their order. places: of their tracks, NO_TRACK where there is none."""
        width = self._rows.shape[1]
        tracks = self._rows[places] if len(self._rows) else np.zeros((len(places), width))
        numbered = (places >= 0) & (tracks[:, _ID] >= 0)
        counts = numbered | (found.scores >= self._thresholds[found.classes])
        tracks, numbered = tracks[counts], numbered[counts]
        none = ~numbered
        ids = tracks[:, _ID].astype(np.int64)
        ages = (now_s - tracks[:, _BORN]).astype(np.float32)
        velocities = tracks[:, RATE][:, :2].astype(np.float32)
        ids[none], ages[none], velocities[none] = NO_TRACK, np.nan, np.nan
        return Detections(
            boxes_xyxy=found.boxes_xyxy[counts],
            scores=found.scores[counts],
            classes=np.where(numbered, tracks[:, _VOTES:].argmax(1), found.classes[counts]),
            track_ids=ids,
            track_ages_s=ages,
            velocities_px_s=velocities,
        )

    def _forget(self, now_s: float) -> None:
        settings, rows = self.settings, self._rows
        limit = np.where(rows[:, _ID] >= 0, settings.memory_s, settings.try_s)
        keep = now_s - rows[:, _SEEN] <= limit
        if not keep.all():
            self._rows = rows = rows[keep]
        if len(rows) > settings.most:
            last = np.lexsort((rows[:, _HITS], rows[:, _ID] >= 0, rows[:, _SEEN]))[-settings.most :]
            self._rows = rows[np.sort(last)]


def _order(found: Detections) -> NDArray[np.intp]:
    """The best score first, equal ones by class and place: so the order that boxes come in changes nothing."""
    x1, y1, x2, y2 = found.boxes_xyxy.T
    return np.lexsort((y2, x2, y1, x1, found.classes, -found.scores))


def lowered(head: Head, settings: TrackSettings) -> Head:
    """The head as it is decoded while its objects are tracked; heads without boxes stay as they are."""
    if not isinstance(head, DetectHead):
        return head
    thresholds = tuple(t * settings.low_share for t in head.thresholds)
    return msgspec.structs.replace(head, thresholds=thresholds)


class Tracking:
    """A tracker for each head that gives boxes, of each camera whose frames come. One thread only.

    heads: with the thresholds that count; `decoded` are those to decode with. Raises UnfitBundle where no head gives
    boxes.
    """

    def __init__(self, heads: Sequence[Head], settings: TrackSettings | None = None) -> None:
        self._settings = settings or TrackSettings()
        self._heads = {head.name: head for head in heads if isinstance(head, DetectHead)}
        if not self._heads:
            raise UnfitBundle(f"no head of this bundle gives boxes to track; there are {[h.name for h in heads]}")
        self.decoded: tuple[Head, ...] = tuple(lowered(head, self._settings) for head in heads)
        self._trackers: dict[tuple[str, str], Tracker] = {}

    def update(self, outputs: Mapping[str, Output], frame: Frame) -> dict[str, Output]:
        """The outputs of one frame, boxes with their tracks.

        The frame's position in its file is its time where it has one: a file is read faster or slower than it was made.
        """
        t_ns = frame.t_capture_ns if frame.media_time_s is None else round(frame.media_time_s * 1e9)
        size_hw = (frame.image.shape[0], frame.image.shape[1])
        tracked = dict(outputs)
        for name, output in outputs.items():
            if isinstance(output, Detections):
                tracked[name] = self._tracker(frame.camera_id, name).update(output, t_ns=t_ns, size_hw=size_hw)
        return tracked

    def _tracker(self, camera_id: str, name: str) -> Tracker:
        key = (camera_id, name)
        if key not in self._trackers:
            self._trackers[key] = Tracker(self._heads[name].thresholds, self._settings)
        return self._trackers[key]
