"""INT8 as Q/DQ: for CPU engines unsigned activations and the camera's bytes as they are, for TensorRT symmetric.

Requires: a float graph with static shapes, a range for what each INT8 layer reads, nodes with names of their own.
Ensures: Q/DQ pairs before INT8 layers, weights as INT8 per output channel, everything else untouched.

Placement follows what each engine fuses. For TensorRT a layer's result is not quantised on its way into an addition, so
that the addition becomes part of the layer; ONNX Runtime adds in INT8 only where both sides are quantised, and OpenVINO
is as fast either way. OpenVINO makes SiLU, GELU and their like part of the convolution before them. ONNX Runtime runs a
convolution in INT8 only where its result is quantised, at once or behind a ReLU or Clip, and multiplies in INT8, as
SiLU does, where both factors are quantised. Copies (Concat, MaxPool, Resize, ...) have one scale before and after,
which holds the values of all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgetl_export.calibrate import Range
from edgetl_export.graph import (
    attribute,
    consumers,
    copy_of,
    initializers,
    producers,
    prune,
    set_initializer,
    set_nodes,
    shapes_of,
)
from edgetl_export.layers import AFFINE, HEAVY, Layer, weight_axis

Scheme = Literal["u8s8", "u8s8-ort", "s8s8"]
"""u8s8: unsigned activations with a zero point, biases as INT32, as OpenVINO fuses it: and ONNX Runtime where u8s8-ort
is the same. u8s8-ort: as ONNX Runtime does. s8s8: signed, every zero point 0, float biases: TensorRT."""
FLOAT_THERE = frozenset(
    {
        *("Celu", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Selu", "Sigmoid"),
        *("LayerNormalization", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu"),
    }
)
"""Activations, what others are composed of, and normalisations that ONNX Runtime does not make part of a layer."""


@dataclass(frozen=True, slots=True)
class Style:
    """What graphs of a scheme are like.

    symmetric: activations are signed and have no zero point, biases stay float. both: operators of two tensors that
    engines compute in INT8 where both are quantised, and the result. closed: operators of layers that run in INT8 only
    where what they give is quantised, though one of `before` reads it.
    """

    symmetric: bool = False
    both: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()


STYLES: Mapping[Scheme, Style] = {
    "u8s8": Style(both=frozenset({"Add"})),
    "u8s8-ort": Style(both=frozenset({"Add", "Mul"}), closed=frozenset({"Conv"}), before=FLOAT_THERE),
    "s8s8": Style(symmetric=True),
}
CUTS = frozenset({"Clip", "Relu"})
"""Activations that every engine makes part of the layer right before them."""
ARITHMETIC = AFFINE | {"Pow"}

LAYOUT = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze"})
"""Operators that put the same values in another order or shape."""
COPIES = LAYOUT | {"Concat", "Gather", "MaxPool", "Resize", "Slice", "Split"}
"""Operators whose results hold nothing but values that they read, or values between those."""
MOST_STEPS = 2**30
"""The most that a given bias may come to in units of its scale: half of INT32, the rest is for its correction."""


@dataclass(frozen=True, slots=True)
class QuantisationPlan:
    """Which layers become INT8, by name, and with what ranges.

    means: channel means of what layers read; where they are known, the mean error of rounded weights goes into the
    bias (Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019).
    """

    scheme: Scheme
    layers: Collection[str]
    ranges: Mapping[str, Range]
    means: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def quantise(model: ModelProto, layers: Sequence[Layer], plan: QuantisationPlan) -> ModelProto:
    """A copy in which the plan's layers are INT8; layers that read the frame itself stay float under s8s8."""
    result = copy_of(model)
    builder = _Builder(result, layers, plan)
    for layer in layers:
        if layer.name in plan.layers:
            builder.add(layer)
    builder.finish()
    prune(result)
    onnx.checker.check_model(result)
    return result


