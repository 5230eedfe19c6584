"""The network as the vehicle runs it: uint8 frame in, decoded boxes out."""

from __future__ import annotations

from torch import Tensor, nn

from edgetl.models.detector import Detector, decode_maps
from edgetl.models.normalise import Normalise
from edgetl_runtime.spec import Preprocess

INPUT = "frame"
OUTPUTS = ("boxes", "scores", "classes")
PROBES = ("heat", "box")
"""Tensors before decoding: what parity compares, because decoding hides small errors and magnifies ties."""


class Deployed(nn.Module):
    """frame (1, H, W, 3) uint8 BGR to boxes (1, K, 4), scores (1, K), classes (1, K), heat and box maps."""

    def __init__(self, detector: Detector, preprocess: Preprocess, max_detections: int) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.detector = detector
        self.max_detections = max_detections

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        maps = self.detector(self.normalise(frame))
        return (*decode_maps(maps, self.max_detections), maps.heat, maps.box)
