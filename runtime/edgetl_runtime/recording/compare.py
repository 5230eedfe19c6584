"""Two results of one frame, bit for bit; and where they differ, how, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.association import overlaps
from edgetl_runtime.recording.results import place_arrays
from edgetl_runtime.result import Detections, Mask, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgetl_runtime.result import Output, Result
    from edgetl_runtime.spec import Head

FIELDS = ("frame_id", "camera_id", "name", "media_time_s", "t_capture_ns", "dropped_before", "size_hw")
"""Compared beside outputs and embedding. Everything else in a result is about time."""
SAME_IOU = 0.5
"""Two boxes of one class that overlap so much are one that moved."""


@dataclass(frozen=True, slots=True)
class HeadDifference:
    """How one head's outputs differ: a line for people, and figures by name for programs."""

    text: str
    figures: dict[str, object]


@dataclass(frozen=True, slots=True)
class Difference:
    """How two results of one frame differ. heads: by name, "embedding" among them; fields: was and is.

    camera, bundle: whose results they are, "" where that is not asked.
    """

    frame_id: int
    heads: dict[str, HeadDifference] = field(default_factory=dict)
    fields: dict[str, tuple[object, object]] = field(default_factory=dict)
    camera: str = ""
    bundle: str = ""

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        fields = {name: {"recorded": was, "found": now} for name, (was, now) in self.fields.items()}
        heads = {n: h.figures for n, h in self.heads.items()}
        where = {"camera": self.camera, "bundle": self.bundle}
        return {"frame_id": self.frame_id, **where, "heads": heads, "fields": fields}

    def lines(self, *, lane: bool = False) -> list[str]:
        """One line for each head and field that differs. lane: with camera and bundle."""
        found = [f"{name}: {head.text}" for name, head in self.heads.items()]
        found += [f"{name}: was {was}, is {now}" for name, (was, now) in self.fields.items()]
        where = f"{self.bundle} on {self.camera}, " if lane else ""
        return [f"{where}frame {self.frame_id}: {text}" for text in found]


def compare(
    recorded: Result, found: Result, heads: Sequence[Head], recorded_heads: Sequence[Head] | None = None
) -> Difference | None:
    """None where both are the same bit for bit, and numbers of classes stand for the same labels.

    heads: where the labels' names are; recorded_heads: likewise of the recorded side, the same where None.
    """
    fields = {
        name: (getattr(recorded, name), getattr(found, name))
        for name in FIELDS
        if getattr(recorded, name) != getattr(found, name)
    }
    labels = {head.name: head.labels for head in heads}
    known = labels if recorded_heads is None else {head.name: head.labels for head in recorded_heads}
    parts: dict[str, HeadDifference] = {}
    for name in [*recorded.outputs, *(n for n in found.outputs if n not in recorded.outputs)]:
        was, now = recorded.outputs.get(name), found.outputs.get(name)
        before, after = known.get(name, ()), labels.get(name, ())
        difference = None if was is None or now is None else _relabelled(before, after)
        difference = difference or _outputs(was, now, max(before, after, key=len))
        if difference is not None:
            parts[name] = difference
    embedding = _embeddings(recorded.embedding, found.embedding)
    if embedding is not None:
        parts["embedding"] = embedding
    return Difference(recorded.frame_id, parts, fields) if parts or fields else None


def _relabelled(was: Sequence[str], now: Sequence[str]) -> HeadDifference | None:
    """Where numbers of classes stand for other labels, equal numbers are no equal answers. Labels may be added."""
    changed = [pair for pair in zip(was, now, strict=False) if pair[0] != pair[1]]
    if not changed:
        return None
    return _text_only(f"has other labels: the first that differs was {changed[0][0]}, is {changed[0][1]}")


def _outputs(was: Output | None, now: Output | None, labels: Sequence[str]) -> HeadDifference | None:
    if was is None or now is None:
        return _text_only("is in the recording only" if now is None else "is not in the recording")
    if isinstance(was, Detections) and isinstance(now, Detections):
        return _detections(was, now, labels)
    if isinstance(was, Mask) and isinstance(now, Mask):
        return _masks(was, now, labels)
    if isinstance(was, Scores) and isinstance(now, Scores):
        return _scores(was, now, labels)
    return _text_only(f"was {type(was).__name__}, is {type(now).__name__}")