def quantised_inputs(model: ModelProto, layers: Sequence[Layer]) -> list[str]:
    """The tensors that need a range, whichever layers become INT8 and wherever pairs are put."""
    made, readers, shapes = producers(model), consumers(model), shapes_of(model)
    opened = open_results(model, layers)
    both = STYLES["u8s8-ort" if opened else "u8s8"].both
    names = dict.fromkeys((*(layer.data for layer in layers), *opened))
    for node in reversed(model.graph.node):
        if any(t in names for t in node.output):
            if node.op_type in COPIES:
                names.update((t, None) for t in _data_of(node) if 0 not in shapes.get(t, (0,)))
            else:
                names.update(dict.fromkeys(_sides(model, made, node, both)))
    return [n for n in names if n in made and n in readers]


def open_results(model: ModelProto, layers: Sequence[Layer], scheme: Scheme = "u8s8-ort") -> list[str]:
    """What layers give to float operators behind them where it has to be quantised all the same, so that they run in
    INT8. ONNX Runtime has no need of a graph of its own where there is nothing of the kind.
    """
    style, readers, constants = STYLES[scheme], consumers(model), initializers(model)
    return [x.output for x in layers if x.op in style.closed and _read_by(x.output, style.before, readers, constants)]


def _read_by(
    tensor: str, ops: Collection[str], readers: Mapping[str, Sequence[NodeProto]], constants: Collection[str]
) -> bool:
    """Whether such an operator reads a tensor, in whatever layout, or what arithmetic makes of nothing but it."""
    own, left = {tensor}, [tensor]
    while left:
        source = left.pop()
        for node in readers.get(source, ()):
            if node.op_type in ops or (node.op_type in CUTS and source != tensor):
                return True
            follows = node.op_type in LAYOUT or node.op_type in ARITHMETIC
            if follows and node.output[0] not in own and all(i in own or i in constants for i in node.input):
                own.add(node.output[0])
                left.append(node.output[0])
    return False


def _data_of(node: NodeProto) -> Sequence[str]:
    """What a copy takes its values from, constants among them."""
    inputs: list[str] = list(node.input)
    return inputs if node.op_type == "Concat" else inputs[:1]


def _constant(model: ModelProto, node: NodeProto) -> bool:
    constants = {i.name for i in model.graph.initializer}
    return any(i in constants for i in node.input)


def _sides(model: ModelProto, made: Mapping[str, NodeProto], node: NodeProto, ops: Collection[str]) -> Sequence[str]:
    """Both tensors that such an operator reads, the node itself or the one before it where it is a ReLU; else none."""
    if node.op_type == "Relu" and node.input[0] in made:
        node = made[node.input[0]]
    return list(node.input) if node.op_type in ops and not _constant(model, node) else []


