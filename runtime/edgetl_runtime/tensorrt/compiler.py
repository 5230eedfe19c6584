"""One parse and one build with whichever TensorRT is here; it is made for a process of its own.

It is written to the names that TensorRT 10.3 to 11.4 and TensorRT for RTX share; what only one of them has is
asked for by name first. Networks are strongly typed: the precision is the ONNX file's.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgetl_runtime.cuda import load_driver
from edgetl_runtime.errors import MissingPackage
from edgetl_runtime.imports import JETPACK
from edgetl_runtime.tensorrt import diagnostics, plan
from edgetl_runtime.tensorrt.nodes import Node, Nodes
from edgetl_runtime.tensorrt.protocol import Event, Finding, Job, Kind, Log, Progress, Result

Emit = Callable[[Event], None]
PROGRESS_INTERVAL_S = 0.1
LOG_CHARS = 400


def compile_job(job: Job, nodes: Nodes, emit: Emit, stop: threading.Event) -> Result:
    """Parse and build with the first library of `job.modules` that is here; `stop` cancels the build."""
    start = time.monotonic()
    trt, why = load_library(job.modules)
    if trt is None:
        return Result(kind="missing-package", note=why)
    result = compile_graph(trt, job, nodes, emit, stop)
    seconds = round(time.monotonic() - start, 3)
    library, version = trt.__name__.split(".")[0], str(trt.__version__)
    return msgspec.structs.replace(result, seconds=seconds, library=library, version=version)


def load_library(modules: tuple[str, ...]) -> tuple[Any | None, str]:
    """The first module that imports, or None and what to install."""
    broken = ""
    for name in modules:
        try:
            module = importlib.import_module(name)
            if hasattr(module, "Builder"):  # a folder of this name in the working directory imports too
                return module, ""
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            broken = f"{name} is installed but does not load: {error}"
    return None, broken or str(MissingPackage(modules[0], extra="rtx", jetpack=JETPACK.get(modules[0], "")))


def compile_graph(trt: Any, job: Job, nodes: Nodes, emit: Emit, stop: threading.Event) -> Result:
    """Parse, build, and read the builder's log back."""
    if not hasattr(trt, "ComputeCapability") and load_driver() is None:
        return Result(
            kind="cannot-tell", note="TensorRT builds engines on the target's own GPU; no GPU is visible here"
        )
    log = make_logger(trt, emit)
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    if not is_strongly_typed(trt, network):
        note = f"{trt.__name__} {trt.__version__} has no strongly typed networks and would choose precisions itself"
        return Result(kind="too-old", note=f"{note}; TensorRT 10 or later is needed (JetPack 6 has it)")
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(job.onnx) or network.num_outputs == 0:
        tells = [report_error(parser.get_error(i), nodes, emit) for i in range(parser.num_errors)]
        return Result(kind=_failure("parse", tells), note=partition_note(trt, builder, job, nodes, log))
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace_bytes)
    config.progress_monitor = make_monitor(trt, emit, stop)
    set_compute_capabilities(trt, config, job.compile_for)
    cache = read_timing_cache(trt, config, job.timing_cache)
    log.errors.clear()
    engine = builder.build_serialized_network(network, config)
    if cache is not None:
        write_whole(Path(job.timing_cache), memoryview(cache.serialize()))  # after a cancel too: what was timed is kept
    if engine is None and stop.is_set():
        return Result(kind="canceled", note="the build was cancelled")
    if engine is None:
        return Result(kind=_failure("build", report_build_errors(log.errors, nodes, emit)))
    blob = memoryview(engine)
    if job.engine:
        write_whole(Path(job.engine), blob)
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


def is_strongly_typed(trt: Any, network: Any) -> bool:
    """Whether the network takes its precisions from the ONNX file, read back from it.

    It is a flag that versions before 10 lack, 10 leaves off, and 11 can't do without.
    """
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return flag is not None and bool(network.get_flag(flag))


def read_timing_cache(trt: Any, config: Any, path: str) -> Any | None:
    """Give the builder the timings of earlier builds; None for TensorRT for RTX, where the cache is a deprecated no-op.

    A cache of another GPU or version is refused by TensorRT and replaced by an empty one.
    """
    if not path or hasattr(trt, "ComputeCapability"):
        return None
    kept = Path(path).read_bytes() if Path(path).is_file() else b""
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


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
    check = diagnostics.to_check(rule, text, op=op, node=name, module=node.module if node else "")
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


def make_monitor(trt: Any, emit: Emit, stop: threading.Event) -> Any:
    """Progress of the build, at most ten inner steps a second; `stop` cancels it."""

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
            """Returning False cancels the build."""
            now = time.monotonic()
            total, depth = self.phases.get(phase_name, (0, 0))
            if depth == 0 or now - self.last >= PROGRESS_INTERVAL_S:
                self.last = now
                emit(Progress(phase_name, step + 1, total, depth))
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends."""
            self.phases.pop(phase_name, None)

    return Monitor()


def write_whole(path: Path, blob: memoryview) -> None:
    """The file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(blob)
    part.replace(path)


def _failure(stage: Kind, tells: list[str]) -> Kind:
    return stage if not tells or "graph" in tells else "cannot-tell"
