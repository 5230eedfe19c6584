"""What a head can be: boxes, a mask, a category; all that training, export and scoring must know of each."""

from __future__ import annotations

from edgetl.heads.build import build_network, heads_for, kinds_of, network_of
from edgetl.heads.kind import HeadMetric, Kind, Meter, Scorable
from edgetl.metrics.detection import Scoring

__all__ = ["HeadMetric", "Kind", "Meter", "Scorable", "Scoring", "build_network", "heads_for", "kinds_of", "network_of"]
