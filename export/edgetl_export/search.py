"""Which layers stay in float so that INT8 keeps within the accuracy budget, in the least time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgetl_export.calibrate import CALIBRATORS, Calibrator, Observed, Range, observe, ranges
from edgetl_export.candidates import Candidate, Pair, Reference, infer_of, judge, recorded
from edgetl_export.crew import at_once
from edgetl_export.graph import load_model, save_model
from edgetl_export.islands import FloatNetwork, find_islands, keep_fp32, least_prefix, nodes_of, without_probes
from edgetl_export.layers import Layer, layers_of
from edgetl_export.parity import record, rms_error
from edgetl_export.passes.quantise import QuantisationPlan, Scheme, open_results, quantise, quantised_inputs
from edgetl_export.proof import prove, proved
from edgetl_runtime.engines import Engine, load_engine
from edgetl_runtime.errors import EngineError
from edgetl_runtime.progress import Progress
from edgetl_runtime.spec import EngineName, Precision, Search, SearchTrial, Sensitivity

RUNNERS: tuple[tuple[EngineName, Precision], ...] = (
    ("openvino", "int8-bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "int8"),
)
"""Engines that run U8S8 graphs, the fastest that was met first; the search is made on the first engine that runs
here."""

SCHEMES: Mapping[EngineName, Scheme] = {"onnxruntime": "u8s8-ort"}
"""Of engines that have a graph of their own where that differs from u8s8, which is everyone else's."""

SENSITIVITY_FRAMES = 4
FEWER_FLOAT_TRIES = 6


@dataclass(frozen=True, slots=True)
class Quantiser:
    """One float network and all that INT8 graphs of it are made from.

    model: with the probes as outputs. layers: of `layers_of`. observed: what they read, on the calibration frames.
    work, ship: folders for graphs with probes and without. opened: layers that `open_results` finds.
    """

    model: ModelProto
    layers: tuple[Layer, ...]
    observed: Mapping[str, Observed]
    probes: Sequence[str]
    work: Path
    ship: Path
    opened: frozenset[str] = frozenset()
    _ranges: dict[tuple[Calibrator, Scheme], dict[str, Range]] = field(default_factory=dict)

    @property
    def eligible(self) -> tuple[Layer, ...]:
        """Layers that may become INT8, not those that decoding reads: equal scores would make one object many."""
        return tuple(layer for layer in self.layers if not layer.decides)

    def scheme_for(self, engine: EngineName, float_layers: Collection[str] = ()) -> Scheme:
        """How this engine's graph is quantised: as all others' where it would come out the same."""
        return SCHEMES.get(engine, "u8s8") if self.opened.difference(float_layers) else "u8s8"

    def build(
        self,
        name: str,
        *,
        float_layers: Sequence[str] = (),
        calibrator: Calibrator = "minmax",
        scheme: Scheme = "u8s8",
        shipped: bool = True,
        islands: Sequence[str] = (),
    ) -> tuple[Path, Path]:
        """Write the graph with probes and, where it may ship, without; returns both paths.

        islands: layers that stay in float32 where they are not in INT8 and the rest runs in bf16.
        """
        if (calibrator, scheme) not in self._ranges:
            self._ranges[calibrator, scheme] = ranges(self.observed, calibrator, symmetric=scheme == "s8s8")
        left = set(float_layers)
        plan = QuantisationPlan(
            scheme=scheme,
            layers=frozenset(layer.name for layer in self.eligible if layer.name not in left),
            ranges=self._ranges[calibrator, scheme],
            means={tensor: seen.means for tensor, seen in self.observed.items()},
        )
        model = quantise(self.model, self.layers, plan)
        beside = [name for name in islands if name not in plan.layers]
        model = keep_fp32(model, nodes_of(self.model, self.layers, beside))
        probe_file, file = self.work / f"{name}.onnx", self.ship / f"model.{name}.onnx"
        save_model(model, probe_file)
        if shipped:
            save_model(without_probes(model, self.probes), file)
        return probe_file, file


