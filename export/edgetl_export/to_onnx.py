"""A torch module to ONNX: static shapes, named tensors, exported shapes asserted."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgetl_export.graph import load_model, prune, save_model
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.spec import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 18
"""The lowest that torch.export's ONNX path writes, and one that TensorRT 10.3 and later parse."""


def to_onnx(
    module: nn.Module, example: Tensor, path: Path, *, input_name: str, output_names: Sequence[str]
) -> tuple[TensorSpec, ...]:
    """Export `module` (in eval mode) and return the specs of its outputs.

    Raises GateFailed when the exporter refuses, or writes shapes other than the module's own.
    """
    import torch

    with torch.inference_mode():
        expected = [tuple(o.shape) for o in module(example)]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                (example,),
                str(path),
                input_names=[input_name],
                output_names=list(output_names),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
            )
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise GateFailed(f"torch.export could not write ONNX: {reason}") from error
    model = load_model(path)
    prune(model)
    specs = tuple(tensor_spec(o) for o in model.graph.output)
    found = [s.shape for s in specs]
    if found != expected:
        raise GateFailed(f"the exported graph has output shapes {found}, the torch module {expected}")
    del model.metadata_props[:]
    save_model(model, path)
    return specs


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(n) for n in names]
    before = [g.level for g in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def tensor_spec(info: onnx.ValueInfoProto) -> TensorSpec:
    """Name, dtype and static shape of a graph input or output."""
    kind = info.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return TensorSpec(name=info.name, dtype=dtype, shape=tuple(d.dim_value for d in kind.shape.dim))
