"""OpenVINO on the CPU, reading the ONNX file itself."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl_runtime.engines._tensors import check_inputs, tensor_spec
from edgetl_runtime.errors import EngineError, UnfitProcessor
from edgetl_runtime.files import cache_directory, private_directory
from edgetl_runtime.imports import openvino as _openvino
from edgetl_runtime.once import once
from edgetl_runtime.spec import EngineName, Precision

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from edgetl_runtime.spec import TensorSpec

DEVICE = "CPU"
KEEP_FP32 = "edgetl.keep_fp32"
"""Metadata of an ONNX file: the tensors whose nodes stay in float32 where the network runs in bf16, as `list_of_names`
writes them. Tensors, because OpenVINO calls nodes by other names than ONNX does."""
MOST_KEPT = 16
"""Compiled networks in the cache; some 5 MB each."""
# What the layers that the model does not quantise run in; OpenVINO left alone would pick bf16 in silence.
_HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "int8-bf16": "bf16"}
_NEEDS = {"fp32": ("FP32",), "bf16": ("BF16",), "int8": ("INT8",), "int8-bf16": ("INT8", "BF16")}
_HEAVY = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
_PRODUCTS = frozenset(
    {"Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul"}
)
_FUSED = frozenset({"Add", "Multiply", "Relu", "PRelu", "Clamp", "Swish", "Sigmoid", "HSwish", "Gelu"})
_SUFFIXES = ("/DequantizationMultiply", "/WithoutBiases")
"""What OpenVINO adds to a node's name while it rewrites the graph, the last first."""
_PORT = '<port id="{}" precision="FP32"><dim>1</dim></port>'
_MARKED = (
    '<net name="mark" version="11"><layers>'
    '<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1" element_type="f32"/>'
    f"<output>{_PORT.format(0)}</output></layer>"
    '<layer id="1" name="r" type="ReLU" version="opset1"><rt_info><attribute name="precise" version="0"/></rt_info>'
    f"<input>{_PORT.format(0)}</input><output>{_PORT.format(1)}</output></layer>"
    f'<layer id="2" name="y" type="Result" version="opset1"><input>{_PORT.format(0)}</input></layer></layers>'
    '<edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>'
    '<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>'
)
_PRECISIONS: dict[str, Precision] = {"u8": "int8", "i8": "int8", "bf16": "bf16", "f16": "fp16", "f32": "fp32"}


class OpenVinoEngine:
    """A compiled model with the LATENCY hint and one infer request that is reused.

    Device and precision are read back from the compiled model and compared with what was asked for. keep: what was
    compiled is kept in the user's cache, so that the next start need not compile it again. streams: how many infer
    requests may run at the same time, see `another`; they share the threads.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        precision: Precision,
        threads: int = 0,
        keep: bool = False,
        streams: int = 1,
    ) -> None:
        self.name: EngineName = "openvino"
        self.precision: Precision = precision
        self._model = str(model_path)
        if not Path(model_path).is_file():
            raise EngineError(f"no model at {model_path}")
        self._ov = _openvino()
        core = _core(self._ov)
        _check_capability(core, precision)
        config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINT[precision]}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if streams > 1:
            config["NUM_STREAMS"] = str(streams)
        folder = private_directory(cache_directory() / "openvino") if keep else None
        if folder is not None:
            config["CACHE_DIR"] = str(folder)
        try:
            graph = core.read_model(self._model)
            if _HINT[precision] == "bf16":
                _keep_fp32(core, graph)
            compiled = core.compile_model(graph, DEVICE, config)
        except EngineError as error:
            raise EngineError(f"{self._model}: {error.message}", remedy=error.remedy) from error
        except Exception as error:
            raise EngineError(f"openvino can't load {self._model}: {last_line(error)}") from error
        _check_compiled(self._ov, compiled, precision)
        if folder is not None:
            _forget_oldest(folder)
        self._request: Any = compiled.create_infer_request()
        self.inputs = _specs(graph.inputs, compiled.inputs, self._model)
        self.outputs = _specs(graph.outputs, compiled.outputs, self._model)
        self._bound: dict[str, NDArray[np.generic]] = {}

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run once. Inputs are shared, not copied; the returned views are valid until the next infer."""
        if self._request is None:
            raise EngineError(f"openvino: {self._model} is closed")
        for index, tensor in enumerate(self.inputs):
            array = inputs.get(tensor.name)
            if array is None or array is not self._bound.get(tensor.name):
                check_inputs(self.inputs, inputs, engine="openvino")
                self._bind(index, tensor.name, inputs[tensor.name])
        try:
            self._request.infer()
        except Exception as error:
            raise EngineError(f"openvino failed to run {self._model}: {error}") from error
        return {t.name: self._request.get_output_tensor(i).data for i, t in enumerate(self.outputs)}

    def _bind(self, index: int, name: str, array: NDArray[np.generic]) -> None:
        """Point the request at the caller's array; kept, so that the same buffer is bound only once."""
        self._request.set_input_tensor(index, self._ov.Tensor(array, shared_memory=True))
        self._bound[name] = array

    def layer_precisions(self) -> dict[str, Precision]:
        """What each convolution and matrix product runs in, by the names of the ONNX nodes that are fused in it; a node
        that makes an output of the graph is called like that output.
        """
        found: dict[str, Precision] = {}
        for op in self._request.get_compiled_model().get_runtime_model().get_ops():
            said = op.get_rt_info()
            kind, precision, names = (
                _text(said, key) for key in ("layerType", "runtimePrecision", "originalLayersNames")
            )
            if kind in _HEAVY and precision in _PRECISIONS:
                found.update((_as_read(name), _PRECISIONS[precision]) for name in names.split(","))
        return found

    def another(self) -> OpenVinoEngine:
        """The same compiled model with an infer request of its own, for another thread."""
        twin = copy.copy(self)
        twin._request, twin._bound = self._request.get_compiled_model().create_infer_request(), {}
        return twin

    def close(self) -> None:
        """Free the infer request, and with the last one the compiled model."""
        self._request = None
        self._bound = {}