def _detections(was: Detections, now: Detections, labels: Sequence[str]) -> HeadDifference | None:
    pairs = ((was.boxes_xyxy, now.boxes_xyxy), (was.scores, now.scores), (was.classes, now.classes))
    tracks = tuple(zip(_tracks(was), _tracks(now), strict=True))
    if _same_places(was, now) and all(_same(a, b) for a, b in pairs) and all(_same_or_none(a, b) for a, b in tracks):
        return None
    matched = _match(was, now)
    added = [_box(now, i, labels) for i in sorted(set(range(len(now))) - {j for _, j in matched})]
    removed = [_box(was, i, labels) for i in sorted(set(range(len(was))) - {i for i, _ in matched})]
    shifts = [_largest(was.boxes_xyxy[i], now.boxes_xyxy[j]) for i, j in matched]
    moved = [s for s in shifts if s]
    score = max((_largest(was.scores[i], now.scores[j]) for i, j in matched), default=0.0)
    parts = [_boxes_text(removed, "removed"), _boxes_text(added, "added")]
    parts.append(f"{len(moved)} moved by up to {max(moved):.3g} px" if moved else "")
    parts.append(f"largest score change {score:.2g}" if score else "")
    track_text, renumbered = _numbers(was, now, matched)
    parts.append(track_text)
    place_text, off_m = _place_change(was, now, matched)
    parts.append(place_text)
    text = ", ".join(p for p in parts if p) or "the same boxes in another order, or in other bits"
    figures: dict[str, object] = {
        "track_ids_changed": renumbered,
        "boxes_added": added,
        "boxes_removed": removed,
        "boxes_moved": len(moved),
        "largest_move_px": max(moved, default=0.0),
        "largest_score_change": score,
        "largest_place_change_m": off_m,
    }
    return HeadDifference(text, figures)


def _place_change(was: Detections, now: Detections, matched: list[tuple[int, int]]) -> tuple[str, float]:
    """How far apart the places of boxes are that are in both: a text, and in metres. NaN in both is no difference."""
    if was.places is None or now.places is None:
        if was.places is now.places:
            return "", 0.0
        return "places are in the recording only" if now.places is None else "places are not in the recording", 0.0
    off_m = max((_largest(was.places.positions_m[i], now.places.positions_m[j]) for i, j in matched), default=0.0)
    if off_m:
        return f"places moved by up to {off_m:.3g} m", off_m
    return "" if _same_places(was, now) else "covariances or speeds of places differ", 0.0


def _same_places(was: Detections, now: Detections) -> bool:
    """Bit for bit; a deviation that the recorded ones lack, from before there was one, is not compared."""
    if was.places is None or now.places is None:
        return was.places is now.places
    pairs = zip(place_arrays(was), place_arrays(now), strict=True)
    return all(recorded is None or _same_or_none(recorded, array) for recorded, array in pairs)


def _tracks(found: Detections) -> tuple[NDArray[Any] | None, ...]:
    return found.track_ids, found.track_ages_s, found.velocities_px_s


def _numbers(was: Detections, now: Detections, matched: list[tuple[int, int]]) -> tuple[str, int]:
    """What differs in the tracks of boxes that are in both: a text, and how many have another number."""
    if was.track_ids is None or now.track_ids is None:
        if was.track_ids is now.track_ids:
            return "", 0
        return "tracks are in the recording only" if now.track_ids is None else "tracks are not in the recording", 0
    changed = [(int(was.track_ids[i]), int(now.track_ids[j])) for i, j in matched]
    changed = [(a, b) for a, b in changed if a != b]
    if changed:
        return f"{len(changed)} have another track (#{changed[0][0]} was, #{changed[0][1]} is)", len(changed)
    same = all(_same_or_none(a, b) for a, b in zip(_tracks(was), _tracks(now), strict=True))
    return "" if same else "ages or velocities of tracks differ", 0


