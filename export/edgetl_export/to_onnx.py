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
CAPTURED = "torch.export"
"""This exporter writes all that a module does, or fails."""
EXPORTERS = (CAPTURED, "TorchScript")
"""In the order in which they are tried. The second follows one frame through the module and writes down what it did:
more modules pass, and a branch on the frame's content is lost, which only parity on other frames can show."""


def to_onnx(
    module: nn.Module, example: Tensor, path: Path, *, input_name: str, output_names: Sequence[str]
) -> tuple[TensorSpec, ...]:
    """Export `module` (in eval mode) and return the specs of its outputs; see exporter_of.

    Raises GateFailed when no exporter writes a graph of the module's own output shapes.
    """
    import torch

    with torch.inference_mode():
        expected = [tuple(o.shape) for o in module(example)]
    reasons = []
    for exporter in EXPORTERS:
        try:
            _write(module, example, path, exporter, input_name=input_name, output_names=output_names)
            model = load_model(path)
        except OSError:
            raise  # a full disk says nothing about the module
        except Exception as error:
            reasons.append(f"{exporter} could not write ONNX: {_reason(error)}")
            continue
        prune(model)
        specs = tuple(tensor_spec(o) for o in model.graph.output)
        found = [s.shape for s in specs]
        if found == expected:
            del model.metadata_props[:]
            model.producer_name = exporter
            save_model(model, path)
            return specs
        reasons.append(f"{exporter}: the exported graph has output shapes {found}, the torch module {expected}")
    path.unlink(missing_ok=True)
    raise GateFailed("; ".join(reasons))


def exporter_of(path: Path) -> str:
    """Which of EXPORTERS wrote a graph."""
    return str(onnx.load(str(path), load_external_data=False).producer_name)


def _write(
    module: nn.Module, example: Tensor, path: Path, exporter: str, *, input_name: str, output_names: Sequence[str]
) -> None:
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(path),
            input_names=[input_name],
            output_names=list(output_names),
            opset_version=OPSET,
            dynamo=exporter == "torch.export",
            external_data=False,
        )


def _reason(error: Exception) -> str:
    """What torch says was the matter, in one line: its exporter puts that below its own advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "## Exception summary" in lines[:-1]:
        return lines[lines.index("## Exception summary") + 1][:240]
    return lines[0] if lines else type(error).__name__


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
