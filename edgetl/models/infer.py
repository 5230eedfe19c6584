"""A torch network as a function of one uint8 frame: the reference of every later step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.heads.kind import Kind
from edgetl.models.network import Network
from edgetl.models.normalise import Normalise
from edgetl_runtime.spec import EMBEDDING, Preprocess


class TorchInfer:
    """(1, H, W, 3) uint8 BGR at network size to the heads' outputs by name, with the embedding."""

    def __init__(self, network: Network, kinds: Sequence[Kind], preprocess: Preprocess) -> None:
        self._network, self._kinds = network, tuple(kinds)
        self._normalise = Normalise(preprocess)

    def __call__(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        with torch.inference_mode():
            device = next(self._network.parameters()).device
            x = self._normalise(torch.from_numpy(frame)).to(device, memory_format=torch.channels_last)
            raw, embedding = self._network(x)
            named = {EMBEDDING: embedding}
            for kind in self._kinds:
                named |= dict(zip(kind.head.outputs, kind.decode(raw[kind.head.name]), strict=True))
        return {name: value.cpu().numpy() for name, value in named.items()}
