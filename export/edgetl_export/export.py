"""A trained network to a verified bundle: export, fold, quantise, compare, measure, choose, check, write."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgetl_export.budget import Budget, Metric
from edgetl_export.candidates import (
    FLOAT_RUNNERS,
    Answers,
    Candidate,
    Pair,
    Reference,
    Shipped,
    choose,
    hop_of,
    infer_of,
    judge,
    time_candidates,
)
from edgetl_export.compile import FloatGraph, Written, compile_float, write_onnx
from edgetl_export.crew import at_once, both_at_once, copied, crew_of, telling
from edgetl_export.layers import layers_of
from edgetl_export.parity import SAME, Finite, Infer, digest_of, other_input_other_output, record
from edgetl_export.passes import PASSES, Pass
from edgetl_export.proof import proved
from edgetl_export.publish import publish_directory, refuse_existing, scratch_directory
from edgetl_export.report.bundle import bundle_report
from edgetl_export.report.page import Section
from edgetl_export.sbom import write_sbom
from edgetl_export.search import quantiser_of, search, search_record
from edgetl_export.source import Source
from edgetl_export.target_results import for_devices, target_results
from edgetl_export.targets import get_target
from edgetl_export.tensorrt.check import check_graphs
from edgetl_export.to_onnx import CAPTURED, exporter_of
from edgetl_export.trials import Trials, trial_of
from edgetl_export.typed import Typed, computed_here, float_graphs, int8_graph
from edgetl_export.worst import Watched, Worst, worst_frames
from edgetl_runtime.bundle import file_entry, open_bundle, write_manifest
from edgetl_runtime.errors import GateFailed, InputError
from edgetl_runtime.golden import FLOAT, TOLERANCE, TOLERANCE_REDUCED, Golden, allowance, head_error, write_golden
from edgetl_runtime.spec import (
    SCHEMA_VERSION,
    AccuracyBudget,
    Calibration,
    Chosen,
    DetectHead,
    DomainStatistics,
    EngineName,
    Head,
    Hop,
    Latency,
    Manifest,
    Precision,
    Preprocess,
    Provenance,
    Reliability,
    Search,
    TargetResult,
    Variant,
    sample_name,
)

GOLDEN_FRAMES = 4
JUDGED = "also judged: by the metric"
"""The stratum of calibration frames that accuracy is measured on: it is nearer to the network's own than on others."""
SHIPPED_ANYWAY = frozenset({"fp32", "bf16", "int8", "int8-bf16", "int8-ort"})
"""Variants that a bundle keeps even over the budget: another machine, or another budget, may want them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """All that an export needs.

    calibration, frames: uint8 frames (1, H, W, 3) at network size, for INT8 ranges and for parity. metric: the heads'
    metrics of any function of a frame; two threads may call it at the same time. budget: how much of them a variant may
    lose. validation: the frames that the metric runs over, as it hands them on; the report shows the worst of them;
    further: the frames of the metric's further domains. domain: the training domain's statistics. reliability: of the
    heads' scores, by head. calibrated_on: how the calibration frames were chosen. dataset_classes: as in the manifest.
    passes: what the float graph goes through. trials_key: of all that a trial depends on besides graph and engine;
    empty to keep none on disk.
    """

    name: str
    source: Source
    heads: tuple[Head, ...]
    preprocess: Preprocess
    calibration: Sequence[NDArray[np.uint8]]
    frames: Sequence[NDArray[np.uint8]]
    metric: Metric
    metric_name: str
    budget: Budget
    targets: Sequence[str]
    provenance: Provenance
    validation: Sequence[NDArray[np.uint8]] = ()
    further: Sequence[NDArray[np.uint8]] = ()
    latency_runs: int = 60
    sections: Sequence[Section] = ()
    domain: Domain | None = None
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    calibrated_on: Calibration | None = None
    passes: Sequence[Pass] = PASSES
    trials_key: str = ""
    dataset_classes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


Rows = Sequence[Mapping[str, NDArray[np.generic]]]
"""Outputs by frame."""
RunAll = Callable[[Iterable[NDArray[np.uint8]]], Iterator[Mapping[str, NDArray[np.generic]]]]


@dataclass(frozen=True, slots=True)
class Domain:
    """Statistics of the training domain: about which output, of how many images, and a function that writes them.

    write is given the chosen pair, and that as a function of frames, which need not stay, to their outputs in order: so
    its rounding is in the statistics.
    """

    output: str
    images: int
    write: Callable[[Path, RunAll, Pair], None]


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
    request: ExportRequest,
    out: Path,
    *,
    force: bool = False,
    say: Callable[[str], None] = to_stderr,
) -> Exported:
    """Make the bundle `out`. Nothing is left there, and an old bundle stays, when anything fails.

    Raises GateFailed for a hop that does not hold, InputError for an unknown target or a path in the way.
    """
    refuse_existing(out, force=force)
    for target in request.targets:
        get_target(target)
    request.budget.check(request.heads)
    clock = _Clock(say)
    with (
        scratch_directory("edgetl-export") as work,
        publish_directory(out, force=force, say=say) as new,
        Shipped() as shipped,
        telling(say),
    ):
        request = _overlap_said(request, say)
        clock.begin(f"{request.source.name} to ONNX")
        source = _watched(request, request.source.infer)
        tensors, outputs = _on_parity_frames(request)
        written = write_onnx(request.source, work)
        clock.begin(f"{request.source.name}, on the validation set")
        reference = _reference(request, tensors, outputs, source, written, shipped, say)
        clock.begin("passes")
        graph, hops = compile_float(request.source, written, reference, work, new, passes=request.passes, say=say)
        clock.begin(f"float engines; watching {len(request.calibration)} frames for INT8")
        (candidates, left_out), quantiser = both_at_once(
            lambda: _float_candidates(graph, reference, request.source.probes, say),
            lambda: quantiser_of(graph.probe_file, request.source.probes, request.calibration, work=work, ship=new),
        )
        compiled = any(get_target(name).compiler != "none" for name in request.targets)
        (work / "engines").mkdir()
        check = partial(check_graphs, targets=request.targets, engines=work / "engines")
        clock.begin("INT8" + ("; FP16 for TensorRT" if compiled else ""))
        found, typed = both_at_once(
            lambda: search(quantiser, reference, floats=candidates, say=say),
            lambda: float_graphs(graph, reference, check, say=say) if compiled else Typed(),
        )
        candidates += [*found.bf16, *found.candidates]
        left_out += found.left_out
        clock.begin("latency, all engines in turn")
        latencies = time_candidates(candidates, request.frames[0], runs=request.latency_runs, shipped=shipped)
        chosen = choose(candidates, latencies)
        best = next(c.pair for c in candidates if c.key == f"{chosen.engine}/{chosen.variant}")
        samples = _Samples(request, best, infer_of(shipped.engine(best)))
        rows = samples.take(best, infer_of(shipped.engine(best)))
        for pair in [c.pair for c in candidates if c.pair.variant in SHIPPED_ANYWAY and c.pair.key != best.key]:
            samples.take(pair, infer_of(shipped.engine(pair)))
        shipped.leave(best)
        clock.begin("golden samples" + ("; INT8 for TensorRT" if compiled else ""))

        def for_targets() -> tuple[Typed, dict[str, TargetResult]]:
            both = typed
            if compiled:
                both += int8_graph(quantiser, found, reference, typed.largest, check, say=say)
            results = target_results(both, request.targets, chosen, new)
            devices = for_devices(both.candidates, results)
            at_once([partial(_sample_for_device, request, candidate, samples, work) for candidate in devices])
            return both, results

        (typed, results), worst = both_at_once(
            for_targets, lambda: _golden(request, best, new, source, reference, samples, rows)
        )
        samples.write(new / "golden.npz")
        left_out += typed.left_out
        clock.begin("writing the bundle")
        times = {f"{row.engine}/{row.variant}": row.p50_ms for row in latencies}
        hops.insert(0, _base(reference))
        made = _Made(
            graph, hops, candidates, typed.candidates, latencies, chosen, results, left_out, worst, samples.engines
        )
        record = search_record(found, len(quantiser.eligible), times)
        manifest = _write(request, made, record, new)
        clock.begin("")
    return Exported(out, manifest, clock.seconds)


@dataclass(frozen=True, slots=True)
class _Made:
    """All that an export found out, for the manifest."""

    graph: FloatGraph
    hops: list[Hop]
    candidates: list[Candidate]
    typed: Sequence[Candidate]
    latencies: list[Latency]
    chosen: Chosen
    targets: dict[str, TargetResult]
    left_out: list[str]
    worst: Worst
    golden_engines: dict[str, EngineName]


class _Samples:
    """Golden samples: what each pair that ships gives for some parity frames.

    infer: the chosen pair. Frames on which it is sure of a box come first, since only scores are compared on others.
    engines: by name of the samples, as in the manifest.
    """

    def __init__(self, request: ExportRequest, chosen: Pair, infer: Infer) -> None:
        frames = request.frames
        boxes = [head for head in request.heads if isinstance(head, DetectHead)]
        silent = [not all(_sure(head, outputs) for head in boxes) for outputs in map(infer, frames)]
        order = sorted(range(len(frames)), key=silent.__getitem__)
        self.frames = [frames[i] for i in order[:GOLDEN_FRAMES]]
        self._names, self._chosen = _head_outputs(request), chosen
        self._outputs: dict[str, dict[str, NDArray[np.generic]]] = {}
        self.engines: dict[str, EngineName] = {}

    def take(self, pair: Pair, infer: Infer) -> list[dict[str, NDArray[np.generic]]]:
        """The pair's answers to the frames, which are kept."""
        rows = [{name: np.array(array) for name, array in infer(frame).items()} for frame in self.frames]
        self._outputs[self._name(pair)] = {name: np.concatenate([row[name] for row in rows]) for name in self._names}
        if pair.key != self._chosen.key:
            self.engines[self._name(pair)] = pair.engine
        return rows

    def allowance(self, heads: Sequence[Head], outputs: Rows, *, side: int) -> dict[str, float]:
        """What another engine than the one that gave these may differ by, by head."""
        rounded = {name: np.concatenate([row[name] for row in outputs]) for name in self._names}
        return allowance(heads, self._outputs[FLOAT], rounded, side=side)

    def _name(self, pair: Pair) -> str:
        """The variant's, of its first engine, which for the chosen variant is the chosen one."""
        first = self._chosen.engine if pair.variant == self._chosen.variant else self.engines.get(pair.variant)
        return pair.variant if first in (None, pair.engine) else sample_name(pair.variant, pair.engine)

    def write(self, path: Path) -> None:
        """The file that travels in the bundle."""
        others = {name: outputs for name, outputs in self._outputs.items() if name != self._chosen.variant}
        write_golden(path, Golden(np.concatenate(self.frames), self._outputs[self._chosen.variant], others))


