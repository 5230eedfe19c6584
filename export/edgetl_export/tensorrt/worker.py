"""The host check's worker: reads and lints the ONNX file, then compiles it, in a process of its own.

Run as `python -m edgetl_export.tensorrt.worker`.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgetl_export.tensorrt.graph import Graph, label, module_of, op_uses
from edgetl_export.tensorrt.lint import lint
from edgetl_runtime.errors import InputError, MissingPackage
from edgetl_runtime.tensorrt.compiler import Emit, Node, compile_job, serve
from edgetl_runtime.tensorrt.protocol import Job, Result


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
    return None if node is None else Node(node.op_type, label(node), module_of(node))


def run(job: Job, emit: Emit) -> Result:
    """Check the file, list what it holds, then parse and build it with the first library that is here."""
    start = time.monotonic()
    try:
        graph = load_graph(Path(job.onnx))
    except ImportError:
        return Result(kind="missing-package", note=str(MissingPackage("onnx", extra="export")))
    except InputError as error:
        return Result(kind="invalid-model", note=str(error).replace(job.onnx, Path(job.onnx).name))
    for use in op_uses(graph):
        emit(use)
    for finding in lint(graph, opset_ceiling=job.opset_ceiling, precisions=job.precisions):
        emit(finding)
    result = compile_job(job, GraphNodes(graph), emit)
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - start, 3))


def load_graph(path: Path) -> Graph:
    """The model, checked, without weights kept in other files. Raises InputError."""
    from edgetl_export.read_onnx import read_onnx

    return Graph(read_onnx(path))


def main() -> int:
    """Read one job from stdin, write events to stdout, the result last."""
    return serve(run)


if __name__ == "__main__":
    sys.exit(main())
