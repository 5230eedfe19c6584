"""What the host and the worker process say to each other: one job on stdin, JSON lines on stdout.

The job is one line. Closing stdin after it cancels the job, so a worker never outlives who started it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgetl_runtime.spec import Check

Kind = Literal[
    "ok",
    "not-applicable",
    "missing-package",
    "invalid-model",
    "parse",
    "build",
    "cannot-tell",
    "too-old",
    "canceled",
    "timeout",
    "crash",
]


class Job(msgspec.Struct, frozen=True, kw_only=True, tag="build"):
    """One parse and build.

    modules: Python modules to try, in this order. compile_for: names of ComputeCapability members,
    empty for the GPU that is there. engine: where to write the engine, empty for nowhere. timing_cache: the file
    to start from and to leave behind, empty for none.
    """

    onnx: str
    modules: tuple[str, ...]
    compile_for: tuple[str, ...] = ()
    engine: str = ""
    workspace_bytes: int = 1 << 30
    timing_cache: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A built engine's file, and the variant that it was built from."""

    variant: str
    file: str


class Examine(msgspec.Struct, frozen=True, kw_only=True, tag="examine"):
    """Load these plans of a bundle in one process: read their layers, replay the golden frames, time them in turns."""

    bundle: str
    module: str
    plans: tuple[Plan, ...]
    runs: int
    seconds: float


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`done` of `total` steps of one phase; phases nest, so `depth` 0 is the outermost."""

    phase: str
    done: int
    total: int
    depth: int = 0


class Finding(msgspec.Struct, frozen=True, tag="diagnostic"):
    """One classified finding.

    fatal: TensorRT stopped there. tells: what is at fault, as in `diagnostics.Rule`.
    """

    check: Check
    fatal: bool
    tells: Literal["graph", "library", "gpu"] = "graph"


class Log(msgspec.Struct, frozen=True, tag="log"):
    """One line that the library logged as a warning or an error."""

    severity: str
    text: str


class Mismatch(msgspec.Struct, frozen=True):
    """A layer that runs in something other than what was asked of the ONNX nodes in it."""

    layer: str
    nodes: tuple[str, ...]
    asked: str
    found: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Convolutions and matrix products by precision: asked for, and found in layers that name them.

    unknown: those that no layer names, or whose type it does not say. mismatches: empty where it holds.
    """

    asked: dict[str, int]
    found: dict[str, int]
    unknown: int
    mismatches: tuple[Mismatch, ...] = ()


class Examined(msgspec.Struct, frozen=True, kw_only=True, tag="examined"):
    """What one plan turned out to be on this device.

    layers: precision by layer, as the engine inspector says. golden_error: see `golden.replay_golden`.
    """

    variant: str
    proof: Proof
    layers: dict[str, str]
    golden_error: float
    golden_tolerance: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    runs: int


class Result(msgspec.Struct, frozen=True, kw_only=True, tag="result"):
    """The end of the job. Sizes in bytes, None where the library did not say."""

    kind: Kind
    library: str = ""
    version: str = ""
    seconds: float = 0.0
    engine_bytes: int | None = None
    weights_bytes: int | None = None
    activation_bytes: int | None = None
    layer_precisions: dict[str, int] = {}
    note: str = ""


Event = Progress | Finding | Log | Examined | Result

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(message: Event | Job | Examine) -> bytes:
    """One line of JSON, with its newline."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> Event | None:
    """The event in one line, or None where the line is something else."""
    try:
        event: Event = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event
