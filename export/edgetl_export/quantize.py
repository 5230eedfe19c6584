"""Calibrated INT8 as Q/DQ for CPU engines: U8 activations, S8 weights per channel, the frame's bytes as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgetl_export.graph import (
    attribute,
    consumers,
    downstream,
    initializers,
    load_model,
    producers,
    prune,
    save_model,
    set_initializer,
)
from edgetl_runtime.errors import InputError
from edgetl_runtime.imports import onnxruntime as need_onnxruntime


class _Frames:
    """Calibration frames in the form that onnxruntime's calibrator reads."""

    def __init__(self, name: str, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._feeds: Iterator[dict[str, NDArray[np.uint8]]] = iter([{name: f} for f in frames])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next feed, or None at the end."""
        return next(self._feeds, None)


def quantize_u8s8(
    source: Path, target: Path, frames: Sequence[NDArray[np.uint8]], *, keep_float: Sequence[str]
) -> None:
    """Write an INT8 Q/DQ model calibrated on real frames (1, H, W, 3) uint8.

    keep_float: tensors whose producers, and everything after them, stay in float: the maps that decoding
    reads, where a plateau of equal quantised scores would make one object many. Raises InputError without
    calibration frames.
    """
    need_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if not frames:
        raise InputError("no calibration frames", remedy="give --data with training images")
    model = load_model(source)
    made = producers(model)
    excluded = [n.name for n in downstream(model, keep_float)] + [made[t].name for t in keep_float]
    excluded += [n.name for n in model.graph.node if n.op_type == "Pad"]
    with _quiet_root_logger():
        quantize_static(
            str(source),
            str(target),
            _Frames(model.graph.input[0].name, frames),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=excluded,
        )
    save_model(bytes_as_input(onnx.load(str(target))), target)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """onnxruntime's quantiser advises on the root logger; the caller's level comes back afterwards."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def bytes_as_input(model: ModelProto) -> ModelProto:
    """Replace Cast -> Transpose -> [Pad] -> Q -> DQ at the frame by Transpose -> [Pad] -> DQ on the bytes.

    A camera's byte already is a quantised value with scale 1 and zero point 0. The same model is returned
    where the pattern does not hold.
    """
    chain = _frame_chain(model)
    if chain is None:
        return model
    cast, transpose, pad, dequantize = chain
    frame, perm = cast.input[0], attribute(transpose, "perm")
    names = {"transpose": "frame_bytes", "pad": "frame_bytes_padded"}
    nodes = [helper.make_node("Transpose", [frame], [names["transpose"]], perm=perm, name="frame_to_nchw")]
    last = names["transpose"]
    if pad is not None:
        value = _pad_byte(model, pad)
        if value is None:
            return model
        set_initializer(model, "frame_pad_byte", np.array(value, np.uint8))
        nodes.append(
            helper.make_node("Pad", [last, pad.input[1], "frame_pad_byte"], [names["pad"]], name="frame_pad_u8")
        )
        last = names["pad"]
    set_initializer(model, "frame_scale", np.array(1.0, np.float32))
    set_initializer(model, "frame_zero", np.array(0, np.uint8))
    result = dequantize.output[0]
    nodes.append(
        helper.make_node("DequantizeLinear", [last, "frame_scale", "frame_zero"], [result], name="frame_dequantize")
    )
    kept = [n for n in model.graph.node if n is not dequantize]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])
    _rescale_biases(model, result)
    prune(model)
    return model


def _rescale_biases(model: ModelProto, activation: str) -> None:
    """Quantise anew the biases of convolutions that read `activation`, whose scale is one now.

    A bias is an int32 in units of input scale times weight scale, and some engines take those units for
    granted instead of reading the bias's own scale.
    """
    made, constants = producers(model), initializers(model)
    for conv in consumers(model).get(activation, []):
        if conv.op_type != "Conv" or len(conv.input) < 3:
            continue
        weight, bias = made.get(conv.input[1]), made.get(conv.input[2])
        if weight is None or bias is None or bias.op_type != "DequantizeLinear":
            continue
        scale = np.asarray(constants[weight.input[1]], np.float32)
        value = np.asarray(constants[bias.input[0]], np.float64) * np.asarray(constants[bias.input[1]], np.float64)
        set_initializer(model, bias.input[0], np.round(value / scale).astype(np.int32))
        set_initializer(model, bias.input[1], scale)


def _pad_byte(model: ModelProto, pad: NodeProto) -> int | None:
    """The constant that the frame is padded with as a byte; None where there is no such constant."""
    constants = initializers(model)
    if attribute(pad, "mode") not in (None, b"constant") or len(pad.input) != 3 or pad.input[2] not in constants:
        return None
    value = round(float(constants[pad.input[2]].item()))
    return value if 0 <= value <= 255 else None


def _frame_chain(model: ModelProto) -> tuple[NodeProto, NodeProto, NodeProto | None, NodeProto] | None:
    """The Cast, the Transpose, the Pad or None, and the DequantizeLinear that feeds the first convolution."""
    readers = consumers(model)
    name = model.graph.input[0].name
    nodes: dict[str, NodeProto] = {}
    for op in ("Cast", "Transpose", "Pad", "QuantizeLinear", "DequantizeLinear"):
        following = [n for n in readers.get(name, []) if n.op_type == op]
        if len(following) == 1:
            nodes[op] = following[0]
            name = following[0].output[0]
        elif op != "Pad":
            return None
    return nodes["Cast"], nodes["Transpose"], nodes.get("Pad"), nodes["DequantizeLinear"]
