"""What ONNX Runtime gains by an INT8 graph of its own over OpenVINO's, beside its own float graph and OpenVINO.

    python tests/bench/bench_int8_graphs.py --size 224 efficientnet_b0 mobilenetv3_large_100 convnext_atto

Classifiers on backbones of timm, with random weights, which speed does not depend on, exported and calibrated as
`edgetl rank` does it. All take turns. Prints a markdown table; the last column says how many of the layers that are
quantised ONNX Runtime runs in INT8, in OpenVINO's graph and in its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgetl.ranking.latency import compile_network
from edgetl_export.proof import prove_by_count
from edgetl_runtime.bench import measure
from edgetl_runtime.engines import Engine, load_engine
from edgetl_runtime.spec import ClassifyHead

HEADS = (ClassifyHead(labels=("x", "y"), thresholds=(0.0, 0.0)),)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="+")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=60)
    args = parser.parse_args()
    columns = ("ORT fp32", "ORT, OpenVINO's graph", "ORT, its own", "OpenVINO int8")
    sys.stdout.write(f"| network | {' | '.join(f'{c} ms' for c in columns)} | layers in INT8 |\n|{'---|' * 6}\n")
    for name in args.backbones:
        times, layers = compared(name, args.size, args.runs)
        sys.stdout.write(f"| {name} | {' | '.join(f'{ms:.2f}' for ms in times)} | {layers} |\n")


def compared(backbone: str, size: int, runs: int) -> tuple[list[float], str]:
    """Median milliseconds of the four, and the counts of layers."""
    frames = list(np.random.default_rng(0).integers(0, 256, (4, 1, size, size, 3)).astype(np.uint8))
    with tempfile.TemporaryDirectory(prefix="edgetl-int8-graphs-") as folder, ExitStack() as stack:
        files = compile_network(backbone, HEADS, (size, size), frames, Path(folder) / "network")
        shared, own = files["openvino", "int8"], files["onnxruntime", "int8"]
        engines = {
            "fp32": load_engine("onnxruntime", files["onnxruntime", "fp32"], precision="fp32"),
            "shared": load_engine("onnxruntime", shared, precision="int8"),
            "own": load_engine("onnxruntime", own, precision="int8"),
            "openvino": load_engine("openvino", shared, precision="int8"),
        }
        for engine in engines.values():
            stack.callback(engine.close)
        times = measure({name: call(engine, frames[0]) for name, engine in engines.items()}, runs=runs)
        quantised = quantised_layers(shared)
        counts = [prove_by_count(path, quantised).int8 for path in (shared, own)]
    return [float(np.median(times[name])) for name in engines], f"{counts[0]}, {counts[1]} of {len(quantised)}"


def quantised_layers(path: Path) -> set[str]:
    """The layers whose weights are in INT8."""
    return {n.name for n in onnx.load(str(path)).graph.node if any(i.endswith("/weight_dq") for i in n.input)}


def call(engine: Engine, frame: NDArray[np.uint8]) -> Callable[[], object]:
    """One run."""
    return lambda: engine.infer({engine.inputs[0].name: frame})


if __name__ == "__main__":
    main()
