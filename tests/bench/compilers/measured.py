"""Files on engines: scored one by one, then timed in turn, and what TensorRT says of each file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compilers.peers import Made
from compilers.table import Row, Skipped
from numpy.typing import NDArray

from edgetl_export.parity import Infer
from edgetl_export.tensorrt.check import check_onnx
from edgetl_runtime.bench import measure, percentiles
from edgetl_runtime.engines import Engine, load_engine
from edgetl_runtime.errors import EdgetlError

ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PRECISIONS = {"int8": "INT8", "int8-bf16": "INT8, rest bf16"}
Feed = Callable[[NDArray[np.uint8]], NDArray[np.generic]]
"""A frame (1, H, W, 3) uint8 to the network's input: whatever of the preprocessing the graph does not hold."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file on one engine, as a function of a frame."""

    made: Made
    engine: Engine
    feed: Feed

    def infer(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        """The network's outputs."""
        return self.engine.infer({self.engine.inputs[0].name: self.feed(frame)})


def load_all(files: Sequence[Made], feeds: Mapping[str, Feed]) -> tuple[list[Loaded], list[Skipped]]:
    """Every file on each of its engines. feeds: by tool, where the graph doesn't hold the preprocessing."""
    loaded, refused = [], []
    for made in files:
        for engine, precision in made.settings:
            try:
                ready = load_engine(engine, made.path, precision=precision, spin=made.spin)
            except EdgetlError as error:
                why = " ".join(error.message.split())
                refused.append(Skipped(f"{made.tool} on {ENGINES[engine]} {precision}", f"...{why[-300:]}"))
                continue
            loaded.append(Loaded(made, ready, feeds.get(made.tool, lambda frame: frame)))
    return loaded, refused


def measured(
    loaded: Sequence[Loaded],
    scores: Callable[[Infer], dict[str, float]],
    frame: NDArray[np.uint8],
    *,
    runs: int,
    verdicts: Mapping[str, str],
) -> list[Row]:
    """A row for each; closes the engines."""
    found = []
    for one in loaded:
        progress(f"scoring {one.made.tool} on {one.engine.name} {one.engine.precision}")
        found.append(scores(one.infer))
    progress("latency, all in turn")
    times = measure({str(i): (lambda x=x: x.infer(frame)) for i, x in enumerate(loaded)}, runs=runs)
    rows = []
    for i, (one, values) in enumerate(zip(loaded, found, strict=True)):
        taken = percentiles(times[str(i)])
        made = one.made
        rows.append(
            Row(
                tool=made.tool,
                engine=ENGINES[one.engine.name],
                precision=made.says or PRECISIONS.get(one.engine.precision, one.engine.precision),
                p50_ms=taken["p50_ms"],
                p95_ms=taken["p95_ms"],
                scores=values,
                seconds=made.seconds,
                cpu_s=made.cpu_s,
                rss_mb=made.rss_mb,
                tensorrt=verdicts.get(made.tool, ""),
                notes=made.notes,
                packages=made.packages,
            )
        )
        one.engine.close()
    return rows


def tensorrt_verdict(path: Path, target: str) -> str:
    """What TensorRT for RTX's parser and builder say of a file, in a few words."""
    if path.suffix != ".onnx":
        return "not an ONNX file"
    progress(f"TensorRT check of {path.parent.name}/{path.name}")
    check = check_onnx(path, target=target)
    if check.ok:
        return "accepted"
    if check.kind in ("missing-package", "timeout", "cannot-tell"):
        return f"not known ({check.kind})"
    first = next(iter(check.diagnostics), None)
    return f"rejected at {check.kind}: {first.code if first else check.note[:120]}"


def progress(text: str) -> None:
    """One line for whoever waits."""
    sys.stderr.write(f"compilers    {text}\n")
    sys.stderr.flush()
