"""Where two graphs part: the first layer whose result differs, with what both made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgetl_export.graph import load_model, save_model, watchable, with_outputs
from edgetl_export.parity import Infer, tensor_error
from edgetl_export.tensorrt.graph import module_of
from edgetl_runtime.engines import load_engine

TENSORS_AT_ONCE = 64
"""Inner tensors that are made outputs in one run: all of them at once would hold the whole network's activations."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one tensor: extremes, mean and standard deviation of the finite values, and how many are not finite."""

    low: float
    high: float
    mean: float
    std: float
    not_finite: int

    def __str__(self) -> str:
        """One phrase."""
        strange = f", {self.not_finite} not finite" if self.not_finite else ""
        return f"{self.low:.4g} to {self.high:.4g}, mean {self.mean:.4g} ± {self.std:.4g}{strange}"


@dataclass(frozen=True, slots=True)
class Parting:
    """The first layer that differs: its tensor, operator, node and module; the error; both sides' statistics."""

    tensor: str
    op: str
    node: str
    module: str
    error: float
    before: Statistics
    after: Statistics

    def __str__(self) -> str:
        """One line for a person."""
        place = f" in {self.module}" if self.module else ""
        return (
            f"first at {self.op} {self.node!r}{place}: {self.tensor} differs by {self.error:.2g}; "
            f"before {self.before}; after {self.after}"
        )


def statistics_of(value: NDArray[np.generic]) -> Statistics:
    """Statistics of any numeric tensor."""
    flat = np.asarray(value, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    if not len(finite):
        return Statistics(np.nan, np.nan, np.nan, np.nan, len(flat))
    return Statistics(
        float(finite.min()), float(finite.max()), float(finite.mean()), float(finite.std()), len(flat) - len(finite)
    )


def locate(before: Path, after: Path, frame: NDArray[np.uint8], *, limit: float) -> Parting | None:
    """The first tensor of `after`, in graph order, that differs by more than `limit` from the one of the same name in
    `before`; None where all that both have agree.

    Both run on ONNX Runtime. Passes keep the names of tensors whose meaning they keep.
    """
    old, new = load_model(before), load_model(after)
    there = set(watchable(old))
    common = [name for name in watchable(new) if name in there]
    makers = {output: node for node in new.graph.node for output in node.output}
    for start in range(0, len(common), TENSORS_AT_ONCE):
        names = common[start : start + TENSORS_AT_ONCE]
        a, b = _values(old, names, frame), _values(new, names, frame)
        for name in names:
            error, _ = tensor_error(np.asarray(a[name], np.float32), np.asarray(b[name], np.float32))
            if error > limit:
                node = makers[name]
                return Parting(
                    tensor=name,
                    op=node.op_type,
                    node=node.name,
                    module=module_of(node),
                    error=error,
                    before=statistics_of(a[name]),
                    after=statistics_of(b[name]),
                )
    return None


def swapped_channels(infer: Infer, agrees: Callable[[Infer], bool]) -> bool:
    """Whether the network agrees with the reference once red and blue of every frame change places."""
    return agrees(lambda frame: infer(np.ascontiguousarray(frame[..., ::-1])))


def _values(model: ModelProto, names: Sequence[str], frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    with tempfile.TemporaryDirectory(prefix="edgetl-locate-") as folder:
        path = Path(folder) / "model.onnx"
        save_model(with_outputs(model, names), path)
        loaded = load_engine("onnxruntime", path, precision="fp32")
        try:
            outputs = loaded.infer({loaded.inputs[0].name: frame})
            return {name: np.array(outputs[name]) for name in names}
        finally:
            loaded.close()