def _match(was: Detections, now: Detections) -> list[tuple[int, int]]:
    """Pairs of boxes of one class, those that overlap most first."""
    overlap = overlaps(was.boxes_xyxy.astype(np.float64), now.boxes_xyxy.astype(np.float64))
    overlap[was.classes[:, None] != now.classes[None]] = 0
    pairs: list[tuple[int, int]] = []
    rows, columns = np.nonzero(overlap >= SAME_IOU)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    taken_was: set[int] = set()
    taken_now: set[int] = set()
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if i not in taken_was and j not in taken_now:
            taken_was.add(i)
            taken_now.add(j)
            pairs.append((i, j))
    return pairs


def _box(found: Detections, index: int, labels: Sequence[str]) -> dict[str, object]:
    number = int(found.classes[index])
    box = [round(v, 2) for v in found.boxes_xyxy[index].tolist()]
    return {"label": _label(number, labels), "score": round(float(found.scores[index]), 4), "box_xyxy": box}


def _boxes_text(boxes: list[dict[str, object]], what: str) -> str:
    if not boxes:
        return ""
    named = ", ".join(f"{b['label']} {b['score']}" for b in boxes[:3])
    return f"{len(boxes)} {what} ({named}{', ...' if len(boxes) > 3 else ''})"


def _masks(was: Mask, now: Mask, labels: Sequence[str]) -> HeadDifference | None:
    shapes = [(m.classes.shape, m.size_hw, m.cell, m.window) for m in (was, now)]
    if shapes[0] != shapes[1]:
        return _text_only(f"was {shapes[0][0]} cells of {was.cell} px, is {shapes[1][0]} of {now.cell}")
    cells = int(np.count_nonzero(was.classes != now.classes))
    if not cells:
        return None
    changed = was.classes != now.classes
    pairs, counts = np.unique(np.stack([was.classes[changed], now.classes[changed]]), axis=1, return_counts=True)
    before, after = (_label(int(c), labels) for c in pairs[:, counts.argmax()])
    share = cells / was.classes.size
    text = f"{cells} cells ({share:.2%}) changed, most of them {before} to {after}"
    return HeadDifference(text, {"cells_changed": cells, "share": share, "most": [before, after]})


def _scores(was: Scores, now: Scores, labels: Sequence[str]) -> HeadDifference | None:
    if _same(was.probabilities, now.probabilities) and was.label == now.label:
        return None
    change = _largest(was.probabilities, now.probabilities)
    names = [_label(s.label, labels) for s in (was, now)]
    text = f"largest probability change {change:.2g}"
    if was.label != now.label:
        text = f"was {names[0]}, is {names[1]}, {text}"
    return HeadDifference(text, {"recorded": names[0], "found": names[1], "largest_score_change": change})


def _embeddings(was: NDArray[np.float32] | None, now: NDArray[np.float32] | None) -> HeadDifference | None:
    if was is None and now is None:
        return None
    if was is None or now is None:
        return _text_only("is in the recording only" if now is None else "is not in the recording")
    if _same(was, now):
        return None
    change = _largest(was, now)
    return HeadDifference(f"largest change {change:.2g}", {"largest_change": change})


def _text_only(text: str) -> HeadDifference:
    return HeadDifference(text, {"text": text})


def _label(number: int, labels: Sequence[str]) -> str | None:
    if number < 0:
        return None
    return labels[number] if number < len(labels) else str(number)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Bit for bit: NaN is equal to the same NaN, 0.0 is not equal to -0.0."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _same_or_none(a: NDArray[Any] | None, b: NDArray[Any] | None) -> bool:
    return a is b if a is None or b is None else _same(a, b)


def _largest(a: Any, b: Any) -> float:
    """The largest absolute difference; infinity where shapes or what is finite differ."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or not np.array_equal(np.isfinite(first), np.isfinite(second)):
        return float("inf")
    finite = np.isfinite(first)
    return float(np.abs(first[finite] - second[finite]).max(initial=0.0))
