"""INT8 as Q/DQ: where pairs stand, what they hold, and that what is left in float is untouched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NORMAL, PROBES, Constants, conv, folded, frame_nodes, frames, graph_of, residual_net, weights
from onnx import ModelProto, NodeProto, helper
from onnxruntime import InferenceSession

from edgetl_export.calibrate import Observed, observe, ranges
from edgetl_export.graph import (
    initializers,
    load_model,
    producers,
    save_model,
    set_initializer,
    with_outputs,
    without_outputs,
)
from edgetl_export.layers import Layer, layers_of
from edgetl_export.parity import record, rms_error
from edgetl_export.passes.fold_input import fold_input
from edgetl_export.passes.quantise import QuantisationPlan, Scheme, open_results, quantise, quantised_inputs
from edgetl_export.proof import prove_by_count
from edgetl_runtime.engines import available_engines, load_engine


class Net:
    """The folded network, its layers, and what they read on some frames."""

    def __init__(self, folder: Path, pad: int) -> None:
        self.path = folded(folder / "float.onnx", pad=pad)
        self.model = load_model(self.path)
        self.layers = layers_of(self.model, PROBES)
        free = [layer for layer in self.layers if not layer.decides]
        self.seen: dict[str, Observed] = observe(self.path, quantised_inputs(self.model, free), frames(), folder)
        self.folder = folder

    def int8(self, scheme: Scheme = "u8s8", *, leave: tuple[str, ...] = (), means: bool = False) -> ModelProto:
        names = {layer.name for layer in self.layers if not layer.decides and layer.name not in leave}
        corrected = {k: v.means for k, v in self.seen.items()} if means else {}
        return quantise(
            self.model, self.layers, QuantisationPlan(scheme, names, ranges(self.seen, "minmax"), corrected)
        )

    def error(self, model: ModelProto, engine: str = "onnxruntime") -> float:
        save_model(model, self.folder / "int8.onnx")
        rows = []
        for path, name, precision in ((self.path, "onnxruntime", "fp32"), (self.folder / "int8.onnx", engine, "int8")):
            loaded = load_engine(name, path, precision=precision)  # type: ignore[arg-type]
            rows.append(record(lambda f, e=loaded: e.infer({"frame": f}), frames(), PROBES))  # type: ignore[misc]
            loaded.close()
        return rms_error(*rows)


@pytest.fixture(params=[0, 1], ids=["no padding", "padding"])
def net(request: pytest.FixtureRequest, tmp_path: Path) -> Net:
    return Net(tmp_path, request.param)


def node(model: ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.name == name)


def quantised(model: ModelProto) -> set[str]:
    made = producers(model)
    return {
        n.name
        for n in model.graph.node
        if n.op_type == "Conv" and n.input[1] in made and made[n.input[1]].op_type == "DequantizeLinear"
    }


def test_the_bytes_of_the_frame_are_the_quantised_tensor(net: Net) -> None:
    model = net.int8()
    chain, name = [], "frame"
    while not chain or chain[-1].op_type != "DequantizeLinear":
        (reader,) = [n for n in model.graph.node if name in n.input]
        chain.append(reader)
        name = reader.output[0]
    padded = "frame_pad" in {n.name for n in net.model.graph.node}
    assert [n.op_type for n in chain] == ["Transpose", *(["Pad"] if padded else []), "DequantizeLinear"]
    constants = initializers(model)
    assert [constants[i].item() for i in chain[-1].input[1:]] == [1.0, 0]
    assert constants[chain[-1].input[2]].dtype == np.uint8
    if padded:
        assert constants["frame_pad_byte"].item() == 127
    assert "Cast" not in {n.op_type for n in model.graph.node}


def test_what_decoding_reads_stays_float(net: Net) -> None:
    model = net.int8()
    assert quantised(model) == {"stem", "wide", "deep", "back", "left", "right", "mix"}
    head = node(model, "head")
    assert list(head.input) == list(node(net.model, "head").input), "the head reads what it read before"
    assert producers(model)["scores"].input[0] == "heat"


def test_weights_are_signed_symmetric_and_per_channel(net: Net) -> None:
    model = net.int8()
    made, constants = producers(model), initializers(model)
    for name, channels in (("stem", 8), ("deep", 16), ("back", 8)):
        dequantise = made[node(model, name).input[1]]
        assert constants[dequantise.input[0]].dtype == np.int8
        assert constants[dequantise.input[1]].shape == (channels,)
        assert not constants[dequantise.input[2]].any()


def test_biases_are_in_units_of_input_and_weight_scale_for_cpu_engines(net: Net) -> None:
    model = net.int8()
    made, constants = producers(model), initializers(model)
    for name in ("stem", "wide"):
        layer = node(model, name)
        data, weight, bias = (made[i] for i in layer.input)
        np.testing.assert_allclose(
            constants[bias.input[1]], constants[data.input[1]] * constants[weight.input[1]], rtol=1e-6
        )
        real = constants[bias.input[0]] * constants[bias.input[1]]
        before = initializers(net.model)[node(net.model, name).input[2]]
        np.testing.assert_allclose(real, before, atol=float(constants[bias.input[1]].max()))


def test_tensorrt_gets_no_zero_point_no_quantised_bias_and_no_pair_before_the_addition(net: Net) -> None:
    model = net.int8("s8s8")
    constants, made = initializers(model), producers(model)
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs and all(not constants[n.input[2]].any() and constants[n.input[2]].dtype == np.int8 for n in pairs)
    assert all(constants[n.input[0]].dtype == np.int8 for n in pairs if n.input[0] in constants)
    assert quantised(model) == {"wide", "deep", "back", "left", "right", "mix"}, "the frame's own layer stays float"
    assert all(node(model, name).input[2] in constants for name in quantised(model))
    residual = [made[i].op_type for i in node(model, "add").input]
    assert sorted(residual) == ["Conv", "DequantizeLinear"], "one branch only"


def test_a_concatenation_has_one_scale(net: Net) -> None:
    for scheme in ("u8s8", "s8s8"):
        model = net.int8(scheme)  # type: ignore[arg-type]
        made, constants = producers(model), initializers(model)
        concat = node(model, "concat")
        scales = {constants[made[i].input[1]].item() for i in concat.input}
        (after,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "both"]
        assert scales == {constants[after.input[1]].item()}


def shuffled(weights: np.random.Generator) -> ModelProto:
    """Two convolutions, their channels shuffled and split as ShuffleNet does, one half convolved again."""

    def conv(name: str, data: str) -> onnx.NodeProto:
        return helper.make_node("Conv", [data, f"{name}_w"], [f"{name}_out"], name=name)

    nodes = [
        conv("a", "x"),
        conv("b", "x"),
        helper.make_node("Concat", ["a_out", "b_out"], ["both"], name="concat", axis=1),
        helper.make_node("Reshape", ["both", "to5"], ["r1"], name="reshape"),
        helper.make_node("Transpose", ["r1"], ["t1"], name="transpose", perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t1", "to4"], ["mixed"], name="back"),
        helper.make_node("Gather", ["mixed", "first"], ["half"], name="half", axis=1),
        conv("c", "half"),
    ]
    values = {
        "a_w": weights.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "b_w": weights.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "c_w": weights.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "to5": np.array([1, 2, 4, 6, 6]),
        "to4": np.array([1, 8, 6, 6]),
        "first": np.arange(4),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("c_out", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [onnx.numpy_helper.from_array(v, n) for n, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_a_chain_of_layout_operators_is_not_cut_and_copies_share_the_widest_range() -> None:
    model = shuffled(np.random.default_rng(0))
    limits = {"x": (-1.0, 1.0), "half": (-2.0, 1.0), "both": (-1.0, 3.0)}
    result = quantise(model, layers_of(model, ()), QuantisationPlan("u8s8", {"a", "b", "c"}, limits))
    cut = {n.input[0] for n in result.graph.node if n.op_type == "QuantizeLinear"}
    assert cut == {"x", "a_out", "b_out", "both", "mixed", "half"}
    constants = initializers(result)
    scales = {constants[f"{tensor}_scale"].item() for tensor in cut - {"x"}}
    assert scales == {np.float32(5.0 / 255).item()}


def test_layers_left_in_float_read_what_they_read_before(net: Net) -> None:
    model = net.int8(leave=("deep", "left"))
    assert quantised(model) == {"stem", "wide", "back", "right", "mix"}
    assert list(node(model, "deep").input) == ["x1", "deep_w", "deep_b"]
    assert node(model, "left").input[0] == "sum", "right's pair on the same tensor is not for it"
    assert node(model, "right").input[0] != "sum"


def test_no_layer_at_all_changes_nothing(net: Net) -> None:
    model = net.int8(leave=tuple(layer.name for layer in net.layers))
    assert [n.op_type for n in model.graph.node] == [n.op_type for n in net.model.graph.node]
    assert net.error(model) == 0.0


@pytest.mark.parametrize(("scheme", "engine"), [("u8s8", "onnxruntime"), ("u8s8", "openvino"), ("s8s8", "onnxruntime")])
def test_int8_stays_near_float(net: Net, engine: str, scheme: Scheme) -> None:
    if engine not in available_engines():
        pytest.skip(f"needs {engine}")
    assert 0 < net.error(net.int8(scheme), engine) < 0.05


def test_the_mean_error_of_rounded_weights_goes_into_the_bias(net: Net) -> None:
    """With weights that all round down every channel's mean shifts; the correction takes the shift back."""
    name = node(net.model, "wide").input[1]
    weight = initializers(net.model)[name].copy()
    step = np.abs(weight).max() / 127
    weight[:, :4] = 10.4 * step
    weight[:, 4] = 127 * step
    set_initializer(net.model, name, weight)
    save_model(net.model, net.path)
    others = tuple(layer.name for layer in net.layers if layer.name != "wide")

    def channel_means(model: ModelProto) -> np.ndarray:  # type: ignore[type-arg]
        save_model(model, net.folder / "watched.onnx")
        return observe(net.folder / "watched.onnx", ["wide_out"], frames(), net.folder)["wide_out"].means

    before = channel_means(net.model)
    plain, corrected = (channel_means(net.int8(leave=others, means=on)) for on in (False, True))
    assert np.abs(corrected - before).max() < 0.2 * np.abs(plain - before).max()