def quantiser_of(
    probe_file: Path, probes: Sequence[str], calibration: Sequence[NDArray[np.uint8]], *, work: Path, ship: Path
) -> Quantiser:
    """Run the float graph over the calibration frames. Raises InputError without frames or with values not finite."""
    model = load_model(probe_file)
    layers = layers_of(model, probes)
    free = [layer for layer in layers if not layer.decides]
    results = set(open_results(model, free))
    seen = observe(probe_file, quantised_inputs(model, free), calibration, work)
    return Quantiser(
        model, layers, seen, probes, work, ship, frozenset(layer.name for layer in free if layer.output in results)
    )


def named(variant: str, scheme: Scheme) -> str:
    """What a variant is called in a U8S8 scheme: `int8`, and ONNX Runtime's own `int8-ort`."""
    return variant + scheme.removeprefix("u8s8")


@dataclass(slots=True)
class Found:
    """What a search came to: every candidate that was judged, why others were not, and the record of it.

    bf16: those in bf16 with `islands` of float32, candidates: those in INT8.
    """

    candidates: list[Candidate] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    calibrators: dict[str, float] = field(default_factory=dict)
    sensitivities: list[Sensitivity] = field(default_factory=list)
    used: dict[str, Calibrator] = field(default_factory=dict)
    refused: dict[str, Precision] = field(default_factory=dict)
    bf16: list[Candidate] = field(default_factory=list)
    islands: tuple[str, ...] = ()

    def calibrator_of(self, candidate: Candidate) -> Calibrator:
        """By which calibrator a candidate's ranges were chosen."""
        return self.used[candidate.pair.variant.removesuffix("-bf16")]


def search(
    quantiser: Quantiser, reference: Reference, *, floats: Sequence[Candidate] = (), say: Callable[[str], None]
) -> Found:
    """INT8 in every layer by the best calibrator; where that costs too much, fewer and fewer layers.

    What is tried, in this order: all calibrators by tensors alone; the best two by the metric; then the most sensitive
    layers in float, as few as the budget needs, found by halving; then single ones of them back to INT8. The rest is in
    bf16 first; where that finds nothing, in fp32. floats: the float candidates; where bf16 by itself is over the
    budget, layers are found that stay in float32 beside it, and stay so where the rest of an INT8 graph is in bf16;
    INT8 with the rest in fp32 is not searched then.
    """
    found = Found()
    over = {c.pair.precision for c in floats if c.pair.engine == RUNNERS[0][0] and not c.hop.passed}
    if "bf16" in over:
        say("  bf16 by itself costs more than the budget: which layers does it hurt?")
        network = FloatNetwork(quantiser.model, quantiser.layers, quantiser.probes, quantiser.work, quantiser.ship)
        bf16 = find_islands(network, reference, say=say)
        found.bf16, found.islands = bf16.candidates, bf16.layers
        over -= {"bf16"} if bf16.layers else set()
    first = _first(quantiser, found) if quantiser.eligible else None
    if first is None:
        found.left_out.append(f"INT8: no {'engine here runs it' if quantiser.eligible else 'layer can be quantised'}")
        return found
    runner, loaded = first
    best = _calibrated(quantiser, reference, runner, loaded, found)
    if len(found.refused) == len(quantiser.eligible):
        found.left_out.append(f"INT8: {runner[0]} runs every layer of this network in float")
        return found
    for place, calibrator in enumerate(best[:2]):
        variant = "int8" if place == 0 else f"int8-{calibrator}"
        say(f"  {variant}, calibrated by {calibrator}")
        runners = RUNNERS if place == 0 else (runner,)
        graphs = [quantiser.scheme_for(engine, found.refused) for engine, _ in runners]
        files = {
            scheme: _built(quantiser, found, named(variant, scheme), scheme, calibrator, tuple(found.refused))
            for scheme in dict.fromkeys(graphs)
        }
        calls = [
            partial(
                _judged, quantiser, found, reference, named(variant, scheme), files[scheme], each, tuple(found.refused)
            )
            for each, scheme in zip(runners, graphs, strict=True)
        ]
        judged = [_noted(found, each) for each in at_once(calls)]
        if any(c is not None and c.hop.passed and c.pair.engine == runner[0] for c in judged):
            return found
    say("  INT8 everywhere costs more than the budget: which layers does it hurt?")
    found.sensitivities = sensitivities(
        quantiser, reference, runner, best[0], scheme=quantiser.scheme_for(runner[0], found.refused)
    )
    for engine, precision in RUNNERS:
        rest = "bf16" if precision == "int8-bf16" else "fp32"
        if engine != runner[0]:
            continue
        if rest in over or (rest == "fp32" and found.islands):
            why = "by itself costs more than the budget" if rest in over else "is slower than bf16 with islands"
            say(f"  {rest} {why}: {precision} is not searched")
        elif _mixed(quantiser, reference, (engine, precision), best[0], found, say):
            break
    return found