def _sure(head: DetectHead, outputs: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether a box reaches the threshold of its label."""
    limits = np.asarray(head.thresholds).take(np.asarray(outputs["classes"]).astype(np.intp), mode="clip")
    return bool((np.asarray(outputs["scores"]) >= limits).any())


def _watched(request: ExportRequest, infer: Infer) -> Watched:
    """A network that keeps what its heads say of the validation frames."""
    return Watched(infer, request.validation, _head_outputs(request))


def _on_parity_frames(request: ExportRequest) -> tuple[list[dict[str, NDArray[np.float32]]], Rows]:
    """The tensors and the outputs that the source gives on the parity frames. Raises GateFailed where it ignores its
    input.
    """
    outputs = []

    def infer(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        found = request.source.infer(frame)
        outputs.append({name: np.array(found[name]) for name in _head_outputs(request)})
        return found

    tensors = record(infer, request.frames, request.source.probes)
    if not other_input_other_output(tensors):
        raise GateFailed("the network gives the same output for different frames")
    return tensors, outputs


def _reference(
    request: ExportRequest,
    tensors: Sequence[dict[str, NDArray[np.float32]]],
    outputs: Rows,
    watched: Watched,
    written: Written,
    shipped: Shipped,
    say: Callable[[str], None],
) -> Reference:
    """The source itself, by its tensors on the parity frames and its metric on the validation set.

    Its answers are those of a former export where that had the same graph from torch.export and the same frames, or
    those that it is known by otherwise.
    """
    source, trials = request.source, Trials(request.trials_key)
    frames, finite = [*request.validation, *request.further], Finite(_head_outputs(request))
    whole = exporter_of(written.path) == CAPTURED
    known: Mapping[str, NDArray[np.generic]] | None = None
    if whole:
        known = trials.answers(written.path, source.name, len(frames))
    if known is None and (known := _confirmed(request, frames, outputs)) is not None:
        say(f"  known: it gives the same bits for {len(request.frames)} frames now")
    if known is not None:
        rows = {id(frame): {name: array[i] for name, array in known.items()} for i, frame in enumerate(frames)}
        measured = request.metric(finite.through(watched.through(lambda frame: rows[id(frame)])))
    else:
        answers = Answers(_head_outputs(request))
        with source.crew() as crew:
            measured = request.metric(finite.through(watched.through(answers.through(source.name, crew.over(frames)))))
        made = answers.all_of(source.name, frames)
        if whole and made is not None:
            trials.keep_answers(written.path, source.name, made)
    for head in request.heads:
        if math.isfinite(measured.value) and not math.isfinite(measured.heads.get(head.name, math.nan)):
            raise InputError(
                f"nothing in the validation set is labelled to judge the head {head.name} by",
                remedy="give other or more images",
            )
    for name, found in {"the validation set": measured, **measured.domains}.items():
        if not math.isfinite(found.value):
            raise InputError(f"nothing in {name} is labelled to judge a head by", remedy="give other or more images")
    for label in request.budget.unheld(measured):
        raise InputError(
            f"nothing is labelled {label} in the frames of the metric, so that its budget can't be held",
            remedy="give other or more images, or no budget for it",
        )
    return Reference(
        name=source.name,
        frames=request.frames,
        probes=source.probes,
        tensors=tensors,
        measured=measured,
        metric=request.metric,
        metric_name=request.metric_name,
        budget=request.budget,
        trials=trials,
        validation=frames,
        shipped=shipped,
        answers=Answers(_kept_outputs(request)),
        outputs=_head_outputs(request),
        not_finite=finite.not_finite,
    )


def _confirmed(
    request: ExportRequest, frames: Sequence[NDArray[np.uint8]], outputs: Rows
) -> Mapping[str, NDArray[np.generic]] | None:
    """What the source is known to answer to these frames, where it gives the same bits for the parity frames now.

    outputs: those.
    """
    place = {id(frame): i for i, frame in enumerate(frames)}
    known = request.source.answers(frames)
    if known is None or set(known) != set(_head_outputs(request)):
        return None
    for frame, now in zip(request.frames, outputs, strict=True):
        at = place.get(id(frame))
        if at is None or any(not np.array_equal(now[name], array[at]) for name, array in known.items()):
            return None
    return known


def _kept_outputs(request: ExportRequest) -> list[str]:
    """What is asked of the chosen pair once more: its heads' outputs, and what the domain is known by."""
    names = _head_outputs(request)
    return names if request.domain is None else [*names, request.domain.output]


def _head_outputs(request: ExportRequest) -> list[str]:
    return [name for head in request.heads for name in head.outputs]


def _base(reference: Reference) -> Hop:
    """The hop that all others are compared with."""
    trial = trial_of(SAME, reference.measured)
    note = "the reference" + (f", NOT FINITE on {reference.not_finite} frames" if reference.not_finite else "")
    return hop_of(reference.name, reference.metric_name, trial, passed=True, note=note)


def _float_candidates(
    graph: FloatGraph, reference: Reference, probes: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Candidate], list[str]]:
    """The float graph on every engine here, in every precision that it runs it in by itself."""
    layers = layers_of(graph.model, probes)

    def judged(engine: EngineName, precision: Precision) -> Candidate | str:
        pair = Pair(variant=precision, precision=precision, engine=engine, probe_file=graph.probe_file, file=graph.file)
        say(f"  {pair.key}")
        found = judge(pair, reference)
        return found if isinstance(found, str) or engine != "openvino" else proved(found, reference.shipped, layers, ())

    found = at_once([partial(judged, *runner) for runner in FLOAT_RUNNERS])
    return [c for c in found if isinstance(c, Candidate)], [c for c in found if isinstance(c, str)]