def test_a_border_that_no_byte_can_hold_keeps_the_cast(tmp_path: Path) -> None:
    model = fold_input(residual_net())[0]
    set_initializer(model, "frame_pad_value", np.array(-3.0, np.float32))
    save_model(model, tmp_path / "net.onnx")
    layers = layers_of(model, PROBES)
    seen = observe(tmp_path / "net.onnx", quantised_inputs(model, layers), frames(), tmp_path)
    result = quantise(model, layers, QuantisationPlan("u8s8", {"stem"}, ranges(seen, "minmax")))
    assert [n.op_type for n in result.graph.node][:5] == [
        "Cast", "Transpose", "Pad", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip


@pytest.mark.parametrize("transposed", [0, 1])
def test_matrix_products(tmp_path: Path, transposed: int) -> None:
    """A classifier's last layer, both ways that ONNX stores its weights."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 12) if transposed else (12, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "m", "b"], ["y"], name="gemm", transB=transposed),
        helper.make_node("MatMul", ["y", "n"], ["z"], name="matmul"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 12])],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 3])],
        [
            onnx.numpy_helper.from_array(matrix, "m"),
            onnx.numpy_helper.from_array(rng.normal(size=5).astype(np.float32), "b"),
            onnx.numpy_helper.from_array(rng.normal(size=(5, 3)).astype(np.float32), "n"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    layers: tuple[Layer, ...] = layers_of(model, ())
    assert [layer.macs for layer in layers] == [60, 15]
    limits = {"x": (-3.0, 3.0), "y": (-20.0, 20.0)}
    result = quantise(model, layers, QuantisationPlan("u8s8", {"gemm", "matmul"}, limits))
    made, constants = producers(result), initializers(result)
    assert constants[made[node(result, "gemm").input[1]].input[1]].shape == (5,)
    assert constants[made[node(result, "matmul").input[1]].input[1]].shape == (3,)
    x = rng.uniform(-2, 2, (1, 12)).astype(np.float32)
    before, after = (InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, result))
    np.testing.assert_allclose(after, before, atol=0.03 * float(np.abs(before).max()))


def of_tokens(nodes: list[NodeProto], width: int, held: Constants) -> ModelProto:
    """A graph of 10 tokens "x" of 16 values; it gives "last", of `width` values each."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 10, 16])],
        [helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, [1, 10, width])],
        [onnx.numpy_helper.from_array(v, n) for n, v in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_onnx_runtime_multiplies_a_stack_of_tokens_in_int8_where_a_bias_is_added(tmp_path: Path) -> None:
    """As in every transformer."""
    rng = np.random.default_rng(0)
    held = {"w": rng.normal(size=(16, 24)).astype(np.float32), "b": rng.normal(size=24).astype(np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["y"], name="square"),
        helper.make_node("MatMul", ["y", "w"], ["z"], name="matmul"),
        helper.make_node("Add", ["b", "z"], ["last"], name="add"),
    ]
    model = of_tokens(nodes, 24, held)
    result = quantise(model, layers_of(model, ()), QuantisationPlan("u8s8", {"matmul"}, {"y": (0.0, 4.0)}))
    save_model(result, tmp_path / "int8.onnx")
    assert prove_by_count(tmp_path / "int8.onnx", {"matmul"}).int8 == 1
    x = rng.uniform(-2, 2, (1, 10, 16)).astype(np.float32)
    before, after = (InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, result))
    np.testing.assert_allclose(after, before, atol=0.03 * float(np.abs(before).max()))


