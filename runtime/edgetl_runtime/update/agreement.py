"""How far two bundles agree on the same frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgetl_runtime.association import greedy_pairs, overlaps
from edgetl_runtime.result import Detections, Mask, Scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl_runtime.result import Output
    from edgetl_runtime.spec import Head

MATCH_IOU = 0.5


@dataclass
class Agreement:
    """Of the heads that both have, by name, over all frames that were added: the share that is the same.

    Boxes: twice the pairs of one label that overlap by MATCH_IOU over the boxes of both, 1 where neither has any.
    Masks: pixels of one label. Categories: frames with one label.
    """

    _same: dict[str, float] = field(default_factory=dict)
    _all: dict[str, float] = field(default_factory=dict)

    def add(self, old: Sequence[Head], was: dict[str, Output], new: Sequence[Head], now: dict[str, Output]) -> None:
        """One frame."""
        others = {head.name: head for head in new}
        for head in old:
            other = others.get(head.name)
            if other is None or type(was[head.name]) is not type(now[head.name]):
                continue
            same, of = _compared(head.labels, was[head.name], other.labels, now[head.name])
            self._same[head.name] = self._same.get(head.name, 0.0) + same
            self._all[head.name] = self._all.get(head.name, 0.0) + of

    def shares(self) -> dict[str, float]:
        """By head, 0 to 1."""
        return {name: round(self._same[name] / of, 4) if of else 1.0 for name, of in self._all.items()}


def _compared(labels: tuple[str, ...], was: Output, others: tuple[str, ...], now: Output) -> tuple[float, float]:
    """How much is the same, and of how much."""
    if isinstance(was, Detections) and isinstance(now, Detections):
        return 2.0 * matched(labels, was, others, now), float(len(was) + len(now))
    if isinstance(was, Mask) and isinstance(now, Mask):
        index = {label: i for i, label in enumerate(labels)}
        known = np.array([index.get(label, 255) for label in others], np.uint8)
        return float(np.mean(was.at_source() == known.take(now.at_source(), mode="clip"))), 1.0
    if isinstance(was, Scores) and isinstance(now, Scores):
        said = (labels[was.label] if was.label >= 0 else None, others[now.label] if now.label >= 0 else None)
        return float(said[0] == said[1]), 1.0
    return 0.0, 1.0


def matched(labels: tuple[str, ...], was: Detections, others: tuple[str, ...], now: Detections) -> int:
    """Pairs of boxes of one label that overlap by MATCH_IOU, each box in one pair at most, the best pairs first."""
    if not len(was) or not len(now):
        return 0
    overlap = overlaps(was.boxes_xyxy.astype(np.float64), now.boxes_xyxy.astype(np.float64))
    mine, theirs = np.array(labels)[was.classes], np.array(others)[now.classes]
    rows, columns = np.nonzero((overlap >= MATCH_IOU) & (mine[:, None] == theirs[None]))
    return len(greedy_pairs(rows, columns, overlap[rows, columns])[0])