def _as_read(name: str) -> str:
    """A node's name as it was before OpenVINO rewrote the graph."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def list_of_names(names: Iterable[str]) -> str:
    """Names as metadata holds them."""
    return json.dumps(list(names))


def _keep_fp32(core: Any, graph: Any) -> None:
    """Mark what makes the tensors that the graph names. Raises EngineError for one that OpenVINO does not find."""
    path = ["framework", KEEP_FP32]
    if not graph.has_rt_info(path):
        return
    names = set(json.loads(graph.get_rt_info(path).astype(str)))
    key, mark = _mark(core)
    missing = set(names)
    for op in graph.get_ops():
        made = {name for port in op.outputs() for name in port.get_names()} & names
        missing -= made
        for each in (*_product_before(op), op, *_fused_after(op)) if made else ():
            each.set_rt_info(mark, key)
    if missing:
        raise EngineError(
            f"openvino finds no tensor {sorted(missing)[0]!r}, which is to stay in float32",
            remedy="choose another variant with --variant",
        )


def _product_before(op: Any) -> list[Any]:
    """The product that a bias is added to."""
    before = [op.input_value(i).get_node() for i in range(op.get_input_size())] if op.get_type_name() == "Add" else []
    return [each for each in before if each.get_type_name() in _PRODUCTS]


def _fused_after(op: Any) -> list[Any]:
    """Activations and sums that OpenVINO may fuse into the product. A sum that is computed in place needs both of its
    terms in one precision: OpenVINO 2026.4 does not compile a float32 product with a bf16 sum.
    """
    found = []
    while op.get_output_size() == 1 and len(readers := op.output(0).get_target_inputs()) == 1:
        op = next(iter(readers)).get_node()
        if op.get_type_name() not in _FUSED:
            break
        found.append(op)
    return found


def _mark(core: Any) -> tuple[str, Any]:
    """Under which key a node says that its precision stays, and what it says; OpenVINO only makes it from its own XML.

    Source: the attribute `precise` of OpenVINO's IR, written by ov::disable_fp16_compression.
    """
    model = core.read_model(_MARKED.encode(), b"")
    op = next(op for op in model.get_ops() if op.get_type_name() == "Relu")
    found: list[tuple[str, Any]] = list(op.get_rt_info().items())
    if not found:
        raise EngineError(
            "this openvino can't keep single layers in float32", remedy="choose another variant with --variant"
        )
    return found[0]


def _forget_oldest(folder: Path) -> None:
    """Leave the newest of what was kept; other processes may do the same at once."""
    with suppress(OSError):
        kept = sorted(((p.stat().st_mtime_ns, p) for p in folder.glob("*.blob")), reverse=True)
        for _, path in kept[MOST_KEPT:]:
            path.unlink()


@once
def _core(ov: Any) -> Any:
    """One Core for the whole process, never freed.

    Its CPU plugin sets the thread's signal stack and puts the former one back when it goes; with several
    Cores freed in the order of their making that one is freed memory, and the next Ctrl-C is a crash.
    """
    return ov.Core()


def _check_capability(core: Any, precision: Precision) -> None:
    if precision not in _NEEDS:
        raise EngineError(f"openvino on a CPU does not run {precision}", remedy=f"it runs {', '.join(_NEEDS)}")
    found = list(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    if not set(_NEEDS[precision]) <= set(found):
        raise UnfitProcessor(
            f"this CPU does not run {precision} in openvino (it offers {', '.join(found)})",
            remedy="choose another variant with --variant",
        )


def runs(precision: Precision) -> bool:
    """Whether OpenVINO says that this processor runs the precision. Raises MissingPackage without the package."""
    try:
        _check_capability(_core(_openvino()), precision)
    except EngineError:
        return False
    return True


def _text(said: Any, key: str) -> str:
    return str(said[key].astype(str)) if key in said else ""


def last_line(error: Exception) -> str:
    """What OpenVINO says was the matter: it comes last, after where in its sources each level of it was caught."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _check_compiled(ov: Any, compiled: Any, precision: Precision) -> None:
    devices = list(compiled.get_property("EXECUTION_DEVICES"))
    if devices != [DEVICE]:
        raise EngineError(f"openvino was asked for {DEVICE}, it runs on {', '.join(devices)}")
    found = compiled.get_property("INFERENCE_PRECISION_HINT")
    wanted = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[_HINT[precision]]
    if found != wanted:
        raise UnfitProcessor(
            f"openvino was asked for {_HINT[precision]}, it compiled for {found.get_type_name()}",
            remedy="choose another variant with --variant",
        )


def _specs(named: Any, ports: Any, model: str) -> tuple[TensorSpec, ...]:
    """Specs by the names of the graph as it was read: what is compiled may call a fused tensor by another's name."""
    return tuple(_spec(port, name.any_name, model) for name, port in zip(named, ports, strict=True))


def _spec(port: Any, name: str, model: str) -> TensorSpec:
    names = {"f32": "float32", "u8": "uint8", "i64": "int64", "i32": "int32"}
    dtype = port.element_type.get_type_name()
    shape = list(port.shape) if port.partial_shape.is_static else [str(port.partial_shape)]
    return tensor_spec(name, names.get(dtype, dtype), shape, model=model)