def test_a_mask_of_tokens_reads_what_was_there_before(tmp_path: Path) -> None:
    """As that of RT-DETR's and D-FINE's memory: OpenVINO could not load the graph of two decoder layers otherwise."""
    rng = np.random.default_rng(0)
    held = {name: rng.normal(size=(16, 24)).astype(np.float32) for name in ("u", "v", "w")}
    held["mask"] = np.arange(10, dtype=np.float32).reshape(1, 10, 1) % 3
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["y"], name="square"),
        helper.make_node("Mul", ["mask", "y"], ["masked"], name="masking"),
        helper.make_node("MatMul", ["masked", "u"], ["c"], name="float"),
        helper.make_node("MatMul", ["y", "v"], ["a"], name="first"),
        helper.make_node("MatMul", ["y", "w"], ["b"], name="second"),
        helper.make_node("Concat", ["a", "b", "c"], ["last"], name="concat", axis=2),
    ]
    model = of_tokens(nodes, 72, held)
    result = quantise(model, layers_of(model, ()), QuantisationPlan("u8s8", {"first", "second"}, {"y": (0.0, 4.0)}))
    assert list(node(result, "masking").input) == ["mask", "y"]
    save_model(result, tmp_path / "int8.onnx")
    for engine in available_engines():
        load_engine(engine, tmp_path / "int8.onnx", precision="int8").close()


