"""TensorRT on the device: a plan that `edgetl build` made there, run on one CUDA stream."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl_runtime.cuda import Cuda
from edgetl_runtime.engines._tensors import check_inputs, tensor_spec
from edgetl_runtime.errors import EngineError
from edgetl_runtime.once import once
from edgetl_runtime.spec import EngineName
from edgetl_runtime.tensorrt import diagnostics
from edgetl_runtime.tensorrt.compiler import make_logger
from edgetl_runtime.tensorrt.device import (
    RUNS_WITH,
    default_engine_dir,
    fingerprint,
    import_library,
    probe_device,
)
from edgetl_runtime.tensorrt.store import EngineStore, usable_engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.spec import Precision, TensorSpec, Variant
    from edgetl_runtime.tensorrt.device import Device

REBUILD = "build it again: edgetl build BUNDLE --force"
_DTYPES = {"FLOAT": "float32", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"}


class TensorRTEngine:
    """A deserialised plan with its buffers, all allocated once: page-locked on the host, and on the GPU.

    Outputs are views of the page-locked buffers. `module`: the TensorRT to use. `cuda`: given by tests.
    """

    def __init__(self, plan: Path, *, precision: Precision, module: str, cuda: Cuda | None = None) -> None:
        self.name: EngineName = "tensorrt"
        self.precision: Precision = precision
        self._plan = plan
        self._trt = import_library(module)
        self._cuda = cuda or Cuda()
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._host: dict[str, NDArray[np.generic]] = {}
        self._results: dict[str, NDArray[np.generic]] = {}
        self._copies: dict[str, tuple[int, int, int]] = {}
        try:
            self._load()
            self.inputs, self.outputs = self._tensors()
            for tensor in (*self.inputs, *self.outputs):
                self._allocate(tensor)
        except BaseException:
            self.close()
            raise
        self._results = {t.name: self._host[t.name] for t in self.outputs}

    def infer(self, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run once: copy in, execute, copy out, wait. The returned views are valid until the next infer or close."""
        if self._context is None:
            raise EngineError(f"tensorrt: {self._plan} is closed")
        check_inputs(self.inputs, inputs, engine="tensorrt")
        self._cuda.make_current()
        for tensor in self.inputs:
            np.copyto(self._host[tensor.name], inputs[tensor.name])
            host, device, size = self._copies[tensor.name]
            self._cuda.copy_in(device, host, size)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise EngineError(f"tensorrt failed to run {self._plan}: {self._said()}")
        for tensor in self.outputs:
            self._cuda.copy_out(*self._copies[tensor.name])
        self._cuda.wait()
        return self._results

    def layer_information(self) -> str:
        """The engine inspector's JSON on every layer."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free the engine, then its buffers and the CUDA context."""
        self._context = None  # TensorRT wants its objects freed in this order
        self._engine = None
        self._runtime = None
        self._host, self._results = {}, {}
        self._cuda.close()

    def _load(self) -> None:
        log = _logger(self._trt)
        log.errors.clear()
        try:
            plan = self._plan.read_bytes()
        except OSError as failure:
            raise EngineError(f"can't read {self._plan}: {failure.strerror}", remedy="edgetl build BUNDLE") from failure
        self._runtime = self._trt.Runtime(log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"tensorrt can't load {self._plan}: {self._said()}", remedy=REBUILD)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"tensorrt can't make an execution context for {self._plan}: {self._said()}",
                remedy="close other programs that use the GPU",
            )

    def _tensors(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        inputs: list[TensorSpec] = []
        outputs: list[TensorSpec] = []
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = str(self._engine.get_tensor_dtype(name)).rsplit(".", maxsplit=1)[-1]
            shape = [int(n) for n in self._engine.get_tensor_shape(name)]
            spec = tensor_spec(name, _DTYPES.get(dtype, dtype), shape, model=str(self._plan))
            is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(spec)
        return tuple(inputs), tuple(outputs)

    def _allocate(self, tensor: TensorSpec) -> None:
        dtype = np.dtype(tensor.dtype)
        size = int(np.prod(tensor.shape)) * dtype.itemsize
        host, device = self._cuda.pinned_buffer(size), self._cuda.device_buffer(size)
        memory = memoryview((ctypes.c_byte * size).from_address(host))
        self._host[tensor.name] = np.frombuffer(memory, dtype).reshape(tensor.shape)
        self._copies[tensor.name] = (host, device, size)
        if not self._context.set_tensor_address(tensor.name, device):
            raise EngineError(f"tensorrt does not take a buffer for {tensor.name!r}: {self._said()}", remedy=REBUILD)

    def _said(self) -> str:
        """The first thing that TensorRT logged as an error since the last question, without its positions."""
        log = _logger(self._trt)
        text = diagnostics.essence("\n".join(log.errors))
        log.errors.clear()
        return text or "it gives no reason"


@once
def _logger(trt: Any) -> Any:
    """One logger for the whole process, never freed: TensorRT keeps the first one it gets."""
    return make_logger(trt, lambda event: None)


def built_variant(bundle: Bundle, engine_dir: Path | None = None) -> str | None:
    """The variant that was measured fastest on this device, else the first for TensorRT; None without any."""
    names = [v.name for v in bundle.manifest.variants if "tensorrt" in v.engines]
    fastest = EngineStore(engine_dir or default_engine_dir(bundle.path)).fastest()
    if fastest is not None and fastest.variant in names:
        return fastest.variant
    return names[0] if names else None


def load_built(
    bundle: Bundle, variant: Variant, *, engine_dir: Path | None = None, device: Device | None = None
) -> TensorRTEngine:
    """The engine that `edgetl build` made of a variant. Raises EngineError where it is missing, stale or broken."""
    here = device or probe_device()
    store = EngineStore(engine_dir or default_engine_dir(bundle.path))
    now = fingerprint(here, onnx_sha256=bundle.manifest.files[variant.file].sha256, workspace_mb=0)
    record = usable_engine(store, variant.name, now, RUNS_WITH)
    return TensorRTEngine(store.plan(variant.name), precision=record.precision, module=here.module)
