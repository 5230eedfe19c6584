"""Reading the plan that a TensorRT builder logs when asked for detail: dtypes per kernel, memory totals.

The text is not a documented format, so everything here answers "not said" rather than fail.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

HEAVY = frozenset({"correlation", "convolution", "conv", "gemm", "matmul", "matrix_multiply", "deconvolution"})
NAMES = {
    "Float": "fp32",
    "Half": "fp16",
    "BFloat16": "bf16",
    "Int8": "int8",
    "FP8": "fp8",
    "FP4": "fp4",
    "Int4": "int4",
    "Int32": "int32",
}

_LAYER = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: (?P<rest>.*)$", re.MULTILINE)
_DATATYPE = re.compile(r"Datatype: (\w+)")


def layer_precisions(logged: Sequence[str]) -> dict[str, int]:
    """How many convolution and matrix kernels read each dtype, by the type of their first input.

    Pointwise kernels, and small matrix products that the compiler fused into them, are not counted.
    """
    counts: Counter[str] = Counter()
    for match in _LAYER.finditer(_layers_text(logged)):
        if match["type"].lower() not in HEAVY:
            continue
        dtype = _DATATYPE.search(match["rest"])
        if dtype:
            counts[NAMES.get(dtype[1], dtype[1].lower())] += 1
    return dict(sorted(counts.items()))


def memory_bytes(logged: Sequence[str], what: str) -> int | None:
    """The last `Total <what> Memory: N` in bytes, e.g. what="Weights"; None where it was not said."""
    pattern = re.compile(rf"Total {re.escape(what)} Memory: (\d+)")
    for text in reversed(logged):
        match = pattern.search(text)
        if match:
            return int(match[1])
    return None


def _layers_text(logged: Sequence[str]) -> str:
    for text in reversed(logged):
        if text.startswith("Layers:") or "\nLayers:" in text:
            return text.split("\nI/O Tensors:", 1)[0]
    return ""
