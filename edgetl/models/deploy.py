"""The network as the vehicle runs it: uint8 frame in, decoded outputs of every head out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edgetl.heads.kind import Kind
from edgetl.models.network import Network
from edgetl.models.normalise import Normalise
from edgetl.models.reparameterise import for_deployment
from edgetl_runtime.spec import EMBEDDING, Preprocess

INPUT = "frame"


def deployable(network: Network) -> Network:
    """The same network, changed in place, with its backbone as the vehicle runs it."""
    network.backbone = for_deployment(network.backbone)
    return network.eval()


class Deployed(nn.Module):
    """frame (1, H, W, 3) uint8 BGR to the heads' outputs, the embedding (1, C), and the heads' probes.

    Probes are tensors before decoding: what parity compares, because decoding hides small errors and magnifies ties.
    """

    def __init__(self, network: Network, kinds: Sequence[Kind], preprocess: Preprocess) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.network = network
        self.kinds = tuple(kinds)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that ship."""
        return (*(name for k in self.kinds for name in k.head.outputs), EMBEDDING)

    @property
    def probes(self) -> tuple[str, ...]:
        """Names of the tensors that follow them, for parity only."""
        return tuple(name for k in self.kinds for name in k.probes)

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        raw, embedding = self.network(self.normalise(frame))
        outputs = [t for k in self.kinds for t in k.decode(raw[k.head.name])]
        probes = [t for k in self.kinds for t in k.probe(raw[k.head.name])]
        return (*outputs, embedding, *probes)
