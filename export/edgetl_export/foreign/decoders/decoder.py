"""The face of a decoder: from a network's raw outputs to what the manifest's heads promise.

Each is written twice, as ONNX nodes that ship and in plain numpy, the reference that they are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import Frozen, Head

Metric = Literal["labels", "agreement"]
Activation = Literal["logits", "probabilities"]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the network: its name and static shape, batch 1."""

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.shape}"


class Decoder(Frozen, frozen=True, kw_only=True):
    """What every decoder can be told.

    dataset_classes: a label of the network -> the dataset's names for it, `*` for all that no other label names;
    where it is given, classes that it does not name are left out of the metric. metric: by the dataset's labels, or
    by agreement with the network's own answers before it was compiled, which needs no labels.
    """

    dataset_classes: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    metric: Metric = "labels"

    def reads(self) -> tuple[str, ...]:
        """Names of the outputs that it reads; an empty one stands for the network's only output."""
        raise NotImplementedError

    def heads(self, outputs: Sequence[Output], size_hw: Size) -> tuple[Head, ...]:
        """The heads that come of these outputs, in the order of `reads`. Raises InputError where they don't fit."""
        raise NotImplementedError

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        """Add nodes that make the heads' outputs under their own names."""
        raise NotImplementedError

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        """The heads' outputs of one frame, in numpy."""
        raise NotImplementedError

    def unsteady(self) -> tuple[int, ...]:
        """Places, among `reads`, of outputs whose rows rounding can put into another order."""
        return ()

    def steady_nodes(self, g: Nodes, outputs: Sequence[Output], names: Mapping[int, str]) -> None:
        """Add nodes that make, of each unsteady output, a tensor of its shape for parity to compare instead.

        names: of these tensors, by place.
        """

    def steady(self, arrays: Sequence[NDArray[np.float32]]) -> Mapping[int, NDArray[np.float32]]:
        """The same tensors in numpy, by place."""
        return {}

    @property
    def known_labels(self) -> tuple[str, ...]:
        """The labels of all its heads."""
        raise NotImplementedError


class Labelled(Decoder, frozen=True, kw_only=True):
    """A decoder whose labels the user names: a list, or a text file with one a line, found beside the spec."""

    labels: tuple[str, ...] | str

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, read from their file by now."""
        if isinstance(self.labels, str):
            raise TypeError(f"the labels in {self.labels} have not been read")
        return self.labels

    @property
    def known_labels(self) -> tuple[str, ...]:
        return self.names


def misfit(decoder: str, outputs: Sequence[Output], expected: str) -> InputError:
    """The error of outputs that this decoder can't read."""
    found = ", ".join(map(str, outputs))
    return InputError(
        f"the decoder {decoder} reads {expected}, found {found}",
        remedy="name another output, another decoder, or correct the labels",
    )


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700))), np.float32)


def softmax(x: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """exp(x) over its sum along an axis."""
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True), np.float32)