def network(tmp_path: Path, nodes: list[NodeProto], constants: Constants) -> tuple[ModelProto, ModelProto]:
    """A network that ends in "last" and the head "heat", its input folded, and the same with all other layers INT8."""
    nodes = [*frame_nodes(), *nodes, conv("head", "last", "heat")]
    model = fold_input(graph_of(nodes, ["heat"], {**NORMAL, **weights("head", 2, 8, 3, 3), **constants}))[0]
    save_model(model, tmp_path / "float.onnx")
    model = load_model(tmp_path / "float.onnx")
    free = [layer for layer in layers_of(model, PROBES) if not layer.decides]
    seen = observe(tmp_path / "float.onnx", quantised_inputs(model, free), frames(), tmp_path)
    return model, quantise(model, free, QuantisationPlan("u8s8", {each.name for each in free}, ranges(seen, "minmax")))


def elementwise(op: str, inputs: list[str], output: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=output, **attributes)  # type: ignore[arg-type]


ACTIVATIONS: dict[str, tuple[list[NodeProto], Constants]] = {
    "SiLU": ([elementwise("Sigmoid", ["x"], "s"), elementwise("Mul", ["x", "s"], "y")], {}),
    "HardSwish": ([elementwise("HardSwish", ["x"], "y")], {}),
    "HardSwish in parts": (
        [
            elementwise("Add", ["x", "three"], "u"),
            elementwise("Clip", ["u", "none", "six"], "v"),
            elementwise("Mul", ["x", "v"], "w"),
            elementwise("Div", ["w", "six"], "y"),
        ],
        {k: np.array(v, np.float32) for k, v in {"none": 0, "three": 3, "six": 6}.items()},
    ),
    "HardSigmoid": ([elementwise("HardSigmoid", ["x"], "y", alpha=1 / 6)], {}),
    "GELU": (
        [
            elementwise("Div", ["x", "root"], "t"),
            elementwise("Erf", ["t"], "u"),
            elementwise("Add", ["u", "one"], "v"),
            elementwise("Mul", ["x", "v"], "w"),
            elementwise("Mul", ["w", "half"], "y"),
        ],
        {k: np.array(v, np.float32) for k, v in {"root": np.sqrt(2), "one": 1, "half": 0.5}.items()},
    ),
    "GELU by Tanh": (
        [
            elementwise("Pow", ["x", "cube"], "p"),
            elementwise("Mul", ["p", "small"], "q"),
            elementwise("Add", ["x", "q"], "r"),
            elementwise("Mul", ["r", "wide"], "t"),
            elementwise("Tanh", ["t"], "u"),
            elementwise("Add", ["u", "one"], "v"),
            elementwise("Mul", ["x", "v"], "w"),
            elementwise("Mul", ["w", "half"], "y"),
        ],
        {
            k: np.array(v, np.float32)
            for k, v in {"cube": 3, "small": 0.044715, "wide": np.sqrt(2 / np.pi), "one": 1, "half": 0.5}.items()
        },
    ),
    "Mish": (
        [
            elementwise("Softplus", ["x"], "s"),
            elementwise("Tanh", ["s"], "t"),
            elementwise("Mul", ["x", "t"], "y"),
        ],
        {},
    ),
    "LeakyReLU": ([elementwise("LeakyRelu", ["x"], "y", alpha=0.1)], {}),
    "LayerNorm of tokens": (
        [
            elementwise("Transpose", ["x"], "t", perm=[0, 2, 3, 1]),
            elementwise("LayerNormalization", ["t", "gain"], "n"),
            elementwise("Transpose", ["n"], "y", perm=[0, 3, 1, 2]),
        ],
        {"gain": np.ones(8, np.float32)},
    ),
}


