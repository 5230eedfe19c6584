"""An ONNX file from elsewhere, brought to batch 1, static shapes and an opset that the passes know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, version_converter

from edgetl_export.foreign.decoders import Decoder, Output
from edgetl_export.foreign.spec_file import InputSide
from edgetl_export.graph import bare_with_shapes
from edgetl_export.to_onnx import OPSET
from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import onnxruntime as need_onnxruntime

INPUT_TYPES = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
HALF_TYPES = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class Network:
    """model: static, batch 1. batch: what the file itself wants. outputs: those that are float32, by name."""

    path: Path
    model: ModelProto
    input_name: str
    input_type: int
    layout: str
    batch: int
    outputs: dict[str, Output]

    def read_by(self, decoder: Decoder) -> tuple[Output, ...]:
        """The outputs that a decoder reads. Raises InputError that lists the outputs there are."""
        found = []
        for name in decoder.reads():
            wanted = name or (next(iter(self.outputs)) if len(self.outputs) == 1 else "")
            if wanted not in self.outputs:
                has = ", ".join(map(str, self.outputs.values()))
                said = f"has no output {name!r}" if name else "has several outputs and the spec names none of them"
                raise InputError(f"{self.path.name} {said}; it has {has}", remedy="correct the spec file")
            found.append(self.outputs[wanted])
        return tuple(found)


def read_network(path: Path, side: InputSide) -> Network:
    """Read and check an ONNX file against what the spec says of its input.

    Raises InputError for a file that is no ONNX model, lacks its external data, has other inputs than the spec says,
    or shapes that stay open.
    """
    model = _loaded(path)
    _constants_are_no_inputs(model)
    info = _input(path, model, side)
    kind = info.type.tensor_type.elem_type
    if kind not in INPUT_TYPES:
        found = helper.tensor_dtype_to_np_dtype(kind).name
        raise InputError(
            f"{path.name}: the input {info.name} is {found}, expected float32 or uint8",
            remedy="export the network in float32; edgetl finds the precision itself",
        )
    if kind == TensorProto.UINT8 and (any(side.mean) or set(side.std) != {1.0}):
        raise InputError(f"{path.name}: the input {info.name} is uint8, so mean must be 0 and std 1 in the spec")
    batch = _fix_input(path, info, side)
    model = _known_opset(path, model)
    outputs = _fix_outputs(path, model, info.name, kind, side)
    _refuse_half(path, model)
    return Network(path, model, info.name, kind, side.layout, batch, outputs)


def _loaded(path: Path) -> ModelProto:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except InputError:
        raise
    except Exception as error:  # protobuf, onnx.checker and onnx's external data have no exception in common
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        missing = "put the file with its weights beside it" if "should be stored in" in reason else ""
        raise InputError(f"{path}: not an ONNX model that can be read ({reason[:300]})", remedy=missing) from error
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path}: an ONNX model without nodes or outputs")
    return model


def _constants_are_no_inputs(model: ModelProto) -> None:
    """Old exporters list weights among the inputs, as IR version 3 asks: an engine must treat them as variables."""
    model.ir_version = max(model.ir_version, 4)
    constants = {i.name for i in model.graph.initializer}
    kept = [i for i in model.graph.input if i.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _input(path: Path, model: ModelProto, side: InputSide) -> ValueInfoProto:
    inputs = {i.name: i for i in model.graph.input}
    if len(inputs) != 1 or (side.name and side.name not in inputs):
        has = ", ".join(f"{n} {_shape_text(i)}" for n, i in inputs.items()) or "none"
        raise InputError(
            f"{path.name}: expected one image input{f' {side.name!r}' if side.name else ''}, it has {has}",
            remedy="correct input.name, or export the network with the image as its only input",
        )
    return next(iter(inputs.values()))


def _shape_text(info: ValueInfoProto) -> str:
    dims = info.type.tensor_type.shape.dim
    return "(" + ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims) + ")"


def _fix_input(path: Path, info: ValueInfoProto, side: InputSide) -> int:
    """Write the spec's shape into the input; returns the batch that the file had, 1 where it was open."""
    height, width = side.size_hw
    wanted = [1, 3, height, width] if side.layout == "nchw" else [1, height, width, 3]
    dims = info.type.tensor_type.shape.dim
    known = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else 0 for d in dims]
    if len(known) != 4 or any(k not in {0, w} for k, w in zip(known[1:], wanted[1:], strict=True)):
        raise InputError(
            f"{path.name}: the input {info.name} is {_shape_text(info)}, "
            f"the spec says {side.layout} of {height}x{width} pixels: {tuple(wanted)}",
            remedy="correct input.size_hw or input.layout",
        )
    for dim, value in zip(dims, wanted, strict=True):
        dim.Clear()
        dim.dim_value = value
    return max(known[0], 1)


def _known_opset(path: Path, model: ModelProto) -> ModelProto:
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset >= OPSET:
        return model
    # Shapes that were inferred for an open or larger batch would contradict the ones inferred from here on.
    del model.graph.value_info[:]
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{path.name}: opset {opset} can't be brought to {OPSET} ({reason[:160]})",
            remedy=f"export the network again with opset {OPSET}",
        ) from error


def _refuse_half(path: Path, model: ModelProto) -> None:
    graph = bare_with_shapes(model).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    kinds |= {i.name: i.data_type for i in graph.initializer}
    for name, kind in kinds.items():
        if kind in HALF_TYPES:
            raise InputError(
                f"{path.name} computes in {HALF_TYPES[kind]}: its tensor {name} has this type",
                remedy="export the network in float32; edgetl finds the precision itself",
            )


def _fix_outputs(path: Path, model: ModelProto, input_name: str, kind: int, side: InputSide) -> dict[str, Output]:
    """Write into the outputs the shapes that ONNX Runtime gives for one frame; return the float32 ones."""
    del model.graph.value_info[:]
    for o in model.graph.output:
        o.type.tensor_type.ClearField("shape")
    ort = need_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    shape = [1, 3, *side.size_hw] if side.layout == "nchw" else [1, *side.size_hw, 3]
    blank = np.zeros(shape, INPUT_TYPES[kind])
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        arrays = session.run(None, {input_name: blank})
    except Exception as error:  # onnxruntime raises classes of its own that derive from Exception only
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path.name}: ONNX Runtime can't run it with one frame of {shape} ({reason[:240]})",
            remedy="export it with batch 1 or an open batch, and with operators of ONNX only",
        ) from error
    outputs = {}
    for info, array in zip(model.graph.output, arrays, strict=True):
        info.CopyFrom(
            helper.make_tensor_value_info(info.name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        )
        if array.dtype == np.float32:
            outputs[info.name] = Output(info.name, tuple(array.shape))
    if not outputs:
        found = ", ".join(f"{i.name} {a.dtype}{list(a.shape)}" for i, a in zip(model.graph.output, arrays, strict=True))
        raise InputError(f"{path.name}: none of its outputs is float32: {found}")
    return outputs
