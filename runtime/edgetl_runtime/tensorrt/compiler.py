"""One parse and one build with whichever TensorRT is here; it is made for a process of its own.

It is written to the names that TensorRT 10.3 to 11.4 and TensorRT for RTX share; what only one of them has is
asked for by name first. Networks are strongly typed: the precision is the ONNX file's.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edgetl_runtime.errors import MissingPackage
from edgetl_runtime.tensorrt import diagnostics, plan
from edgetl_runtime.tensorrt.protocol import Event, Finding, Job, Kind, Log, Progress, Result, encode

Emit = Callable[[Event], None]
PROGRESS_INTERVAL_S = 0.1
LOG_CHARS = 400


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the ONNX file: its operator, its name, and the module of the network that it comes from."""

    op: str
    name: str
    module: str


class Nodes(Protocol):
    """Look-ups in the ONNX file, for messages that name one of its nodes."""

    @property
    def count(self) -> int:
        """How many nodes there are."""

    def find(self, name: str, index: int, op: str) -> Node | None:
        """The node that a parser error names."""

    def named_in(self, text: str) -> Node | None:
        """The node whose name stands in a free text."""


def serve(run: Callable[[Job, Emit], Result]) -> int:
    """Read one job from stdin, write events to stdout, the result last."""
    out = _claim_stdout()

    def emit(event: Event) -> None:
        out.write(encode(event))

    emit(run(msgspec.json.decode(sys.stdin.buffer.read(), type=Job), emit))
    return 0


def compile_job(job: Job, nodes: Nodes, emit: Emit) -> Result:
    """Parse and build with the first library of `job.modules` that is here."""
    start = time.monotonic()
    trt, why = load_library(job.modules)
    if trt is None:
        return Result(kind="missing-package", note=why)
    result = compile_graph(trt, job, nodes, emit)
    seconds = round(time.monotonic() - start, 3)
    library, version = trt.__name__.split(".")[0], str(trt.__version__)
    return msgspec.structs.replace(result, seconds=seconds, library=library, version=version)


def load_library(modules: tuple[str, ...]) -> tuple[Any | None, str]:
    """The first module that imports, or None and what to install."""
    broken = ""
    for name in modules:
        try:
            return importlib.import_module(name), ""
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            broken = f"{name} is installed but does not load: {error}"
    jetpack = "" if modules[0].startswith("tensorrt_rtx") else "python3-libnvinfer"
    return None, broken or str(MissingPackage(modules[0], extra="rtx", jetpack=jetpack))


def compile_graph(trt: Any, job: Job, nodes: Nodes, emit: Emit) -> Result:
    """Parse, build, and read the builder's log back."""
    if not hasattr(trt, "ComputeCapability") and not cuda_is_here():
        return Result(
            kind="cannot-tell", note="TensorRT builds engines on the target's own GPU; no GPU is visible here"
        )
    log = make_logger(trt, emit)
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job.onnx) or network.num_outputs == 0:
        tells = [report_error(parser.get_error(i), nodes, emit) for i in range(parser.num_errors)]
        return Result(kind=_failure("parse", tells), note=partition_note(trt, builder, job, nodes, log))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    config.progress_monitor = make_monitor(trt, emit)
    set_compute_capabilities(trt, config, job.compile_for)
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        return Result(kind=_failure("build", report_build_errors(log.errors, nodes, emit)))
    blob = memoryview(engine)
    if job.engine:
        write_engine(Path(job.engine), blob)
    return Result(
        kind="ok",
        engine_bytes=blob.nbytes,
        weights_bytes=plan.memory_bytes(log.kept, "Weights"),
        activation_bytes=plan.memory_bytes(log.kept, "Activation"),
        layer_precisions=plan.layer_precisions(log.kept),
    )