def behind_a_convolution(tmp_path: Path, nodes: list[NodeProto], constants: Constants) -> dict[Scheme, ModelProto]:
    """A convolution of the frame, nodes that make "y" of its result "x", another convolution: INT8 in both schemes."""
    held = {**weights("a", 8, 3, 3, 3), **weights("b", 8, 8, 3, 3), **constants}
    model, everyones = network(tmp_path, [conv("a", "normal", "x"), *nodes, conv("b", "y", "last")], held)
    free = [layer for layer in layers_of(model, PROBES) if not layer.decides]
    seen = observe(tmp_path / "float.onnx", quantised_inputs(model, free), frames(), tmp_path)
    plan = QuantisationPlan("u8s8-ort", {each.name for each in free}, ranges(seen, "minmax"))
    return {"u8s8": everyones, "u8s8-ort": quantise(model, free, plan)}


def run_in_int8(tmp_path: Path, model: ModelProto) -> int:
    """How many of the two convolutions ONNX Runtime runs in INT8."""
    save_model(without_outputs(model, ()), tmp_path / "int8.onnx")
    return prove_by_count(tmp_path / "int8.onnx", {"a", "b"}).int8


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_runtime_runs_convolutions_before_such_activations_in_int8(tmp_path: Path, activation: str) -> None:
    """OpenVINO's graph has no pair between the two, and there ONNX Runtime runs the convolution in float."""
    models = behind_a_convolution(tmp_path, *ACTIVATIONS[activation])
    cut = {k: {n.input[0] for n in m.graph.node if n.op_type == "QuantizeLinear"} for k, m in models.items()}
    assert "x" not in cut["u8s8"] and cut["u8s8"] < cut["u8s8-ort"] and "x" in cut["u8s8-ort"]
    assert [run_in_int8(tmp_path, models[scheme]) for scheme in ("u8s8", "u8s8-ort")] == [0, 1]
    model = load_model(tmp_path / "float.onnx")
    assert difference(model, models["u8s8-ort"], "y").max() < 0.05


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_other_networks_have_one_graph_for_all(tmp_path: Path, activation: str) -> None:
    """And nothing more is watched on their calibration frames."""
    limits = {"Relu": [], "Clip": ["none", "six"]}[activation]
    held = {"none": np.array(0, np.float32), "six": np.array(6, np.float32)} if limits else {}
    models = behind_a_convolution(tmp_path, [elementwise(activation, ["x", *limits], "y")], held)
    assert models["u8s8"] == models["u8s8-ort"]
    model = load_model(tmp_path / "float.onnx")
    free = [layer for layer in layers_of(model, PROBES) if not layer.decides]
    assert open_results(model, free) == [] and quantised_inputs(model, free) == ["frame_padded", "y"]


def test_both_factors_of_a_product_are_quantised_for_onnx_runtime_alone(tmp_path: Path) -> None:
    models = behind_a_convolution(tmp_path, *ACTIVATIONS["SiLU"])
    sides = {k: [producers(m)[i].op_type for i in node(m, "y").input] for k, m in models.items()}
    assert sides == {"u8s8": ["Conv", "Sigmoid"], "u8s8-ort": ["DequantizeLinear"] * 2}


