"""TwinLiteNet (arXiv:2307.10705): drivable area and lanes, a map of two classes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl_export.foreign.decoders.decoder import Decoder, Output, Size
from edgetl_export.foreign.decoders.segmentation import Segmentation
from edgetl_export.foreign.nodes import Nodes
from edgetl_runtime.spec import Head, Positive


class TwinLiteNet(Decoder, frozen=True, kw_only=True, tag_field="decoder", tag="twinlitenet"):
    """drivable and lane: outputs (1, 2, h, w). Two heads, `drivable` and `lane`, whose first label is `other`."""

    drivable: str
    lane: str
    stride: Positive | None = None

    def _parts(self) -> tuple[Segmentation, Segmentation]:
        return (
            Segmentation(name="drivable", labels=("other", "drivable"), output=self.drivable, stride=self.stride),
            Segmentation(name="lane", labels=("other", "lane"), output=self.lane, stride=self.stride),
        )

    @property
    def known_labels(self) -> tuple[str, ...]:
        return ("other", "drivable", "lane")

    def reads(self) -> tuple[str, ...]:
        return (self.drivable, self.lane)

    def heads(self, outputs: Sequence[Output], size_hw: Size) -> tuple[Head, ...]:
        return tuple(h for part, o in zip(self._parts(), outputs, strict=True) for h in part.heads([o], size_hw))

    def nodes(self, g: Nodes, outputs: Sequence[Output], size_hw: Size) -> None:
        for part, output in zip(self._parts(), outputs, strict=True):
            part.nodes(g, [output], size_hw)

    def reference(self, arrays: Sequence[NDArray[np.float32]], size_hw: Size) -> Mapping[str, NDArray[np.generic]]:
        found: dict[str, NDArray[np.generic]] = {}
        for part, array in zip(self._parts(), arrays, strict=True):
            found |= part.reference([array], size_hw)
        return found
