"""One class for the whole frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.decoder import Activation, Labelled, Output, Size, misfit, softmax
from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.spec import ClassifyHead, Head, HeadName, Share


class Classification(Labelled, frozen=True, kw_only=True, tag_field="decoder", tag="classification"):
    """(1, C), or (1, C, 1, 1): logits, which go through a softmax, or probabilities that add up to 1.

    threshold: the lowest probability at which a class is stated at all.
    """

    name: HeadName = "classify"
    output: str = ""
    threshold: Share = 0.0
    activation: Activation = "logits"

    def reads(self) -> tuple[str, ...]:
        return (self.output,)

    def heads(self, outputs: Sequence[Output], size_hw: Size) -> tuple[Head, ...]:
        c = len(self.names)
        if outputs[0].shape not in {(1, c), (1, c, 1, 1)}:
            raise misfit("classification", outputs, f"(1, {c}) for {c} labels")
        return (ClassifyHead(name=self.name, labels=self.names, thresholds=(self.threshold,) * c),)

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        flat = g.reshape(outputs[0].name, 1, len(self.names))
        if self.activation == "logits":
            g.add("Softmax", flat, name="probabilities", axis=1)
        else:
            g.add("Identity", flat, name="probabilities")

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        row = arrays[0].reshape(1, -1)
        return {"probabilities": softmax(row, 1) if self.activation == "logits" else row}