def test_a_layer_left_in_float_gets_no_pair_behind_it(tmp_path: Path) -> None:
    nodes, constants = ACTIVATIONS["HardSwish"]
    behind_a_convolution(tmp_path, nodes, constants)
    model = load_model(tmp_path / "float.onnx")
    free = [layer for layer in layers_of(model, PROBES) if not layer.decides]
    seen = observe(tmp_path / "float.onnx", quantised_inputs(model, free), frames(), tmp_path)
    result = quantise(model, free, QuantisationPlan("u8s8-ort", {"b"}, ranges(seen, "minmax")))
    assert {n.input[0] for n in result.graph.node if n.op_type == "QuantizeLinear"} == {"y"}


def difference(before: ModelProto, after: ModelProto, tensor: str = "heat") -> np.ndarray:  # type: ignore[type-arg]
    """(C,) the largest difference in each channel, as a share of the largest value."""
    a, b = (
        InferenceSession(with_outputs(m, [tensor]).SerializeToString()).run([tensor], {"frame": frames()[0]})[0]
        for m in (before, after)
    )
    return np.asarray(np.abs(b - a).max(axis=(0, 2, 3)) / np.abs(a).max())


@pytest.mark.parametrize("share", [0.0, 1e-7])
def test_a_channel_of_nothing_but_its_bias_keeps_it(tmp_path: Path, share: float) -> None:
    """In units of the scale of such weights its bias would not fit into INT32."""
    held = weights("a", 8, 3, 3, 3)
    held["a_w"][3] *= share
    held["a_b"][3] = 5
    nodes = [conv("a", "normal", "x"), conv("b", "x", "last")]
    before, after = network(tmp_path, nodes, {**held, **weights("b", 8, 8, 3, 3)})
    assert difference(before, after, "x")[3] < 1e-5
    assert difference(before, after).max() < 0.05


def test_two_convolutions_that_pad_the_frame_otherwise(tmp_path: Path) -> None:
    nodes = [conv("a", "normal", "x"), conv("c", "normal", "y", pad=2), helper.make_node("Add", ["x", "y"], ["last"])]
    nodes[-1].name = "add"
    before, after = network(tmp_path, nodes, {**weights("a", 8, 3, 3, 3), **weights("c", 8, 3, 5, 5)})
    assert quantised(after) == {"a", "c"} and "Cast" not in {n.op_type for n in after.graph.node}
    assert difference(before, after).max() < 0.05


def test_constants_of_the_network_that_are_called_like_those_of_a_pair(tmp_path: Path) -> None:
    nodes = [
        conv("a", "normal", "y"),
        helper.make_node("Mul", ["y", "x_scale"], ["x"], name="mul"),
        conv("b", "x", "last"),
    ]
    scale = np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1, 1)
    held = {**weights("a", 8, 3, 3, 3), **weights("b", 8, 8, 3, 3), "x_scale": scale}
    before, after = network(tmp_path, nodes, held)
    assert (initializers(after)["x_scale"] == scale).all()
    assert difference(before, after).max() < 0.05


