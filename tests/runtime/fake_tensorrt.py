"""TensorRT as a small module: it "builds" by keeping the ONNX file, and runs it with ONNX Runtime.

It behaves as NVIDIA documents TensorRT: None and a logged error where a call fails, plans that only the version that
wrote them reads, a progress monitor that may cancel, INT8 only where layers say so. The environment variable
FAKE_TENSORRT (JSON) makes it misbehave, also in a worker process; the keys are the fields of `Behaviour`.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Behaviour:
    """datatype: what every convolution says it runs in. offset: added to the first output. error: the build's."""

    version: str = "10.3.0"
    strongly_typed: bool = True
    steps: int = 4
    step_s: float = 0.0
    begun: str = ""
    error: str = ""
    crash: str = ""
    datatype: str = "Row major linear FP32"
    offset: float = 0.0
    run_crash: str = ""
    inspector: bool = True


def behaviour() -> Behaviour:
    """How it behaves now."""
    return Behaviour(**json.loads(os.environ.get("FAKE_TENSORRT", "{}")))


def __getattr__(name: str) -> str:
    if name == "__version__":
        return behaviour().version
    raise AttributeError(name)


__name__ = "tensorrt"


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """Values as in TensorRT 10."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


ProfilingVerbosity = enum.Enum("ProfilingVerbosity", "LAYER_NAMES_ONLY DETAILED")
MemoryPoolType = enum.Enum("MemoryPoolType", "WORKSPACE")
LayerInformationFormat = enum.Enum("LayerInformationFormat", "ONELINE JSON")
TensorIOMode = enum.Enum("TensorIOMode", "NONE INPUT OUTPUT")
Severity = enum.Enum("Severity", "ERROR WARNING INFO")
DataType = enum.Enum("DataType", "FLOAT HALF INT8 INT32 INT64 UINT8")
_TYPES = {
    "tensor(float)": DataType.FLOAT,
    "tensor(uint8)": DataType.UINT8,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.HALF,
}
_NUMPY = {DataType.FLOAT: np.float32, DataType.UINT8: np.uint8, DataType.INT64: np.int64}


class ILogger:
    """To be derived from."""


class IProgressMonitor:
    """To be derived from."""


class TimingCache:
    """Bytes that grow with each build; a cache that starts with b"foreign" is another GPU's."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def serialize(self) -> bytes:
        """The bytes."""
        return self.blob


class BuilderConfig:
    """What the builder is told."""

    profiling_verbosity: Any = None
    progress_monitor: Any = None
    workspace_bytes = 0
    cache: TimingCache | None = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        """Keep the workspace's size."""
        self.workspace_bytes = size

    def create_timing_cache(self, blob: bytes) -> TimingCache:
        """A cache with this content."""
        return TimingCache(blob)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        """Take it, unless it is another GPU's."""
        if cache.blob.startswith(b"foreign") and not ignore_mismatch:
            return False
        self.cache = cache
        return True


class Network:
    """An ONNX file, once it is parsed."""

    onnx_path = ""
    num_outputs = 0

    def __init__(self, flags: int) -> None:
        self.flags = flags

    def get_flag(self, flag: NetworkDefinitionCreationFlag) -> bool:
        """Whether the flag was given, and the library takes it."""
        return bool(self.flags & (1 << int(flag))) and behaviour().strongly_typed


class OnnxParser:
    """Takes everything."""

    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        """Keep the path."""
        self.network.onnx_path, self.network.num_outputs = path, 1
        return True


class Builder:
    """Keeps the ONNX file as the plan."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int = 0) -> Network:
        """An empty network."""
        return Network(flags)

    def create_builder_config(self) -> BuilderConfig:
        """An empty configuration."""
        return BuilderConfig()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        """The plan, or None with a logged error, or after a cancel."""
        how, monitor = behaviour(), config.progress_monitor
        monitor.phase_start("Building engine", None, how.steps)
        for step in range(how.steps):
            time.sleep(how.step_s)
            if config.cache is not None:
                config.cache.blob += b"t"
            if how.begun:
                Path(how.begun).touch()
            if not monitor.step_complete("Building engine", step):
                self.logger.log(Severity.ERROR, "Error Code 7: BuildCanceled (the monitor said so)")
                return None
        if how.crash:
            os.kill(os.getpid(), int(how.crash))
        if how.error:
            self.logger.log(Severity.ERROR, how.error)
            return None
        monitor.phase_finish("Building engine")
        return f"fake plan of {how.version}\n".encode() + Path(network.onnx_path).read_bytes()


class Runtime:
    """Reads plans of its own version."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        """The engine, or None with a logged error."""
        head, _, model = plan.partition(b"\n")
        if head != f"fake plan of {behaviour().version}".encode():
            self.logger.log(Severity.ERROR, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (magicTag)")
            return None
        return Engine(model)


class Engine:
    """An ONNX Runtime session that is asked as TensorRT is."""

    def __init__(self, model: bytes) -> None:
        import onnx
        import onnxruntime

        self.model = onnx.load_from_string(model)
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.tensors = {t.name: t for t in (*self.session.get_inputs(), *self.session.get_outputs())}

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        """By index."""
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        """By name."""
        return _TYPES[self.tensors[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """-1 where it is dynamic."""
        return tuple(n if isinstance(n, int) else -1 for n in self.tensors[name].shape)

    def get_tensor_mode(self, name: str) -> Any:
        """Input or output."""
        return TensorIOMode.INPUT if name in [t.name for t in self.session.get_inputs()] else TensorIOMode.OUTPUT

    def create_execution_context(self) -> ExecutionContext | None:
        """One, or None where the GPU's memory is full."""
        return None if behaviour().error == "no context" else ExecutionContext(self)

    def create_engine_inspector(self) -> Inspector:
        """One."""
        return Inspector(self)


class ExecutionContext:
    """Runs the session between the addresses that it was given."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Keep it; False for an unknown name."""
        self.addresses[name] = address
        return name in self.engine.tensors

    def execute_async_v3(self, stream: int) -> bool:
        """Run at once; False where an address is missing."""
        if set(self.addresses) != set(self.engine.tensors) or not stream:
            return False
        how, session = behaviour(), self.engine.session
        if how.run_crash:
            os.kill(os.getpid(), int(how.run_crash))
        inputs = {t.name: self._array(t.name) for t in session.get_inputs()}
        for index, (tensor, value) in enumerate(zip(session.get_outputs(), session.run(None, inputs), strict=True)):
            self._array(tensor.name)[...] = value + how.offset if how.offset and not index else value
        return True

    def _array(self, name: str) -> Any:
        dtype, shape = np.dtype(_NUMPY[self.engine.get_tensor_dtype(name)]), self.engine.get_tensor_shape(name)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = memoryview((ctypes.c_byte * size).from_address(self.addresses[name]))
        return np.frombuffer(memory, dtype).reshape(shape)


class Inspector:
    """Says a layer for every convolution."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, kind: Any) -> str:
        """JSON in the form of TensorRT 10."""
        if not behaviour().inspector:
            return '{"Layers": [NAN'
        tensor = {"Name": "t", "Location": "Device", "Dimensions": [1], "Format/Datatype": behaviour().datatype}
        layers = [
            {
                "Name": node.name,
                "LayerType": "CaskConvolution",
                "Inputs": [tensor],
                "Outputs": [tensor],
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for node in self.engine.model.graph.node
            if node.op_type == "Conv"
        ]
        return json.dumps({"Layers": layers, "Bindings": list(self.engine.tensors)})
