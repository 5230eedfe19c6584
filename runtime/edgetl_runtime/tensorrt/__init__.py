"""TensorRT in a process of its own, and what it says: jobs, progress, findings. No onnx, no torch."""

from __future__ import annotations
