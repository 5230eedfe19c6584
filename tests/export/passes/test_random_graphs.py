"""Random small graphs of the operators that passes touch compute after every pass what they computed before.

A graph is looked at with onnx.printer.to_text(drawn(seed)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from networks import either
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

from edgetl_export.calibrate import Observed, ranges
from edgetl_export.graph import downstream, with_outputs
from edgetl_export.layers import layers_of
from edgetl_export.passes import PASSES
from edgetl_export.passes.quantise import QuantisationPlan, Scheme, quantise, quantised_inputs

SIZE_HW = (16, 24)
SEEDS = range(80)
FLIPPED = 0.002
"""Share of values that may differ: rounding may turn a comparison."""
Shape = tuple[int, int, int]
Arrays = dict[str, NDArray[np.generic]]


class Drawing:
    """A graph that grows. shapes: channels, height and width of every tensor, in the order that they were made in."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: Arrays = {"sure": np.array(True)}
        self.shapes: dict[str, Shape] = {}

    def one_of(self, *choices: Any) -> Any:
        return choices[self.random.integers(len(choices))]

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = value.astype(np.float32) if value.dtype == np.float64 else value
        return name

    def add(self, op: str, inputs: list[str], *shapes: Shape, **attributes: object) -> str:
        """One node; some have no name. Returns the last of its outputs."""
        outputs = [f"t{len(self.nodes)}_{i}" for i in range(len(shapes))]
        name = self.one_of("", f"{op}{len(self.nodes)}")
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        self.shapes.update(zip(outputs, shapes, strict=True))
        return outputs[-1]

    def like(self, x: str) -> str:
        """A tensor of the same shape, perhaps itself."""
        return str(self.one_of(*(t for t, shape in self.shapes.items() if shape == self.shapes[x])))

    def some(self, *shape: int) -> NDArray[np.generic]:
        """Random values; some channels are zero or nearly so, as training leaves them."""
        value = self.random.normal(0, 0.4, shape)
        value[self.random.random(shape[0]) < self.one_of(0, 0.4)] *= self.one_of(0, 1e-20)
        return value


