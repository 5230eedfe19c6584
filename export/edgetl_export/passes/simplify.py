"""onnxslim, where it is asked for: another party's simplifier, kept only while parity holds.

Requires: the package onnxslim. Ensures: nothing by itself; the parity check after it does.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto

from edgetl_runtime.imports import need


def simplify(model: ModelProto) -> tuple[ModelProto, str]:
    """The simplified model and a note. Raises MissingPackage without onnxslim."""
    onnxslim = need("onnxslim", extra="slim")
    slim: ModelProto = onnx.shape_inference.infer_shapes(onnxslim.slim(model), data_prop=True)
    return slim, f"{len(model.graph.node)} nodes before, {len(slim.graph.node)} after"