def _calibrated(
    quantiser: Quantiser, reference: Reference, runner: tuple[EngineName, Precision], first: Engine, found: Found
) -> list[Calibrator]:
    """The calibrators, the one with the least error first; which layers the engine refuses is asked of its graph.

    first: the engine of CALIBRATORS' first; it is closed.
    """
    engines: dict[Calibrator, Engine] = {CALIBRATORS[0]: first}

    def error_of(name: Calibrator) -> float:
        if name not in engines:
            engines[name] = load_engine(runner[0], _graph_by(quantiser, name, runner[0]), precision=runner[1])
        rows = record(infer_of(engines[name]), reference.frames, reference.probes)
        return rms_error(reference.tensors, rows)

    try:
        errors = at_once([partial(error_of, name) for name in CALIBRATORS])
        found.calibrators.update(zip(CALIBRATORS, errors, strict=True))
        best = sorted(CALIBRATORS, key=lambda name: found.calibrators[name])
        if runner[0] == "openvino":
            found.refused = _refused(quantiser, engines[best[0]])
    finally:
        for engine in engines.values():
            engine.close()
    return best


def _graph_by(quantiser: Quantiser, calibrator: Calibrator, engine: EngineName) -> Path:
    """The INT8 graph by which a calibrator is judged."""
    return quantiser.build(
        f"by-{calibrator}", calibrator=calibrator, scheme=quantiser.scheme_for(engine), shipped=False
    )[0]


def _first(quantiser: Quantiser, found: Found) -> tuple[tuple[EngineName, Precision], Engine] | None:
    """The first of RUNNERS that runs an INT8 graph here, with that of CALIBRATORS' first."""
    for engine, precision in RUNNERS:
        graph = _graph_by(quantiser, CALIBRATORS[0], engine)
        try:
            loaded = load_engine(engine, graph, precision=precision)
        except Exception as error:
            reason = error.message if isinstance(error, EngineError) else str(error)
            found.left_out.append(f"{engine}/{precision}: {reason}")
            continue
        return (engine, precision), loaded
    return None


def _error(runner: tuple[EngineName, Precision], probe_file: Path, reference: Reference, frames: int) -> float:
    rows = recorded(runner[0], probe_file, runner[1], reference.frames[:frames], reference.probes)
    return rms_error(reference.tensors[:frames], rows)


def _refused(quantiser: Quantiser, engine: Engine) -> dict[str, Precision]:
    """Layers that OpenVINO runs in float although they are quantised: quantising them costs accuracy for nothing."""
    names = {layer.name for layer in quantiser.eligible}
    proof = prove(engine, quantiser.layers, names)
    return {name: found for name, found in proof.wrong.items() if name in names}


def _built(
    quantiser: Quantiser,
    found: Found,
    variant: str,
    scheme: Scheme,
    calibrator: Calibrator,
    float_layers: Sequence[str],
) -> tuple[Path, Path]:
    """The files of a variant, whose calibrator is noted."""
    found.used[variant] = calibrator
    return quantiser.build(
        variant, float_layers=float_layers, calibrator=calibrator, scheme=scheme, islands=found.islands
    )


def _noted(found: Found, judged: Candidate | str) -> Candidate | None:
    """Keep a candidate, or why there is none."""
    if isinstance(judged, str):
        if judged not in found.left_out:
            found.left_out.append(judged)
        return None
    found.candidates.append(judged)
    return judged


