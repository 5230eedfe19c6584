"""A trained network to a verified bundle: export, fold, quantise, compare, measure, choose, check, write."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl_export.candidates import Candidate, Metric, choose, infer_of, judge, mean_metric, time_candidates
from edgetl_export.graph import load_model, save_model, without_outputs
from edgetl_export.parity import Infer, compare, other_input_other_output, record
from edgetl_export.passes.flush_tiny import flush_tiny
from edgetl_export.passes.fold_input import fold_input
from edgetl_export.publish import publish_directory, refuse_existing
from edgetl_export.quantize import quantize_u8s8
from edgetl_export.report.bundle import bundle_report
from edgetl_export.report.page import Section
from edgetl_export.target_results import target_results
from edgetl_export.targets import get_target
from edgetl_export.to_onnx import exporter_of, tensor_spec, to_onnx
from edgetl_runtime.bundle import file_entry, open_bundle, write_manifest
from edgetl_runtime.engines import load_engine
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.golden import Golden, write_golden
from edgetl_runtime.spec import (
    SCHEMA_VERSION,
    Chosen,
    DomainStatistics,
    Head,
    Hop,
    Latency,
    Manifest,
    Precision,
    Preprocess,
    Provenance,
    Reliability,
    TargetResult,
    TensorSpec,
    Variant,
)

if TYPE_CHECKING:
    from torch import nn

EXPORT_REL_ERROR = 1e-3
GOLDEN_FRAMES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a network comes from.

    name: of the first hop, e.g. "torch". outputs: what ships. probes: inner tensors before decoding, which parity
    compares. infer: a frame (1, H, W, 3) uint8 to all of them, by the network's own means: the reference.
    write: an ONNX file of that function with outputs and probes as outputs in this order; returns a note for its hop.
    """

    name: str
    outputs: Sequence[str]
    probes: Sequence[str]
    infer: Infer
    write: Callable[[Path], str]