def network_flags(trt: Any) -> int:
    """Strongly typed. The members' values differ between versions, so they are asked for by name."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = [name for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name)]
    return sum(1 << int(getattr(flags, name)) for name in wanted)


def set_compute_capabilities(trt: Any, config: Any, names: tuple[str, ...]) -> None:
    """Compile for the named GPUs; only TensorRT for RTX can compile for a GPU that is not here."""
    if not names or not hasattr(trt, "ComputeCapability"):
        return
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise RuntimeError(f"{trt.__name__} {trt.__version__} does not compile for {name}")


def report_error(error: Any, nodes: Nodes, emit: Emit) -> str:
    """Emit one parser error as a finding; returns what it tells about."""
    op, name, text = error.node_operator() or "", error.node_name() or "", error.desc() or ""
    node = nodes.find(name, error.node(), op)
    code = str(error.code()).rsplit(".", maxsplit=1)[-1]
    rule = diagnostics.classify(text, error_code=code, op=op)
    node = node or Node(op, name, "")
    check = diagnostics.to_check(rule, text, op=op, node=node.name, module=node.module)
    emit(Finding(check, fatal=True, tells=rule.tells))
    return rule.tells


def report_build_errors(errors: list[str], nodes: Nodes, emit: Emit) -> list[str]:
    """Emit what the builder logged as errors, with the node each one names."""
    tells: list[str] = []
    for text in errors or ["the builder gave no engine and no reason"]:
        node = nodes.named_in(text) or Node("", "", "")
        rule = diagnostics.classify(text, op=node.op)
        check = diagnostics.to_check(rule, text, op=node.op, node=node.name, module=node.module)
        emit(Finding(check, fatal=True, tells=rule.tells))
        tells.append(rule.tells)
    return tells


def partition_note(trt: Any, builder: Any, job: Job, nodes: Nodes, log: Any) -> str:
    """How much of the graph the parser supports, for the note of a failed parse."""
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if parser.supports_model_v2(Path(job.onnx).read_bytes(), job.onnx):
        return ""
    groups = range(parser.num_subgraphs)
    taken = sum(len(parser.get_subgraph_nodes(i)) for i in groups if parser.is_subgraph_supported(i))
    return f"the parser can place at most {taken} of {nodes.count} nodes" if taken else ""


def make_logger(trt: Any, emit: Emit) -> Any:
    """The process's one logger: keeps errors and the plan, sends warnings and errors on."""

    class Recorder(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.kept: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            """Called by the library for every line."""
            level = str(severity).rsplit(".", maxsplit=1)[-1]
            if level.endswith("ERROR"):
                self.errors.append(text)
            elif "Layers:" in text or text.startswith("Total "):
                self.kept.append(text)
            if level.endswith(("ERROR", "WARNING")):
                emit(Log(level.lower(), text[:LOG_CHARS]))

    return Recorder()


def make_monitor(trt: Any, emit: Emit) -> Any:
    """Progress of the build, at most ten events a second and every phase's start."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[int, int]] = {}
            self.last = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """A phase begins; `parent_phase` is None for the outermost."""
            depth = self.phases[parent_phase][1] + 1 if parent_phase in self.phases else 0
            self.phases[phase_name] = (num_steps, depth)
            emit(Progress(phase_name, 0, num_steps, depth))

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Returning False would cancel the build."""
            now = time.monotonic()
            if now - self.last >= PROGRESS_INTERVAL_S:
                self.last = now
                total, depth = self.phases.get(phase_name, (0, 0))
                emit(Progress(phase_name, step + 1, total, depth))
            return True

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends."""
            self.phases.pop(phase_name, None)

    return Monitor()


def cuda_is_here() -> bool:
    """Whether a CUDA driver sees a GPU. The full TensorRT crashes where it doesn't, so ask first."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def write_engine(path: Path, blob: memoryview) -> None:
    """The engine, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(blob)
    part.replace(path)


def _failure(stage: Kind, tells: list[str]) -> Kind:
    return stage if not tells or "graph" in tells else "cannot-tell"


def _claim_stdout() -> Any:
    """A private handle on stdout; what native code prints goes to stderr from here on."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb", buffering=0)
