"""The tools that are compared, each as the files that it makes of one fp32 ONNX network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx
from compilers.processes import PeerFailed, run_script

from edgetl_export.graph import downstream, load_model, producers
from edgetl_runtime.engines import Spin
from edgetl_runtime.spec import EngineName, Precision

Setting = tuple[EngineName, Precision]
ON_ONNX: tuple[Setting, ...] = (("onnxruntime", "int8"), ("openvino", "int8"), ("openvino", "int8-bf16"))
ON_OPENVINO: tuple[Setting, ...] = (("openvino", "int8"), ("openvino", "int8-bf16"))
"""OpenVINO left to itself takes bf16, where the processor has it, for what is not quantised: both are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The same for every tool.

    model: the fp32 ONNX. calibration, validation: .npy of frames as its input takes them. probes: tensors before
    decoding.
    max_drop: 0..1. answer: the metric of outputs that a tool worked out itself.
    """

    model: Path
    input: str
    calibration: Path
    validation: Path
    probes: tuple[str, ...]
    max_drop: float
    answer: Callable[[dict[str, Any]], float]

    def float_nodes(self) -> list[str]:
        """Names of the nodes that make the probes, and of all after them."""
        graph = load_model(self.model)
        made = producers(graph)
        return [n.name for n in downstream(graph, self.probes)] + [made[p].name for p in self.probes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A tool's file, what making it took, and the engines that run it. says: the precision where that isn't plain."""

    tool: str
    path: Path
    settings: tuple[Setting, ...]
    seconds: float | None = None
    cpu_s: float | None = None
    rss_mb: float | None = None
    notes: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    spin: Spin = "default"
    says: str = ""

    @property
    def is_onnx(self) -> bool:
        """Whether TensorRT could read it."""
        return self.path.suffix == ".onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way to use a tool. told: it is told which nodes decode, and leaves them in float as edgetl does."""

    tool: str
    environment: Literal["project", "nncf"]
    method: str
    suffix: str = ".onnx"
    told: bool = False

    def make(self, job: Job, folder: Path, pythons: Mapping[str, Path | None]) -> Made:
        """Run the tool. Raises PeerFailed where it is not here or fails."""
        folder.mkdir(parents=True)
        out = folder / f"model{self.suffix}"
        work = {"method": self.method, "model": str(job.model.resolve()), "out": str(out.resolve()), "input": job.input}
        work |= {"frames": str(job.calibration), "validation": str(job.validation), "max_drop": job.max_drop}
        work |= {"keep_float": job.float_nodes() if self.told else [], "float_from": job.probes if self.told else []}
        script = "ort_peer.py" if self.environment == "project" else "nncf_peer.py"
        done = run_script(pythons[self.environment], script, work, folder, job.answer)
        if not done.documents or not out.is_file():
            raise PeerFailed("it ended well and made no file")
        told = done.documents[-1]
        return Made(
            tool=self.tool,
            path=out,
            settings=ON_ONNX if self.suffix == ".onnx" else ON_OPENVINO,
            seconds=round(done.seconds, 1),
            cpu_s=round(done.cpu_s, 1),
            rss_mb=done.rss_mb,
            notes=tuple(told["notes"]),
            packages=told["packages"],
        )


ORT, NNCF = "ORT quantize_static", "NNCF"
PEERS: tuple[Peer, ...] = (
    Peer(tool=f"{ORT}, defaults", environment="project", method="defaults"),
    Peer(tool=f"{ORT}, as advised", environment="project", method="advised"),
    Peer(tool=f"{ORT}, as advised, entropy", environment="project", method="entropy"),
    Peer(tool=f"{ORT}, as advised, decoding kept float", environment="project", method="advised", told=True),
    Peer(tool=f"{NNCF}, defaults", environment="nncf", method="openvino", suffix=".xml"),
    Peer(tool=f"{NNCF}, mixed", environment="nncf", method="mixed", suffix=".xml"),
    Peer(tool=f"{NNCF}, mixed, decoding kept float", environment="nncf", method="mixed", suffix=".xml", told=True),
    Peer(tool=f"{NNCF}, accuracy control", environment="nncf", method="accuracy", suffix=".xml"),
    Peer(tool=f"{NNCF} on ONNX", environment="nncf", method="onnx"),
)


def with_names(model: Path, out: Path, probes: Sequence[str]) -> tuple[str, ...]:
    """Write the network with a name for every node; the probes that it has."""
    graph = onnx.load(str(model))
    for index, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{index}"
    onnx.save(graph, str(out))
    made = producers(graph)
    return tuple(p for p in probes if p in made)