def _golden(
    request: ExportRequest,
    pair: Pair,
    new: Path,
    source: Watched,
    reference: Reference,
    samples: _Samples,
    rows: Rows,
) -> Worst:
    """The training domain as the chosen pair sees it, and where it differs most. rows: what it gave for the samples.

    Validation frames are not run again where the pair as it ships gives the same bits on every parity frame as it did
    with probes. Raises GateFailed where the engine with all threads answers otherwise than those that accuracy was
    measured with.
    """
    with crew_of(pair.engine, pair.file, pair.precision) as crew:
        one = crew.over(request.validation)
        between = f"{pair.key} with one thread a frame and itself with all threads"
        limit = TOLERANCE if pair.precision == "fp32" else TOLERANCE_REDUCED
        limits = dict.fromkeys((head.name for head in request.heads), limit)
        _same_answers(request, rows, [one(f) for f in samples.frames], between=between, limits=limits)
        watched = _watched(request, one)
        known = _known(request, pair, crew.over(request.frames), reference)
        for frame in request.validation:
            if outputs := known(frame):
                watched.keep(frame, outputs)
        if request.domain is not None:
            request.domain.write(
                new / "domain.npz", lambda frames: _kept(watched, crew.each(frames, copied, known=known)), pair
            )
        return worst_frames(request.heads, source, watched, names=(request.source.name, pair.key))


