"""TensorRT on a host without a GPU: parse, compile, explain. A check for a Jetson, an engine for an RTX PC."""

from __future__ import annotations