@pytest.mark.parametrize("factor", ["alpha", "beta"])
def test_a_matrix_product_with_factors_keeps_its_bias(factor: str) -> None:
    """The mean error of its rounded weights is not what it adds to its result."""
    rng = np.random.default_rng(0)
    held = {"m": rng.normal(size=(12, 5)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)}
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "m", "b"], ["y"], name="gemm", **{factor: 0.25})],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 5])],
        [onnx.numpy_helper.from_array(v, n) for n, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    plan = QuantisationPlan("s8s8", {"gemm"}, {"x": (-3.0, 3.0)}, {"x": np.full(12, 2.0)})
    result = quantise(model, layers_of(model, ()), plan)
    assert (initializers(result)[node(result, "gemm").input[2]] == held["b"]).all()


def test_a_part_that_float_operators_read_is_not_cut_to_the_range_of_another(tmp_path: Path) -> None:
    held = {**weights("a", 16, 3, 3, 3), **weights("b", 8, 8, 3, 3), "halves": np.array([8, 8])}
    held["a_w"][8:] *= 20
    nodes = [
        conv("a", "normal", "x"),
        helper.make_node("Split", ["x", "halves"], ["small", "large"], name="split", axis=1),
        conv("b", "small", "y"),
        helper.make_node("Tanh", ["large"], ["z"], name="tanh"),
        helper.make_node("Mul", ["large", "z"], ["loud"], name="mul"),
        helper.make_node("Max", ["y", "loud"], ["last"], name="max"),
    ]
    before, after = network(tmp_path, nodes, held)
    assert quantised(after) == {"a", "b"}
    assert difference(before, after).max() < 0.05


def test_a_chain_of_additions_is_watched_as_a_whole() -> None:
    nodes = [
        *frame_nodes(),
        conv("a", "normal", "x0"),
        conv("b", "normal", "f"),
        conv("c", "normal", "g"),
        helper.make_node("Add", ["x0", "f"], ["x1"], name="first"),
        helper.make_node("Add", ["x1", "g"], ["x2"], name="second"),
        conv("head", "x2", "heat"),
    ]
    held = {**weights("a", 8, 3, 3, 3), **weights("b", 8, 3, 3, 3), **weights("c", 8, 3, 3, 3)}
    model = graph_of(nodes, ["heat"], {**NORMAL, **held, **weights("head", 2, 8, 3, 3)})
    layers = [layer for layer in layers_of(model, PROBES) if layer.name == "head"]
    assert set(quantised_inputs(model, layers)) == {"x0", "x1", "x2", "f", "g"}


def test_both_sides_of_an_addition_before_a_relu_are_quantised_for_cpu_engines(tmp_path: Path) -> None:
    """As in every ResNet: ONNX Runtime adds in INT8, and runs the convolution before it in INT8, only then."""
    nodes = [
        conv("a", "normal", "x"),
        conv("b", "x", "f"),
        helper.make_node("Add", ["x", "f"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
        conv("c", "y", "last"),
    ]
    held = {**weights("a", 8, 3, 3, 3), **weights("b", 8, 8, 3, 3), **weights("c", 8, 8, 3, 3)}
    before, after = network(tmp_path, nodes, held)
    made = producers(after)
    assert [made[i].op_type for i in node(after, "add").input] == ["DequantizeLinear"] * 2
    assert difference(before, after).max() < 0.05


def test_a_grouped_transposed_convolution_without_bias(tmp_path: Path) -> None:
    """As networks spread maps that are to stay what they are, channel by channel."""
    up = helper.make_node("ConvTranspose", ["x", "up_w"], ["y"], name="up", strides=[2, 2], group=8)
    nodes = [conv("a", "normal", "x"), up, conv("b", "y", "last")]
    held = {**weights("a", 8, 3, 3, 3), **weights("b", 8, 8, 3, 3), "up_w": weights("up", 8, 1, 2, 2)["up_w"]}
    before, after = network(tmp_path, nodes, held)
    assert "up/weight_dq" in node(after, "up").input
    assert difference(before, after).max() < 0.05


def test_symmetric_scales_are_halves_and_clip_no_weight(net: Net) -> None:
    """A graph whose rest becomes FP16 keeps them; a scale of zero is one that TensorRT refuses."""
    constants = initializers(net.model)
    name = net.layers[1].weight
    weight = np.array(constants[name], np.float32)
    weight[0] *= 1e-9
    model = onnx.ModelProto.FromString(net.model.SerializeToString())
    set_initializer(model, name, weight)
    layers = layers_of(model, PROBES)
    plan = QuantisationPlan("s8s8", frozenset(x.name for x in layers if not x.decides), ranges(net.seen, "minmax"))
    found = initializers(quantise(model, layers, plan))
    scales = {k: v for k, v in found.items() if k.endswith("_scale")}
    assert len(scales) > 4
    for key, scale in scales.items():
        half = np.asarray(scale).astype(np.float16)
        np.testing.assert_array_equal(half.astype(np.float32), scale, err_msg=key)
        assert (half > 0).all(), key
    for layer in layers:
        if f"{layer.name}/weight_scale" in scales:
            given = np.asarray(initializers(model)[layer.weight])
            steps, scale = found[f"{layer.name}/weight_int8"], scales[f"{layer.name}/weight_scale"]
            shape = (-1, *[1] * (given.ndim - 1))
            error = np.abs(np.asarray(steps) * np.reshape(scale, shape) - given)
            assert (error <= np.reshape(scale, shape) * 0.5001).all(), layer.name