def convolve(d: Drawing, x: str) -> None:
    channels, high, wide = d.shapes[x]
    count, size, stride, pads = d.one_of(4, 8, 16, 24), d.one_of(1, 2, 3), d.one_of(1, 1, 2), [0] * 4
    group = d.one_of(1, 1, 1, channels) if count % channels == 0 else 1
    attributes: dict[str, object] = {"strides": [stride] * 2, "group": group}
    padding = d.one_of("none", "even", "uneven", "same")
    if padding == "same":
        attributes["auto_pad"], made = "SAME_UPPER", (-(-high // stride), -(-wide // stride))
    else:
        if padding != "none":
            attributes["pads"] = pads = [1] * 4 if padding == "even" else d.random.integers(0, 2, 4).tolist()
        made = tuple((n + a + b - size) // stride + 1 for n, a, b in zip((high, wide), pads, pads[2:], strict=False))
    weight, bias = d.constant(d.some(count, channels // group, size, size)), d.constant(d.some(count))
    if min(made) > 0:
        y = d.add("Conv", [x, weight, *d.one_of([], [""], [bias])], (count, *made), **attributes)
        d.one_of(lambda d, y: None, activate, normalise, split)(d, y)


def spread(d: Drawing, x: str) -> None:
    """A transposed convolution whose windows lie side by side, and what may be decided before."""
    channels, high, wide = d.shapes[x]
    if high > 40:
        return
    count, size = d.one_of(1, 2, 4, 8), d.one_of(2, 3)
    weight, bias = d.constant(d.some(channels, count, size, size)), d.constant(d.some(count))
    shape = (count, high * size, wide * size)
    y = d.add("ConvTranspose", [x, weight, *d.one_of([], [bias])], shape, strides=[size] * 2)
    d.one_of(activate, split, compare, normalise)(d, y)


def normalise(d: Drawing, x: str) -> None:
    count = d.shapes[x][0]
    values = [d.some(count), d.some(count), d.some(count), d.random.uniform(0.5, 2, count)]
    d.add("BatchNormalization", [x, *map(d.constant, values)], d.shapes[x])


def activate(d: Drawing, x: str) -> None:
    count = d.shapes[x][0]
    slope = d.constant(d.random.uniform(0, 0.5, d.one_of((count, 1, 1), (1, 1, 1), (1, count, 1, 1))))
    low, high = d.constant(np.array(-0.3)), d.constant(np.array(0.7))
    clip = d.one_of([low], ["", high], [low, high])
    op = d.one_of("Relu", "Sigmoid", "HardSigmoid", "LeakyRelu", "Neg", "Tanh", "PRelu", "Clip", "Identity")
    d.add(op, [x, *{"PRelu": [slope], "Clip": clip}.get(op, [])], d.shapes[x])


def combine(d: Drawing, x: str) -> None:
    """With a tensor, one number, or one for each channel; some are as good as nothing."""
    numbers = d.constant(d.random.uniform(0.5, 2, d.one_of((), (1,), (d.shapes[x][0], 1, 1))) * d.one_of(1, 1, 1e-20))
    pair = d.one_of([x, d.like(x)], [x, numbers], [numbers, x])
    y = d.add(d.one_of("Add", "Mul", "Sub"), pair, d.shapes[x])
    d.add("Add", [d.like(x), y], d.shapes[x])


def concatenate(d: Drawing, x: str) -> None:
    fitting = [t for t, shape in d.shapes.items() if shape[1:] == d.shapes[x][1:]]
    parts = [d.one_of(*fitting), x, d.one_of(*fitting)]
    count = sum(d.shapes[p][0] for p in parts)
    if count < 80:
        d.add("Concat", parts, (count, *d.shapes[x][1:]), axis=d.one_of(1, -3))


def split(d: Drawing, x: str) -> None:
    count, *size = d.shapes[x]
    if count < 2:
        return
    first = 8 if count in (16, 24) else int(d.random.integers(1, count))
    sizes = d.constant(np.array([first, count - first]))
    d.add("Split", [x, sizes], (first, *size), (count - first, *size), axis=d.one_of(1, -3))
    start, stop = d.constant(np.array([first])), d.constant(np.array([d.one_of(count, 2**40)]))
    d.add("Slice", [x, start, stop, d.constant(np.array([1]))], (count - first, *size))


def pool(d: Drawing, x: str) -> None:
    """Beside a convolution with the same windows."""
    channels, high, wide = d.shapes[x]
    size, pads = d.one_of(2, 3), d.one_of([0] * 4, [1] * 4)
    made = (high + 2 * pads[0] - size + 1, wide + 2 * pads[0] - size + 1)
    if min(made) < 1:
        return
    d.add("MaxPool", [x], (channels, *made), kernel_shape=[size] * 2, pads=pads)
    beside = d.add("Conv", [x, d.constant(d.some(5, channels, size, size))], (5, *made), pads=pads)
    counted = {"count_include_pad": d.one_of(0, 1)}
    mean = d.add("AveragePool", [x], (channels, *made), kernel_shape=[size] * 2, pads=pads, **counted)
    d.add("Concat", [beside, mean, *d.one_of([], [mean], [beside])], (5 + channels, *made), axis=1)
    last = d.nodes[-1]
    d.shapes[last.output[0]] = (sum(d.shapes[p][0] for p in last.input), *made)


def compare(d: Drawing, x: str) -> None:
    d.add("Greater", [x, d.constant(np.array(0.1))], d.shapes[x])
    found = d.nodes[-1].output[0]
    del d.shapes[found]
    d.add("Cast", [found], d.shapes[x], to=TensorProto.FLOAT)


def read_inside(d: Drawing, x: str) -> None:
    y = f"t{len(d.nodes)}_0"
    d.nodes.append(either(x, y))
    d.shapes[y] = d.shapes[x]


STEPS: tuple[Callable[[Drawing, str], None], ...] = (
    convolve, convolve, convolve, spread, normalise, activate, combine, concatenate, split, pool, compare, read_inside,
)  # fmt: skip


def drawn(seed: int) -> ModelProto:
    """Frame -> planes -> linear steps -> random operators; all that nobody reads is an output, and some more."""
    d = Drawing(seed)
    shape = (3, *SIZE_HW)
    d.nodes.append(helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT, name="float"))
    x = d.add("Transpose", ["float"], shape, perm=[0, 3, 1, 2])
    del d.shapes[x]
    if d.one_of(True, False):
        x = d.add("Gather", [x, d.constant(np.array([2, 1, 0]))], shape, axis=1)
        del d.shapes[x]
    mean = d.one_of(np.array(127.0), np.array([123.0, 116.0, 103.0]).reshape(3, 1, 1))
    x = d.add("Sub", [x, d.constant(mean)], shape)
    del d.shapes[x]
    d.add("Div", [x, d.constant(np.array(128.0))], shape)
    for _ in range(d.random.integers(4, 9)):
        d.one_of(*STEPS)(d, d.one_of(*list(d.shapes)[-6:]))
    read = {name for node in d.nodes for name in node.input}
    outputs = [t for t in d.shapes if t not in read or d.random.random() < 0.1]
    graph = helper.make_graph(
        d.nodes,
        "drawn",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, *SIZE_HW, 3])],
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, [1, *d.shapes[t]]) for t in outputs],
        [numpy_helper.from_array(value, name) for name, value in d.constants.items()],
    )
    return inferred(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def inferred(model: ModelProto) -> ModelProto:
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def run(model: ModelProto, seed: int) -> Arrays:
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    frame = np.random.default_rng(seed).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"frame": frame}), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_passes_keep_what_a_graph_computes(seed: int) -> None:
    model = drawn(seed)
    before = run(model, seed)
    for each in PASSES:
        model = inferred(each.run(model)[0])
        after = run(model, seed)
        assert list(after) == list(before), each.name
        for name, expected in before.items():
            assert after[name].shape == expected.shape, f"{each.name}, {name}"
            apart = np.abs(after[name] - expected) > 1e-3 * max(1e-3, float(np.abs(expected).max()))
            assert apart.mean() <= FLIPPED, f"{each.name}: {name} differs in {apart.mean():.1%}"