def _sample_for_device(request: ExportRequest, candidate: Candidate, samples: _Samples, work: Path) -> None:
    """Take samples of a graph for a device as it ships. Raises GateFailed where that is not the one that was judged."""
    pair = candidate.pair
    with crew_of(pair.engine, computed_here(pair, work), pair.computed_in) as crew:
        infer = crew.over(request.frames)
        answers = {id(frame): infer(frame) for frame in request.frames}
    rows = samples.take(pair, lambda frame: answers[id(frame)])
    if digest_of([answers[id(frame)] for frame in request.frames], _head_outputs(request)) == candidate.outputs:
        return
    with crew_of(pair.engine, pair.probe_file, pair.computed_in) as crew:
        infer = crew.over(samples.frames)
        judged = [infer(frame) for frame in samples.frames]
    between = f"what ships of {pair.key} and what was judged"
    limits = samples.allowance(request.heads, judged, side=max(request.preprocess.size_hw))
    _same_answers(request, rows, judged, between=between, limits=limits)


def _known(
    request: ExportRequest, pair: Pair, infer: Infer, reference: Reference
) -> Callable[[NDArray[np.uint8]], Mapping[str, NDArray[np.generic]] | None]:
    """What the pair answered while it was judged; nothing where `infer` gives other bits, or it was not judged now."""
    for frame in request.frames:
        before = reference.answers.of(pair.key, frame)
        now = infer(frame) if before is not None else {}
        if before is None or any(not np.array_equal(now[name], array) for name, array in before.items()):
            return lambda frame: None
    return lambda frame: reference.answers.of(pair.key, frame)