def torch_source(
    module: nn.Module, example: NDArray[np.uint8], *, input_name: str, outputs: Sequence[str], probes: Sequence[str]
) -> Source:
    """A module in eval mode that gives the outputs, then the probes, of a frame like `example`."""
    import torch

    names = (*outputs, *probes)

    def infer(frame: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        with torch.inference_mode():
            return dict(zip(names, (o.numpy() for o in module(torch.from_numpy(frame))), strict=True))

    def write(path: Path) -> str:
        to_onnx(module, torch.from_numpy(example), path, input_name=input_name, output_names=names)
        return f"written by {exporter_of(path)}"

    return Source(name="torch", outputs=tuple(outputs), probes=tuple(probes), infer=infer, write=write)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """All that an export needs.

    calibration, frames: uint8 frames (1, H, W, 3) at network size, for INT8 ranges and for parity. metric: the
    heads' metrics of any function of a frame, 0..1. max_drop: how much of each INT8 or bf16 may lose, 0..1.
    domain: the training domain's statistics. reliability: of the heads' scores, by head. dataset_classes: as in
    the manifest.
    """

    name: str
    source: Source
    heads: tuple[Head, ...]
    preprocess: Preprocess
    calibration: Sequence[NDArray[np.uint8]]
    frames: Sequence[NDArray[np.uint8]]
    metric: Metric
    metric_name: str
    max_drop: float
    targets: Sequence[str]
    provenance: Provenance
    latency_runs: int = 60
    sections: Sequence[Section] = ()
    domain: Domain | None = None
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    dataset_classes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Domain:
    """Statistics of the training domain: about which output, of how many images, and a function that writes them.

    write is given the chosen engine as a function of a frame, so that its rounding is in the statistics.
    """

    output: str
    images: int
    write: Callable[[Path, Infer], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """The bundle's path and manifest, and how long each part took in seconds."""

    bundle: Path
    manifest: Manifest
    seconds: dict[str, float]


class _Clock:
    """Seconds by part, each announced when it begins."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._part, self._since = say, "", time.monotonic()
        self.seconds: dict[str, float] = {}

    def begin(self, part: str) -> None:
        """End the part before, begin this one."""
        now = time.monotonic()
        if self._part:
            self.seconds[self._part] = round(now - self._since, 2)
        self._part, self._since = part, now
        if part:
            self._say(part)


def to_stderr(text: str) -> None:
    """One line for a person."""
    sys.stderr.write(f"export       {text}\n")
    sys.stderr.flush()


def export(
    request: ExportRequest, out: Path, *, force: bool = False, say: Callable[[str], None] = to_stderr
) -> Exported:
    """Make the bundle `out`. Nothing is left there, and an old bundle stays, when anything fails.

    Raises GateFailed for a hop that does not hold, InputError for an unknown target or a path in the way.
    """
    refuse_existing(out, force=force)
    for target in request.targets:
        get_target(target)
    clock = _Clock(say)
    with tempfile.TemporaryDirectory(prefix="edgetl-export-") as scratch, publish_directory(out, force=force) as new:
        work = Path(scratch)
        graphs = _compile(request, work, new, clock)
        clock.begin("parity and metric of every engine")
        candidates, left_out = judge(
            graphs.files,
            frames=request.frames,
            probe_files=graphs.probe_files,
            probes=request.source.probes,
            reference=graphs.reference,
            reference_values=graphs.reference_values,
            metric=request.metric,
            metric_name=request.metric_name,
            max_drop=request.max_drop,
            say=lambda text: say(f"  {text}"),
        )
        clock.begin("latency, all engines in turn")
        latencies = time_candidates(candidates, graphs.files, request.frames[0], runs=request.latency_runs)
        chosen = choose(candidates, latencies)
        clock.begin("TensorRT check on the host")
        targets = target_results(graphs.files["fp32"], request.targets, chosen)
        clock.begin("golden samples")
        _golden(request, graphs.files, candidates, chosen, new)
        clock.begin("writing the bundle")
        manifest = _write(request, graphs, candidates, latencies, chosen, targets, left_out, new)
        clock.begin("")
    return Exported(out, manifest, clock.seconds)


@dataclass(frozen=True, slots=True)
class _Graphs:
    """ONNX files by precision, with and without inner tensors as outputs, and what was compared so far."""

    files: dict[Precision, Path]
    probe_files: dict[Precision, Path]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    reference: list[dict[str, NDArray[np.float32]]]
    reference_values: dict[str, float]
    hops: list[Hop]


def _compile(request: ExportRequest, work: Path, new: Path, clock: _Clock) -> _Graphs:
    """Torch to ONNX, folded, quantised; every graph compared with torch before the next is made."""
    source = request.source
    clock.begin(f"{source.name}, on the validation set")
    reference = record(source.infer, request.frames, source.probes)
    if not other_input_other_output(reference):
        raise GateFailed("the network gives the same output for different frames")
    values = dict(request.metric(source.infer))
    base = Hop(
        hop=source.name,
        metric=request.metric_name,
        value=mean_metric(values),
        heads=values if len(values) > 1 else {},
        max_rel_error=0.0,
        cosine=1.0,
        passed=True,
        note="the reference",
    )
    hops = [base]
    clock.begin(f"{source.name} to ONNX")
    raw = work / "raw.onnx"
    note = source.write(raw)
    hops.append(_hop("onnx", raw, request, reference, EXPORT_REL_ERROR, note=note))
    flushed = work / "flushed.onnx"
    model, note = flush_tiny(load_model(raw))
    save_model(model, flushed)
    hops.append(_hop("flush-tiny", flushed, request, reference, EXPORT_REL_ERROR, note=note))
    folded = work / "folded.onnx"
    model, note = fold_input(load_model(flushed))
    save_model(model, folded)
    hops.append(_hop("fold-input", folded, request, reference, EXPORT_REL_ERROR, note=note))
    clock.begin("INT8 calibration")
    quantised = work / "int8.onnx"
    quantize_u8s8(folded, quantised, request.calibration, keep_float=source.probes)
    probe_files: dict[Precision, Path] = {"fp32": folded, "int8": quantised}
    files: dict[Precision, Path] = {}
    for precision, path in probe_files.items():
        files[precision] = new / f"model.{precision}.onnx"
        save_model(without_outputs(load_model(path), source.probes), files[precision])
    inputs = tuple(tensor_spec(i) for i in load_model(folded).graph.input)
    outputs = tuple(tensor_spec(o) for o in load_model(folded).graph.output if o.name in source.outputs)
    return _Graphs(files, probe_files, inputs, outputs, reference, values, hops)


def _hop(
    name: str,
    path: Path,
    request: ExportRequest,
    reference: list[dict[str, NDArray[np.float32]]],
    limit: float,
    *,
    note: str = "",
) -> Hop:
    """Compare a float graph with torch on ONNX Runtime. Raises GateFailed above `limit`."""
    engine = load_engine("onnxruntime", path, precision="fp32")
    try:
        infer = infer_of(engine)
        parity = compare(reference, record(infer, request.frames, request.source.probes))
        if parity.max_rel_error > limit:
            raise GateFailed(
                f"the step {name!r} broke the network: {parity.tensor} differs by {parity.max_rel_error:.2g} "
                f"on frame {parity.frame}, more than {limit:.0e}; nothing is shipped"
            )
        values = request.metric(infer)
    finally:
        engine.close()
    return Hop(
        hop=name,
        metric=request.metric_name,
        value=mean_metric(values),
        heads=dict(values) if len(values) > 1 else {},
        max_rel_error=parity.max_rel_error,
        cosine=parity.cosine,
        passed=True,
        note=note,
    )


def _golden(
    request: ExportRequest,
    files: Mapping[Precision, Path],
    candidates: Sequence[Candidate],
    chosen: Chosen,
    new: Path,
) -> None:
    """Frames with what the chosen pair gives for them, and the training domain as it sees it."""
    pair = next(c for c in candidates if (c.variant, c.engine) == (chosen.variant, chosen.engine))
    engine = load_engine(pair.engine, files["int8" if pair.precision == "int8" else "fp32"], precision=pair.precision)
    frames = [np.ascontiguousarray(f) for f in request.frames[:GOLDEN_FRAMES]]
    try:
        infer = infer_of(engine)
        rows = [{k: np.array(v) for k, v in infer(f).items()} for f in frames]
        if request.domain is not None:
            request.domain.write(new / "domain.npz", infer)
    finally:
        engine.close()
    outputs = {n: np.concatenate([r[n] for r in rows]) for h in request.heads for n in h.outputs}
    write_golden(new / "golden.npz", Golden(frames=np.concatenate(frames), outputs=outputs))


def _variants(candidates: Sequence[Candidate]) -> tuple[Variant, ...]:
    variants: dict[str, Variant] = {}
    for c in candidates:
        file = f"model.{'int8' if c.precision == 'int8' else 'fp32'}.onnx"
        engines = (*(variants[c.variant].engines if c.variant in variants else ()), c.engine)
        variants[c.variant] = Variant(name=c.variant, file=file, precision=c.precision, engines=engines)
    return tuple(variants.values())


def _write(
    request: ExportRequest,
    graphs: _Graphs,
    candidates: Sequence[Candidate],
    latencies: Sequence[Latency],
    chosen: Chosen,
    targets: dict[str, TargetResult],
    left_out: Sequence[str],
    new: Path,
) -> Manifest:
    for head in request.heads:
        (new / f"labels.{head.name}.txt").write_text("\n".join(head.labels) + "\n", encoding="utf-8")
    domain = None
    if request.domain is not None:
        domain = DomainStatistics(file="domain.npz", output=request.domain.output, images=request.domain.images)

    def manifest_of(paths: Sequence[Path]) -> Manifest:
        return Manifest(
            schema_version=SCHEMA_VERSION,
            name=request.name,
            heads=request.heads,
            preprocess=request.preprocess,
            inputs=graphs.inputs,
            outputs=graphs.outputs,
            variants=_variants(candidates),
            chosen=chosen,
            targets=targets,
            hops=(*graphs.hops, *(c.hop for c in candidates)),
            latencies=tuple(latencies),
            golden="golden.npz",
            files={p.relative_to(new).as_posix(): file_entry(p) for p in sorted(paths)},
            provenance=request.provenance,
            domain=domain,
            reliability=dict(request.reliability),
            dataset_classes={head: dict(names) for head, names in request.dataset_classes.items()},
        )

    draft = manifest_of([p for p in new.rglob("*") if p.is_file()])
    page = bundle_report(draft, before=request.sections, left_out=left_out)
    (new / "report.html").write_text(page, encoding="utf-8")
    manifest = manifest_of([p for p in new.rglob("*") if p.is_file()])
    write_manifest(new, manifest)
    open_bundle(new)
    return manifest