@pytest.mark.parametrize("scheme", ["u8s8", "u8s8-ort", "s8s8"])
@pytest.mark.parametrize("seed", SEEDS[::2])
def test_int8_in_some_layers_stays_near_what_a_graph_computes(seed: int, scheme: Scheme) -> None:
    model = drawn(seed)
    for each in PASSES:
        model = inferred(each.run(model)[0])
    layers = layers_of(model, ())
    watched = quantised_inputs(model, layers)
    values = run(with_outputs(model, watched), seed)
    flat = {name: np.asarray(values[name], np.float32).ravel() for name in watched}
    seen = {n: Observed(float(v.min()), float(v.max()), v, np.zeros(1)) for n, v in flat.items()}
    some = {layer.name for i, layer in enumerate(layers) if (i + seed) % 3}
    after = run(quantise(model, layers, QuantisationPlan(scheme, some, ranges(seen, "minmax"))), seed)
    turned = downstream(model, [o for n in model.graph.node if n.op_type == "Greater" for o in n.output])
    steady = {o.name for o in model.graph.output}.difference(*(n.output for n in turned))
    for name, expected in run(model, seed).items():
        if name not in steady:
            continue
        spread = max(float(np.std(expected)), float(np.abs(expected).mean()) / 10, 1e-3)
        assert np.sqrt(np.mean((after[name] - expected) ** 2)) < 0.5 * spread, name