def _kept(
    watched: Watched, run: Iterable[tuple[NDArray[np.uint8], Mapping[str, NDArray[np.generic]]]]
) -> Iterator[Mapping[str, NDArray[np.generic]]]:
    """The outputs, which are kept of frames that are watched."""
    for frame, outputs in run:
        watched.keep(frame, outputs)
        yield outputs


def _same_answers(
    request: ExportRequest,
    rows: Rows,
    others: Rows,
    *,
    between: str,
    limits: Mapping[str, float],
) -> None:
    """Raise GateFailed where two ways to run a pair answer otherwise. limits: by head."""
    side = max(request.preprocess.size_hw)
    for head in request.heads:
        error = max(head_error(head, row, other, side=side) for row, other in zip(rows, others, strict=True))
        if error > limits[head.name]:
            raise GateFailed(
                f"between {between} the answers differ by {error:.2g}, more than {limits[head.name]:.0e}; "
                "nothing is shipped"
            )


def _variants(made: _Made, new: Path) -> tuple[Variant, ...]:
    """Every graph that may run somewhere; of the search's trials only the one that was chosen."""
    variants: dict[str, Variant] = {}
    devices = for_devices(made.typed, made.targets)
    for c in (*made.candidates, *made.typed):
        wanted = c in devices or c.key == f"{made.chosen.engine}/{made.chosen.variant}"
        if not wanted and c.pair.variant not in SHIPPED_ANYWAY:
            continue
        engine: EngineName = "tensorrt" if c in made.typed else c.pair.engine
        engines = (*(variants[c.pair.variant].engines if c.pair.variant in variants else ()), engine)
        name, file = c.pair.variant, c.pair.file.relative_to(new).as_posix()
        variants[name] = Variant(name=name, file=file, precision=c.pair.precision, engines=engines)
    return tuple(variants.values())


