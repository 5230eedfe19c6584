"""Where a network comes from: a torch module, or whatever else can run a frame and write ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl_export.crew import Crew, crew_size
from edgetl_export.parity import Infer
from edgetl_export.to_onnx import exporter_of, to_onnx

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a network comes from.

    name: of the first hop, e.g. "torch". outputs: what ships. probes: inner tensors before decoding, which parity
    compares. infer: a frame (1, H, W, 3) uint8 to all of them, by the network's own means: the reference.
    write: an ONNX file of that function with outputs and probes as outputs in this order; returns a note for its hop.
    side_by_side: the same functions for several threads, for as long as the context lasts; None where `infer` may run
    in one thread at a time. answers: what is known already of what it ships for these frames, (N, ...) by output, None
    where it is not known of all of them; it is believed where `infer` gives the same bits for some.
    """

    name: str
    outputs: Sequence[str]
    probes: Sequence[str]
    infer: Infer
    write: Callable[[Path], str]
    side_by_side: Callable[[], AbstractContextManager[Sequence[Infer]]] | None = None
    answers: Callable[[Sequence[NDArray[np.uint8]]], Mapping[str, NDArray[np.generic]] | None] = lambda frames: None

    @contextmanager
    def crew(self) -> Iterator[Crew]:
        """Workers that run the source."""
        with (self.side_by_side or self._alone)() as infers, Crew(infers) as crew:
            yield crew

    def _alone(self) -> AbstractContextManager[Sequence[Infer]]:
        return nullcontext([self.infer])


def torch_source(
    module: nn.Module, example: NDArray[np.uint8], *, input_name: str, outputs: Sequence[str], probes: Sequence[str]
) -> Source:
    """A module in eval mode that gives the outputs, then the probes, of a frame like `example`."""
    import torch

    names = (*outputs, *probes)

    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        with torch.inference_mode():
            return dict(zip(names, (o.numpy() for o in module(torch.from_numpy(frame))), strict=True))

    @contextmanager
    def side_by_side() -> Iterator[Sequence[Infer]]:
        workers, threads = crew_size()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield [infer] * workers
        finally:
            torch.set_num_threads(before)

    def write(path: Path) -> str:
        to_onnx(module, torch.from_numpy(example), path, input_name=input_name, output_names=names)
        return f"written by {exporter_of(path)}"

    return Source(
        name="torch",
        outputs=tuple(outputs),
        probes=tuple(probes),
        infer=infer,
        write=write,
        side_by_side=side_by_side,
    )
