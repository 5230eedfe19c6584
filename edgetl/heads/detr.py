"""Boxes from queries: Hungarian matching and losses out of transformers, a static TopK over queries and classes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgetl.heads.detect import Detect
from edgetl.heads.kind import Meter
from edgetl.metrics.detection import Scoring
from edgetl.models.detector import QUIET_LOGIT
from edgetl.models.detr import DETRS, EXTRA, Learning, Queries, QueryTargets, config_of, loss_function
from edgetl_runtime.imports import need
from edgetl_runtime.spec import DetectHead

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.training.augment import View

MOST_OBJECTS = 256
"""Objects of one view that are learnt, the largest first: targets have one shape."""
INSIDE = 0.5
"""A query with this share of its box in an ignored one is neither right nor wrong ..."""
ON_OBJECT = 0.3
"""... unless it covers an object with this intersection over union."""
LEAST_SPREAD = 1e-2
"""Where the scores of the queries lie nearer together than this, none of them counts fully in a comparison."""
SURE = 0.3
"""A teacher's query with this score is imitated."""


class DetectByQueries:
    """The kind of DetectHead on a detector of edgetl.models.detr."""

    place: Literal["dense", "whole"] = "dense"
    losses = ("heat", "box")

    def __init__(self, head: DetectHead, architecture: str) -> None:
        self.head, self._architecture = head, architecture
        levels = range(len(DETRS[architecture].strides))
        self.probes = (*(f"encoded_{i}" for i in levels), "query_logits", "query_boxes")

    @functools.cached_property
    def _config(self) -> Any:
        return config_of(self._architecture, len(self.head.labels))

    def module(self, channels: int) -> nn.Module:
        raise TypeError("a detector of queries is built whole, its head can't stand on another backbone")

    def targets(self, view: View) -> tuple[NDArray[Any], ...]:
        """Boxes, labels and roles as in QueryTargets, of one view, padded to MOST_OBJECTS."""
        size = np.array([view.image.shape[1], view.image.shape[0]], np.float32)
        corners = view.boxes.reshape(-1, 2, 2) / size
        boxes = np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], 1).clip(0, 1)
        kept = np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")[:MOST_OBJECTS]
        kept = kept[(boxes[kept, 2:] > 0).all(1)]
        count = len(kept)
        padded = np.zeros((MOST_OBJECTS, 4), np.float32)
        labels, role = np.zeros(MOST_OBJECTS, np.int64), np.zeros(MOST_OBJECTS, np.int64)
        padded[:count], labels[:count] = boxes[kept], view.labels[kept]
        role[:count] = np.where(view.ignore[kept], 2, 1)
        return padded, labels, role

    def loss(self, raw: Queries, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """`heat`: what the classes of the queries lose, `box`: what their boxes do; sums over all decoder layers."""
        if raw.learning is None:
            raise ValueError("the loss of queries needs the network in training mode")
        wanted = QueryTargets(*targets)
        learning = _quietened(raw.learning, wanted)
        if not bool((wanted.role == 1).any()):
            return {"heat": self._loss_of_nothing(learning), "box": learning.boxes.sum() * 0}
        parts = self._parts(learning, wanted)
        of_classes = [v for name, v in parts.items() if name.startswith("loss_vfl")]
        of_boxes = [v for name, v in parts.items() if not name.startswith("loss_vfl")]
        return {"heat": torch.stack(of_classes).sum(), "box": torch.stack(of_boxes).sum()}

    def _parts(self, learning: Learning, wanted: QueryTargets) -> dict[str, Tensor]:
        """transformers' own losses, by its names."""
        _, parts, _ = loss_function(self._architecture)(
            learning.logits[:, -1],
            wanted.objects(),
            learning.logits.device,
            learning.boxes[:, -1],
            self._config,
            learning.logits,
            learning.boxes,
            enc_topk_logits=learning.encoder_logits,
            enc_topk_bboxes=learning.encoder_boxes,
            denoising_meta_values=learning.denoising,
            predicted_corners=learning.corners,
            initial_reference_points=learning.references,
        )
        return dict(parts)

    def _loss_of_nothing(self, learning: Learning) -> Tensor:
        """A batch without objects: every query is wrong, weighted as in transformers' loss, which has no such case."""
        config = self._config
        total = learning.logits.new_zeros(())
        for logits in (*learning.logits.unbind(1), learning.encoder_logits):
            share = torch.sigmoid(logits.detach()) ** config.focal_loss_gamma
            total = total + config.focal_loss_alpha * (share * F.softplus(logits)).sum()
        return config.weight_loss_vfl * total  # type: ignore[no-any-return]

    def imitate(self, raw: Queries, teacher: Queries) -> Tensor:
        """Classes and boxes of the teacher's sure queries, each matched with the student's nearest one."""
        losses = [
            _imitated(logits, boxes, torch.sigmoid(t_logits), t_boxes)
            for logits, boxes, t_logits, t_boxes in zip(
                raw.logits, raw.boxes, teacher.logits, teacher.boxes, strict=True
            )
        ]
        return torch.stack(losses).mean()

    def decode(self, raw: Queries) -> tuple[Tensor, ...]:
        logits = raw.logits / self.head.temperature
        classes = int(logits.shape[2])
        top, place = torch.topk(logits.flatten(1), self.head.max_detections, dim=1)
        query = torch.div(place, classes, rounding_mode="floor")
        picked = torch.gather(raw.boxes, 1, query.unsqueeze(-1).expand(-1, -1, 4))
        height, width = raw.size_hw
        boxes = _corners(picked).clamp(0, 1) * picked.new_tensor([width, height, width, height])
        return boxes, torch.sigmoid(top), place - query * classes

    def probe(self, raw: Queries) -> tuple[Tensor, ...]:
        """The maps before the decoder; then each column of logits and boxes, in falling order.

        Queries are picked by a TopK inside the network. Rounding swaps those of nearly equal scores, which sorting
        undoes, and sometimes swaps the last for one that was not picked: so each counts as much as its score lies above
        the last one's. Neither moves a value further than the worst of the values before it was moved.
        """
        above = raw.picked - raw.picked.amin(1, keepdim=True)
        share = (above / above.amax(1, keepdim=True).clamp(min=LEAST_SPREAD)).unsqueeze(-1)
        return (*raw.encoded, _falling(raw.logits * share), _falling(raw.boxes * share))

    def labelled(self, dataset: Dataset) -> bool:
        return Detect(self.head).labelled(dataset)

    def meter(self, dataset: Dataset, scoring: Scoring) -> Meter:
        return Detect(self.head).meter(dataset, scoring)


def _falling(x: Tensor) -> Tensor:
    """(B, Q, C), every column sorted by itself."""
    return torch.topk(x, int(x.shape[1]), dim=1)[0]


def _corners(boxes: Tensor) -> Tensor:
    """(..., 4) centre x, y, width, height to x1, y1, x2, y2."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def _shared(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas that (..., Q, 4) and (..., N, 4) corners share, (..., Q, N); and the areas of both, to be broadcast."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    area_a, area_b = ((x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b))
    return (high - low).clamp(min=0).prod(-1), area_a[..., :, None], area_b[..., None, :]


def _quiet_queries(boxes: Tensor, wanted: QueryTargets) -> Tensor:
    """(B, L, Q) bool: queries that lie in an ignored object, and cover no other."""
    shared, own, theirs = _shared(_corners(boxes), _corners(wanted.boxes)[:, None])
    role = wanted.role[:, None, None]
    inside = ((shared / own.clamp(min=1e-9) >= INSIDE) & (role == 2)).any(-1)
    covers = ((shared / (own + theirs - shared).clamp(min=1e-9) >= ON_OBJECT) & (role == 1)).any(-1)
    return inside & ~covers


def _quietened(learning: Learning, wanted: QueryTargets) -> Learning:
    """The same with logits that surely say `nothing`, and learn nothing, where a query lies in an ignored object."""
    if not bool((wanted.role == 2).any()):
        return learning
    with torch.no_grad():
        quiet = _quiet_queries(learning.boxes, wanted)
        if learning.denoising is not None:
            quiet[:, :, : learning.denoising["dn_num_split"][0]] = False  # whose object is known
        first = _quiet_queries(learning.encoder_boxes[:, None], wanted)[:, 0]
    return learning._replace(
        logits=learning.logits.masked_fill(quiet[..., None], QUIET_LOGIT),
        encoder_logits=learning.encoder_logits.masked_fill(first[..., None], QUIET_LOGIT),
    )


def _imitated(logits: Tensor, boxes: Tensor, t_scores: Tensor, t_boxes: Tensor) -> Tensor:
    """The loss of one frame: logits (Q, C), boxes (Q, 4) against the teacher's scores (P, C) and boxes (P, 4)."""
    sure = t_scores.amax(1) >= SURE
    if not bool(sure.any()):
        return logits.sum() * 0
    t_scores, t_boxes = t_scores[sure], t_boxes[sure]
    with torch.no_grad():
        apart = torch.cdist(boxes.float(), t_boxes.float(), p=1)
        unlike = torch.cdist(torch.sigmoid(logits).float(), t_scores.float(), p=1)
        solve = need("scipy.optimize", extra=EXTRA).linear_sum_assignment
        ours, theirs = (torch.as_tensor(i, device=logits.device) for i in solve((5 * apart + unlike).cpu().numpy()))
    classes = F.binary_cross_entropy_with_logits(logits[ours], t_scores[theirs], reduction="sum")
    where = ((boxes[ours] - t_boxes[theirs]).abs().sum(1) * t_scores[theirs].amax(1)).sum()
    return (classes + 5 * where) / len(ours)