def _judged(
    quantiser: Quantiser,
    found: Found,
    reference: Reference,
    variant: str,
    files: tuple[Path, Path],
    runner: tuple[EngineName, Precision],
    float_layers: Sequence[str],
) -> Candidate | str:
    """A graph on an engine with its proof, or why it does not run."""
    engine, precision = runner
    name = variant if precision == "int8" else f"{variant}-bf16"
    pair = Pair(
        variant=name,
        precision=precision,
        engine=engine,
        probe_file=files[0],
        file=files[1],
        float_layers=tuple(float_layers),
    )
    judged = judge(pair, reference)
    if isinstance(judged, str):
        return judged
    int8 = {layer.name for layer in quantiser.eligible} - set(float_layers)
    islands = [name for name in found.islands if name not in int8] if precision == "int8-bf16" else []
    return proved(judged, reference.shipped, quantiser.layers, int8, fp32=islands)


def sensitivities(
    quantiser: Quantiser,
    reference: Reference,
    runner: tuple[EngineName, Precision],
    calibrator: Calibrator,
    *,
    scheme: Scheme = "u8s8",
) -> list[Sensitivity]:
    """The error of each layer alone in INT8, greatest first."""
    names = [layer.name for layer in quantiser.eligible]

    def row_of(number: int, layer: Layer) -> Sensitivity:
        others = [name for name in names if name != layer.name]
        probe_file, _ = quantiser.build(
            f"alone{number}", float_layers=others, calibrator=calibrator, scheme=scheme, shipped=False
        )
        error = _error((runner[0], "int8"), probe_file, reference, SENSITIVITY_FRAMES)
        probe_file.unlink()
        progress.step()
        return Sensitivity(layer=layer.name, op=layer.op, module=layer.module, macs=layer.macs, error=error)

    with Progress("sensitivity", len(names), unit="layers") as progress:
        rows = at_once([partial(row_of, i, layer) for i, layer in enumerate(quantiser.eligible)])
    return sorted(rows, key=lambda row: row.error, reverse=True)


def _mixed(
    quantiser: Quantiser,
    reference: Reference,
    runner: tuple[EngineName, Precision],
    calibrator: Calibrator,
    found: Found,
    say: Callable[[str], None],
) -> bool:
    """Judge graphs with the most sensitive layers in float; whether one was within the budget."""
    say(f"  {runner[1]} on {runner[0]}, the most sensitive layers in float")
    order = [row.layer for row in found.sensitivities if row.layer not in found.refused]

    def attempt(chosen: Sequence[str]) -> bool:
        float_layers = [*found.refused, *chosen]
        scheme = quantiser.scheme_for(runner[0], float_layers)
        variant = named(f"mixed{sum(v.startswith('mixed') for v in found.used)}", scheme)
        files = _built(quantiser, found, variant, scheme, calibrator, float_layers)
        judged = _judged(quantiser, found, reference, variant, files, runner, float_layers)
        candidate = _noted(found, judged)
        passed = candidate is not None and candidate.hop.passed
        if candidate is not None:
            verdict = "within the budget" if passed else "over the budget"
            say(f"  {len(chosen)} of {len(order)} layers in float: {candidate.hop.note}, {verdict}")
        return passed

    float_layers = least_prefix(order, attempt)
    if not float_layers:
        return False
    macs = {row.layer: row.macs for row in found.sensitivities}
    for layer in sorted(float_layers, key=lambda name: macs[name], reverse=True)[:FEWER_FLOAT_TRIES]:
        fewer = [name for name in float_layers if name != layer]
        if fewer and attempt(fewer):
            float_layers = fewer
    return True


def search_record(found: Found, layers: int, p50_ms: Mapping[str, float]) -> Search:
    """The search as the manifest keeps it; p50_ms: by `engine/variant`."""
    return Search(
        calibrators=found.calibrators,
        layers=layers,
        sensitivities=tuple(found.sensitivities),
        trials=tuple(_rows(found, p50_ms)),
    )


def _rows(found: Found, p50_ms: Mapping[str, float]) -> Iterator[SearchTrial]:
    for c in found.candidates:
        yield SearchTrial(
            variant=c.pair.variant,
            engine=c.pair.engine,
            precision=c.pair.precision,
            calibrator=found.calibrator_of(c),
            float_layers=c.pair.float_layers,
            value=c.hop.value,
            passed=c.hop.passed,
            note=c.hop.note,
            p50_ms=p50_ms.get(c.key),
        )
