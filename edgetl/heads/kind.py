"""The face of a head towards training, export and scoring. A new kind of head is one file that has this face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl.metrics.detection import Scoring

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgetl.data import Dataset
    from edgetl.training.augment import View
    from edgetl_runtime.letterbox import Geometry
    from edgetl_runtime.spec import Head


@dataclass(frozen=True, slots=True)
class HeadMetric:
    """metric: ap50, miou or accuracy. value in 0..1, NaN where nothing was labelled. more: further figures."""

    metric: str
    value: float
    per_class: dict[str, float]
    more: dict[str, float] = field(default_factory=dict)


class Meter(Protocol):
    """Adds up what a head found, frame by frame."""

    def add(self, outputs: Mapping[str, NDArray[np.generic]], geometry: Geometry, index: int) -> None:
        """Score the outputs of one frame; index: of its sample in the dataset."""

    def result(self) -> HeadMetric:
        """The metric over the frames until now."""


class Scorable(Protocol):
    """One head of a network, as far as scoring must know it."""

    @property
    def head(self) -> Head:
        """The contract."""

    def labelled(self, dataset: Dataset) -> bool:
        """Whether the dataset has anything to score this head by."""

    def meter(self, dataset: Dataset, scoring: Scoring) -> Meter:
        """A new meter for frames of this dataset."""


class Kind(Scorable, Protocol):
    """One head of a network, as its contract `head` states it."""

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the tensors before decoding."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the parts that `loss` gives."""

    @property
    def place(self) -> Literal["dense", "whole"]:
        """Whether it stands on the shared map, or on the embedding of the whole frame."""

    def module(self, channels: int) -> nn.Module:
        """A new head on this many channels: of the shared map (dense) or of the embedding (whole)."""

    def targets(self, view: View) -> tuple[NDArray[Any], ...]:
        """What the network should say about a view: arrays of static shapes, stacked over a batch later."""

    def loss(self, raw: Any, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Scalar losses of a batch by name; their sum is the head's loss."""

    def imitate(self, raw: Any, teacher: Any) -> Tensor:
        """Scalar loss of a student against a teacher's raw output of the same shape."""

    def decode(self, raw: Any) -> tuple[Tensor, ...]:
        """The head's outputs, in the order of `head.outputs`; static shapes."""

    def probe(self, raw: Any) -> tuple[Tensor, ...]:
        """Tensors before decoding, in the order of `probes`."""