class _Builder:
    """Collects what is to be inserted, then writes the nodes anew in order."""

    def __init__(self, model: ModelProto, layers: Sequence[Layer], plan: QuantisationPlan) -> None:
        self.model, self.plan, self.style = model, plan, STYLES[plan.scheme]
        self.made, self.readers, self.constants = producers(model), consumers(model), initializers(model)
        self.nodes = {n.name: n for n in model.graph.node}
        self.after: dict[str, list[NodeProto]] = {}
        self.before: dict[str, list[NodeProto]] = {}
        self.pairs: dict[str, str] = {}
        self.scales: dict[str, float] = {}
        self.needed: dict[str, None] = {}
        self.int8: dict[str, Layer] = {}
        self.open = set(open_results(model, layers, plan.scheme))
        self._taken = {*self.made, *self.constants, *self.nodes, *(i.name for i in model.graph.input)}

    def add(self, layer: Layer) -> None:
        """Make one layer INT8."""
        if layer.data not in self.plan.ranges and not self._bytes(layer.data):
            return
        if self._bytes(layer.data) and self.style.symmetric:
            return
        self.int8[layer.name] = layer
        self._need(layer.data)
        if layer.output in self.open and layer.output in self.plan.ranges:
            self._need(layer.output)

    def finish(self) -> None:
        """Insert pairs, redirect readers, quantise weights, and write the nodes."""
        if not self.style.symmetric and any(layer.op == "MatMul" for layer in self.int8.values()):
            self._widen_biases()
        for group in self._groups():
            self._pairs(group)
        for layer in self.int8.values():
            self._weights(layer)
        for tensor, dequantised in self.pairs.items():
            for node in self.readers.get(tensor, []):
                if self._stays_float(node):
                    continue
                for i, name in enumerate(node.input):
                    if name == tensor:
                        node.input[i] = dequantised
        ordered = [n for start in ("", *(i.name for i in self.model.graph.input)) for n in self.after.get(start, [])]
        for node in self.model.graph.node:
            ordered += [*self.before.get(node.name, []), node]
            for output in node.output:
                ordered += self.after.get(output, [])
        set_nodes(self.model, ordered)

    def _stays_float(self, node: NodeProto) -> bool:
        """A float layer reads what was there before; so does a mask, as of tokens: OpenVINO takes the factors of any
        axis for those of channels and then can't load the graph.
        """
        heavy = len(node.input) > 1 and node.input[1] in self.constants and node.op_type in HEAVY
        if node.op_type in ("Mul", "Div"):
            factors = [self.constants[i] for i in node.input if i in self.constants]
            return any(f.size > 1 and (f.ndim < 3 or f.shape[-3] != f.size) for f in factors)
        return heavy and node.name not in self.int8

    def _need(self, tensor: str) -> None:
        """This tensor is read as INT8; so are those that its values are copied from, and both sides of an addition."""
        if tensor in self.needed:
            return
        self.needed[tensor] = None
        producer = self.made.get(tensor)
        if producer is None or self._bytes(tensor):
            return
        if producer.op_type in COPIES:
            for source in self._copied(producer):
                self._need(source)
        else:
            for source in _sides(self.model, self.made, producer, self.style.both):
                if source in self.plan.ranges:
                    self._need(source)

    def _copied(self, node: NodeProto) -> list[str]:
        """The tensors that a copy takes its values from."""
        return [source for source in _data_of(node) if source not in self.constants and source in self.made]

    def _groups(self) -> list[list[str]]:
        """The needed tensors, those together that are copies of one another: they have one scale."""
        group_of: dict[str, list[str]] = {}
        for tensor in self.needed:
            group = group_of.setdefault(tensor, [tensor])
            producer = self.made.get(tensor)
            if producer is None or producer.op_type not in COPIES or self._bytes(tensor):
                continue
            for source in self._copied(producer):
                other = group_of.setdefault(source, [source])
                if other is not group:
                    group += other
                    group_of.update(dict.fromkeys(other, group))
        return list({id(group): group for group in group_of.values()}.values())

    def _pairs(self, group: Sequence[str]) -> None:
        """One scale that holds every value of the group, and a pair wherever an engine looks for one."""
        if self._bytes(group[0]):
            self._frame(group[0])
            return
        ranges = [self.plan.ranges[tensor] for tensor in group if tensor in self.plan.ranges]
        scale, zero = _scale((min(low for low, _ in ranges), max(high for _, high in ranges)), self.plan.scheme)
        for tensor in group:
            self.scales[tensor] = scale
            if not self._inside(tensor):
                self._pair(tensor, scale, zero)

    def _inside(self, tensor: str) -> bool:
        """Whether it stands within a chain that only changes the layout: engines read such a chain as one operator."""
        readers = self.readers.get(tensor, [])
        producer = self.made.get(tensor)
        return producer is not None and all(n.op_type in LAYOUT for n in (producer, *readers)) and bool(readers)

    def _new(self, name: str) -> str:
        """This name, or where the network has it already one like it."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def _pair(self, tensor: str, scale: float, zero: NDArray[np.generic]) -> None:
        names = {k: self._new(f"{tensor}_{k}") for k in ("scale", "zero", "quantised", "dequantised")}
        set_initializer(self.model, names["scale"], np.array(scale, np.float32))
        set_initializer(self.model, names["zero"], zero)
        pair = [
            helper.make_node(op, [source, names["scale"], names["zero"]], [target], name=f"{tensor}/{op}")
            for op, source, target in (
                ("QuantizeLinear", tensor, names["quantised"]),
                ("DequantizeLinear", names["quantised"], names["dequantised"]),
            )
        ]
        self.after.setdefault(tensor, []).extend(pair)
        self.pairs[tensor] = names["dequantised"]

    def _bytes(self, tensor: str) -> bool:
        return _frame_chain(self.model, self.made, tensor) is not None

    def _frame(self, tensor: str) -> None:
        """Cast, Transpose, Pad become Transpose, Pad on bytes: a byte is a value of scale 1 and zero point 0.

        In this order: after a Pad of the frame itself OpenVINO ran the first layer in float.
        """
        chain = _frame_chain(self.model, self.made, tensor)
        assert chain is not None
        cast, transpose, pad = chain
        perm, last = attribute(transpose, "perm"), self._new("frame_bytes")
        nodes = [helper.make_node("Transpose", [cast.input[0]], [last], perm=perm, name=self._new("frame_to_nchw"))]
        if pad is not None:
            value = self._new_constant("frame_pad_byte", np.array(round(self._pad_value(pad)), np.uint8))
            inputs, last = [last, pad.input[1], value], self._new("frame_bytes_padded")
            nodes.append(helper.make_node("Pad", inputs, [last], name=self._new("frame_pad_bytes")))
        scale = self._new_constant("frame_scale", np.array(1.0, np.float32))
        inputs, last = (
            [last, scale, self._new_constant("frame_zero", np.array(0, np.uint8))],
            self._new("frame_dequantised"),
        )
        nodes.append(helper.make_node("DequantizeLinear", inputs, [last], name=self._new("frame_dequantise")))
        self.after.setdefault("", []).extend(nodes)
        self.pairs[tensor], self.scales[tensor] = last, 1.0

    def _new_constant(self, name: str, value: NDArray[np.generic]) -> str:
        """A new constant; its name."""
        name = self._new(name)
        set_initializer(self.model, name, value)
        return name

    def _pad_value(self, pad: NodeProto) -> float:
        return float(self.constants[pad.input[2]].item()) if len(pad.input) > 2 and pad.input[2] else 0.0

    def _weights(self, layer: Layer) -> None:
        node = self.nodes[layer.name]
        weight = np.asarray(self.constants[layer.weight], np.float32)
        axis = weight_axis(node) % weight.ndim
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = _whole_half(np.maximum(np.abs(weight).max(axis=others), 1e-8) / 127, self.plan.scheme)
        bias = self._given_bias(node, len(scale))
        if bias is not None and not self.style.symmetric:
            # Beside a bias whose steps would not fit into INT32 the weights of a channel are next to nothing.
            least = np.abs(bias) / (MOST_STEPS * self.scales[layer.data])
            scale = np.maximum(scale, least.astype(np.float32))
        shape = [1] * weight.ndim
        shape[axis] = -1
        rounded = np.clip(np.round(weight / scale.reshape(shape)), -127, 127)
        base = f"{layer.name}/weight"
        inputs = [
            self._new_constant(f"{base}_int8", rounded.astype(np.int8)),
            self._new_constant(f"{base}_scale", scale.astype(np.float32)),
            self._new_constant(f"{base}_zero", np.zeros(len(scale), np.int8)),
        ]
        output = self._new(f"{base}_dq")
        nodes = [helper.make_node("DequantizeLinear", inputs, [output], name=f"{base}/DequantizeLinear", axis=axis)]
        node.input[1] = output
        if bias is not None:
            nodes += self._bias(
                layer, node, bias - self._mean_error(layer, node, rounded * scale.reshape(shape) - weight), scale
            )
        self.before.setdefault(layer.name, []).extend(nodes)

    def _widen_biases(self) -> None:
        """Give what is added to a stack of matrix products all of its axes.

        ONNX Runtime makes a float Gemm of a MatMul and a vector behind it, whose product then is no longer in INT8.
        """
        shapes = shapes_of(self.model)
        for layer in self.int8.values():
            shape = shapes.get(layer.output, ())
            for node in self.readers.get(layer.output, []) if layer.op == "MatMul" and len(shape) > 2 else []:
                if node.op_type != "Add" or not any(i in self.constants for i in node.input):
                    continue
                for i, name in enumerate(node.input):
                    if name in self.constants and self.constants[name].ndim < len(shape):
                        value = self.constants[name]
                        wide = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
                        node.input[i] = self._new_constant(f"{name}_wide", wide)

    def _given_bias(self, node: NodeProto, count: int) -> NDArray[np.float64] | None:
        """(count,) the bias of a layer, zeros where it has none; None where it has no place for such a one."""
        name = node.input[2] if len(node.input) > 2 else ""
        grouped = node.op_type == "ConvTranspose" and attribute(node, "group") not in (None, 1)
        if node.op_type == "MatMul" or grouped or (name and name not in self.constants):
            return None
        given = np.asarray(self.constants[name], np.float64) if name else np.zeros(count)
        return given if given.shape == (count,) else None

    def _bias(
        self, layer: Layer, node: NodeProto, bias: NDArray[np.float64], scale: NDArray[np.float32]
    ) -> list[NodeProto]:
        """Write a layer's bias; under u8s8 as INT32 in units of input scale times weight scale."""
        name = f"{layer.name}/bias"
        while len(node.input) < 3:
            node.input.append("")
        if self.style.symmetric:
            node.input[2] = self._new_constant(name, bias.astype(np.float32))
            return []
        units = self.scales[layer.data] * scale.astype(np.float64)
        steps = np.clip(np.round(bias / units), -(2**31), 2**31 - 1)
        inputs = [
            self._new_constant(f"{name}_int32", steps.astype(np.int32)),
            self._new_constant(f"{name}_scale", units.astype(np.float32)),
            self._new_constant(f"{name}_zero", np.zeros(len(scale), np.int32)),
        ]
        node.input[2] = self._new(f"{name}_dq")
        return [helper.make_node("DequantizeLinear", inputs, [node.input[2]], name=f"{name}/DequantizeLinear", axis=0)]

    def _mean_error(self, layer: Layer, node: NodeProto, error: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the rounding of weights adds to each output channel on average, borders aside."""
        means = self.plan.means.get(layer.data)
        zero = np.zeros(1)
        if means is None or node.op_type not in ("Conv", "Gemm"):
            return zero
        if node.op_type == "Gemm":
            if any(
                attribute(node, key) not in (None, usual)
                for key, usual in (("alpha", 1.0), ("beta", 1.0), ("transA", 0))
            ):
                return zero
            matrix = error if attribute(node, "transB") else error.T
            return np.asarray(matrix @ means, np.float64) if matrix.shape[1] == len(means) else zero
        taps = error.reshape(*error.shape[:2], -1).sum(axis=2, dtype=np.float64)
        groups = int(attribute(node, "group") or 1)  # type: ignore[call-overload]
        per_group = means.reshape(groups, -1)
        owner = np.arange(len(taps)) * groups // len(taps)
        return np.asarray((taps * per_group[owner]).sum(axis=1))


def _scale(limits: Range, scheme: Scheme) -> tuple[float, NDArray[np.generic]]:
    low, high = limits
    if STYLES[scheme].symmetric:
        symmetric = _whole_half(np.array(max(abs(low), abs(high), 1e-8) / 127), scheme)
        return float(symmetric), np.array(0, np.int8)
    scale = max(high - low, 1e-8) / 255
    return scale, np.array(np.clip(round(-low / scale), 0, 255), np.uint8)


def _whole_half(scale: NDArray[np.floating], scheme: Scheme) -> NDArray[np.floating]:
    """Under s8s8 the next FP16 values from these on, so that a graph whose rest is FP16 has the same; others stay."""
    if not STYLES[scheme].symmetric:
        return scale
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
    half = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.where(np.isfinite(half), half, scale).astype(np.float32)


def _frame_chain(
    model: ModelProto, made: Mapping[str, NodeProto], tensor: str
) -> tuple[NodeProto, NodeProto, NodeProto | None] | None:
    """Cast, Transpose and Pad (or None) that make `tensor` from the uint8 frame, or None."""
    node, pad = made.get(tensor), None
    if node is not None and node.op_type == "Pad":
        value = next((i for i in model.graph.initializer if len(node.input) > 2 and i.name == node.input[2]), None)
        if value is None or attribute(node, "mode") not in (None, b"constant") or len(node.input) > 3:
            return None
        if not 0 <= round(float(onnx.numpy_helper.to_array(value).item())) <= 255:
            return None
        pad, node = node, made.get(node.input[0])
    if node is None or node.op_type != "Transpose":
        return None
    cast = made.get(node.input[0])
    if cast is None or cast.op_type != "Cast" or cast.input[0] != model.graph.input[0].name:
        return None
    return cast, node, pad
