"""What the host and the worker process say to each other: one job on stdin, JSON lines on stdout."""

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
    "timeout",
    "crash",
]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One parse and build.

    modules: Python modules to try, in this order. compile_for: names of ComputeCapability members,
    empty for the GPU that is there. precisions: that the target runs, empty where that is not known. engine: where to
    write the engine, empty for nowhere.
    """

    onnx: str
    modules: tuple[str, ...]
    compile_for: tuple[str, ...] = ()
    opset_ceiling: int = 18
    precisions: tuple[str, ...] = ()
    engine: str = ""
    workspace_bytes: int = 1 << 30


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


class OpUse(msgspec.Struct, frozen=True, tag="op"):
    """How often one operator is used, and by which modules of the network as far as the file says."""

    op: str
    count: int
    modules: tuple[str, ...] = ()


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


Event = Progress | Finding | Log | OpUse | Result

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode(message: Event | Job) -> bytes:
    """One line of JSON, with its newline."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> Event | None:
    """The event in one line, or None where the line is something else."""
    try:
        event: Event = _decoder.decode(line)
    except msgspec.DecodeError:
        return None
    return event
