"""The host check's worker: reads and lints the ONNX file, then compiles it, in a process of its own.

Run as `python -m edgetl_export.tensorrt.worker`.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgetl_export.tensorrt.lint import Graph, lint, module_of, op_uses
from edgetl_runtime.errors import MissingPackage
from edgetl_runtime.tensorrt import diagnostics
from edgetl_runtime.tensorrt.compiler import Emit, compile_job
from edgetl_runtime.tensorrt.nodes import Node
from edgetl_runtime.tensorrt.protocol import Job, Result
from edgetl_runtime.tensorrt.serving import serve


@dataclass(frozen=True, slots=True)
class GraphNodes:
    """A loaded graph as the compiler asks for its nodes."""

    graph: Graph

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.graph.nodes)

    def find(self, name: str, index: int, op: str) -> Node | None:
        """The node that a parser error names."""
        return _node(self.graph.find(name, index, op))

    def named_in(self, text: str) -> Node | None:
        """The node whose name stands in a free text."""
        return _node(self.graph.named_in(text))


def _node(node: Any | None) -> Node | None:
    return None if node is None else Node(node.op_type, node.name, module_of(node))


def run(job: Job, emit: Emit, stop: threading.Event) -> Result:
    """Check the file, list what it holds, then parse and build it with the first library that is here."""
    start = time.monotonic()
    try:
        graph = load_graph(Path(job.onnx))
    except ImportError:
        return Result(kind="missing-package", note=str(MissingPackage("onnx", extra="export")))
    except Exception as error:  # protobuf, the checker and the file system each raise their own
        why = diagnostics.essence(str(error)) or type(error).__name__
        return Result(kind="invalid-model", note=f"{Path(job.onnx).name} is not a valid ONNX model: {why}")
    for use in op_uses(graph):
        emit(use)
    for finding in lint(graph, opset_ceiling=job.opset_ceiling):
        emit(finding)
    result = compile_job(job, GraphNodes(graph), emit, stop)
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - start, 3))


def load_graph(path: Path) -> Graph:
    """The model, checked, without weights kept in other files. Raises what onnx raises."""
    import onnx

    onnx.checker.check_model(str(path))
    return Graph(onnx.load(str(path), load_external_data=False))


def main() -> int:
    """Read one job from stdin, write events to stdout, the result last."""
    return serve(Job, run)


if __name__ == "__main__":
    sys.exit(main())
