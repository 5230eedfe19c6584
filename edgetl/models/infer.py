"""A torch network as a function of one uint8 frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetl.heads.kind import Kind
from edgetl.models.network import Network, Outputs
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


class RunOnce:
    """A network whose answers are wanted several times, decoded in several ways: each frame goes through it once.

    What its heads gave is kept, as long as that is no more than most_bytes. Frames are told apart by identity and must
    stay alive.
    """

    def __init__(self, network: Network, preprocess: Preprocess, most_bytes: int) -> None:
        self._network, self._normalise, self._left = network, Normalise(preprocess), most_bytes
        self._kept: dict[int, Outputs] = {}

    def decoded(self, kinds: Sequence[Kind]) -> Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.generic]]]:
        """(1, H, W, 3) uint8 BGR at network size to these heads' outputs by name."""

        def infer(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
            with torch.inference_mode():
                raw = self._run(frame).heads
                named = {
                    name: value
                    for kind in kinds
                    for name, value in zip(kind.head.outputs, kind.decode(raw[kind.head.name]), strict=True)
                }
            return {name: value.cpu().numpy() for name, value in named.items()}

        return infer

    def holds(self, frames: Sequence[NDArray[np.uint8]]) -> bool:
        """Whether none of these need be run again."""
        return all(id(frame) in self._kept for frame in frames)

    def _run(self, frame: NDArray[np.uint8]) -> Outputs:
        if id(frame) in self._kept:
            return self._kept[id(frame)]
        device = next(self._network.parameters()).device
        found: Outputs = self._network(self._normalise(torch.from_numpy(frame)).to(device))
        size = sum(part.numel() * part.element_size() for part in _tensors(tuple(found.heads.values())))
        if size <= self._left:
            self._left -= size
            self._kept[id(frame)] = found
        return found


def _tensors(found: object) -> Iterator[Tensor]:
    """All tensors of what heads gave, which may be tuples of them."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, tuple):
        for part in found:
            yield from _tensors(part)
