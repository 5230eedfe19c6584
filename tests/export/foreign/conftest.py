"""Running a decoder's nodes alone, and a small network as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgetl_export.foreign.compose import contract_of
from edgetl_export.foreign.decoders import Decoder, Output
from edgetl_export.foreign.nodes import Nodes
from edgetl_export.graph import save_model, typed_anew
from edgetl_export.passes.late_bytes import late_bytes
from edgetl_export.tensorrt.check import HostCheck, check_onnx

Arrays = Sequence[NDArray[np.float32]]
Found = Mapping[str, NDArray[np.generic]]
Decode = Callable[[Decoder, Arrays, tuple[int, int]], Found]


def run_graph(g: Nodes, feeds: Found, outputs: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """What the nodes make of these inputs, on ONNX Runtime."""
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(g.nodes, "decoder", inputs, infos, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(list(outputs), dict(feeds)), strict=True))


RunGraph = Callable[[Nodes, Found, Sequence[str]], Found]


@pytest.fixture
def nodes_on_onnxruntime() -> RunGraph:
    return run_graph


@pytest.fixture
def decode() -> Decode:
    """A decoder's outputs for these raw outputs, by its nodes; their shapes and types are the contract's."""

    def run(decoder: Decoder, arrays: Arrays, size_hw: tuple[int, int]) -> Found:
        outputs = [Output(f"raw_{i}", a.shape) for i, a in enumerate(arrays)]
        heads = decoder.heads(outputs, size_hw)
        g = Nodes("decode")
        decoder.nodes(g, outputs, size_hw)
        names = [n for h in heads for n in h.outputs]
        found = run_graph(g, {o.name: a for o, a in zip(outputs, arrays, strict=True)}, names)
        for info in (i for h in heads for i in contract_of(h, size_hw)):
            kind = info.type.tensor_type
            assert found[info.name].shape == tuple(d.dim_value for d in kind.shape.dim)
            assert found[info.name].dtype == helper.tensor_dtype_to_np_dtype(kind.elem_type)
        return found

    return run


@pytest.fixture
def compiled_by_tensorrt(tmp_path: Path) -> Callable[[Decoder, Arrays, tuple[int, int]], HostCheck]:
    """What the host's compiler says of a decoder as it ships for TensorRT."""
    pytest.importorskip("tensorrt_rtx_bindings")

    def check(decoder: Decoder, arrays: Arrays, size_hw: tuple[int, int]) -> HostCheck:
        raw = [Output(f"raw_{i}", a.shape) for i, a in enumerate(arrays)]
        g = Nodes("decode")
        decoder.nodes(g, raw, size_hw)
        inputs = [helper.make_tensor_value_info(o.name, TensorProto.FLOAT, o.shape) for o in raw]
        infos = [info for head in decoder.heads(raw, size_hw) for info in contract_of(head, size_hw)]
        graph = helper.make_graph(g.nodes, "decoder", inputs, infos, g.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        save_model(late_bytes(typed_anew(model)), tmp_path / "decoder.onnx")
        return check_onnx(tmp_path / "decoder.onnx", target="orin-nano")

    return check


WriteNetwork = Callable[..., Path]


@pytest.fixture
def write_network(tmp_path: Path) -> WriteNetwork:
    """A file with a convolution of stride 8 to `channels` maps, then what `tail` makes of "maps".

    tail: nodes, or none for the maps themselves. outputs: by name, with their type. shape: of the input.
    """

    def write(
        *,
        channels: int = 6,
        shape: Sequence[int | str] = (1, 3, 64, 96),
        tail: Sequence[object] = (),
        outputs: Sequence[str] = ("maps",),
        constants: Mapping[str, NDArray[np.generic]] | None = None,
        input_name: str = "images",
        input_type: int = TensorProto.FLOAT,
        opset: int = 18,
        nhwc: bool = False,
        weights_as_inputs: bool = False,
        seed: int = 0,
        name: str = "network.onnx",
    ) -> Path:
        rng = np.random.default_rng(seed)
        values = {
            "weight": rng.normal(0, 0.05, (channels, 3, 8, 8)).astype(np.float32),
            "bias": rng.normal(size=channels).astype(np.float32),
            **(constants or {}),
        }
        nodes, x = [], input_name
        if input_type != TensorProto.FLOAT:
            nodes.append(helper.make_node("Cast", [x], ["as_float"], to=TensorProto.FLOAT))
            x = "as_float"
        if nhwc:
            nodes.append(helper.make_node("Transpose", [x], ["as_planes"], perm=[0, 3, 1, 2]))
            x = "as_planes"
        nodes.append(helper.make_node("Conv", [x, "weight", "bias"], ["maps"], strides=[8, 8], name="conv"))
        inputs = [helper.make_tensor_value_info(input_name, input_type, list(shape))]
        if weights_as_inputs:
            inputs += [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for n, v in values.items()
            ]
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        initializers = [numpy_helper.from_array(v, n) for n, v in values.items()]
        graph = helper.make_graph([*nodes, *tail], "network", inputs, infos, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        save_model(shape_inference.infer_shapes(model), tmp_path / name)
        return tmp_path / name

    return write