def _overlap_said(request: ExportRequest, say: Callable[[str], None]) -> ExportRequest:
    """The request, whose record of calibration says how many of its frames are frames of the metric as well."""
    judged = {frame.tobytes() for frame in (*request.validation, *request.further)}
    count = sum(frame.tobytes() in judged for frame in request.calibration)
    if not count:
        return request
    say(f"{count} of {len(request.calibration)} calibration frames are frames of the metric, too")
    record = request.calibrated_on
    if record is not None:
        record = structs.replace(record, strata={**record.strata, JUDGED: count})
    return replace(request, calibrated_on=record)


def _write(
    request: ExportRequest,
    made: _Made,
    search_: Search,
    new: Path,
) -> Manifest:
    variants = _variants(made, new)
    for path in new.glob("model.*.onnx"):
        if path.name not in {v.file for v in variants}:
            path.unlink()
    for head in request.heads:
        (new / f"labels.{head.name}.txt").write_text("\n".join(head.labels) + "\n", encoding="utf-8")
    calibrated_on = request.calibrated_on
    if calibrated_on is not None:
        by = {trial.variant: trial.calibrator for trial in search_.trials}
        method = by.get(made.chosen.variant) or next(iter(by.values()), "")
        calibrated_on = structs.replace(calibrated_on, method=method)
    domain = None
    if request.domain is not None:
        domain = DomainStatistics(file="domain.npz", output=request.domain.output, images=request.domain.images)

    def manifest_of(paths: Sequence[Path]) -> Manifest:
        return Manifest(
            schema_version=SCHEMA_VERSION,
            name=request.name,
            heads=request.heads,
            preprocess=request.preprocess,
            inputs=made.graph.inputs,
            outputs=made.graph.outputs,
            variants=variants,
            chosen=made.chosen,
            targets=made.targets,
            hops=(*made.hops, *(c.hop for c in (*made.candidates, *made.typed))),
            latencies=tuple(made.latencies),
            golden="golden.npz",
            files={p.relative_to(new).as_posix(): file_entry(p) for p in sorted(paths)},
            provenance=request.provenance,
            domain=domain,
            reliability=dict(request.reliability),
            search=search_,
            calibration=calibrated_on,
            budget=AccuracyBudget(head=request.budget.head, classes=dict(request.budget.classes)),
            dataset_classes={head: dict(names) for head, names in request.dataset_classes.items()},
            golden_engines=made.golden_engines,
        )

    write_sbom(new, name=request.name, provenance=request.provenance, files=[p for p in new.rglob("*") if p.is_file()])
    draft = manifest_of([p for p in new.rglob("*") if p.is_file()])
    page = bundle_report(draft, before=request.sections, left_out=made.left_out, worst=made.worst)
    (new / "report.html").write_text(page, encoding="utf-8")
    manifest = manifest_of([p for p in new.rglob("*") if p.is_file()])
    write_manifest(new, manifest)
    open_bundle(new)
    return manifest
