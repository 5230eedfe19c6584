"""Pairs of a compiled graph and an engine: held against the reference by tensor and by metric, timed, chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl_export.budget import Budget, Measured, Metric
from edgetl_export.crew import Crew, crew_of
from edgetl_export.parity import Finite, Infer, compare, digest_of, record
from edgetl_export.trials import Trial, Trials, trial_of
from edgetl_runtime.bench import BASELINE, measure
from edgetl_runtime.engines import Engine, available_engines, load_engine
from edgetl_runtime.errors import EngineError, GateFailed
from edgetl_runtime.spec import Chosen, EngineName, Hop, Latency, Precision, Scores

FLOAT_RUNNERS: tuple[tuple[EngineName, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
"""Engines that run a float graph on a CPU, in every precision that they run it in by themselves."""

FP32_REL_ERROR = 1e-2
"""What two correct fp32 engines may differ by, in the worst cell of a map."""


WARMUP = 5
"""Runs of each pair before any is timed."""
SURE = {10: 1, 20: 4}
"""After so many runs pairs leave the race that can't win it; of the sorted times the place from either end that bounds
the median."""
KEPT_BYTES = 256 << 20
"""Of outputs that are kept."""
Tensors = Sequence[Mapping[str, NDArray[np.float32]]]
"""By name, for each parity frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A variant on an engine. probe_file: its ONNX with inner tensors as outputs; file: as it ships.

    float_layers: names of the layers that were left in float on purpose. for_device: no engine here runs what ships as
    the device does; probe_file computes the same.
    """

    variant: str
    precision: Precision
    engine: EngineName
    probe_file: Path
    file: Path
    float_layers: tuple[str, ...] = ()
    for_device: bool = False

    @property
    def key(self) -> str:
        """`engine/variant`, as tables and JSON name it."""
        return f"{self.engine}/{self.variant}"

    @property
    def computed_in(self) -> Precision:
        """What its engine here is asked for: an FP16 graph for a device is float32 that rounds by itself."""
        return "fp32" if self.for_device and self.precision == "fp16" else self.precision


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that runs here, with what was found of it; outputs: a digest of them, as in Trial."""

    pair: Pair
    measured: Measured
    hop: Hop
    outputs: str = ""

    @property
    def key(self) -> str:
        """`engine/variant`."""
        return self.pair.key


class Answers:
    """What networks answered while their accuracy was measured: whoever asks again need not run them.

    names: of the outputs to keep. Frames are told apart by identity and must stay alive. What is more than KEPT_BYTES
    in all is not kept.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = tuple(names)
        self._kept: dict[str, dict[int, Mapping[str, NDArray[np.generic]]]] = {}
        self._bytes = 0

    def through(self, key: str, infer: Infer) -> Infer:
        """A network as a function of a frame, whose outputs stay, keeping them under this key."""
        kept = self._kept.setdefault(key, {})

        def keeping(frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
            outputs = infer(frame)
            row = {name: outputs[name] for name in self._names}
            size = sum(array.nbytes for array in row.values())
            if self._names and id(frame) not in kept and self._bytes + size <= KEPT_BYTES:
                self._bytes += size
                kept[id(frame)] = row
            return outputs

        return keeping

    def of(self, key: str, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]] | None:
        """What was answered to this frame, None where that was not kept."""
        return self._kept.get(key, {}).get(id(frame))

    def all_of(self, key: str, frames: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.generic]] | None:
        """What was answered to all of these, (N, ...) by output; None where one is missing."""
        kept = self._kept.get(key, {})
        if not frames or any(id(frame) not in kept for frame in frames):
            return None
        return {name: np.stack([kept[id(frame)][name] for frame in frames]) for name in self._names}


class Shipped:
    """Engines of pairs as they ship, each loaded once; use as a context manager, which closes them."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str, Path], Engine] = {}

    def __enter__(self) -> Shipped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def engine(self, pair: Pair) -> Engine:
        """The pair's engine, with all threads. Raises EngineError where it does not load."""
        key = (pair.key, pair.file)
        if key not in self._engines:
            self._engines[key] = load_engine(pair.engine, pair.file, precision=pair.precision)
        return self._engines[key]

    def leave(self, pair: Pair) -> None:
        """Close all but this pair's."""
        kept = (pair.key, pair.file)
        for key in [key for key in self._engines if key != kept]:
            self._engines.pop(key).close()

    def close(self) -> None:
        """Close all."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What every pair is held against: tensors on the parity frames, and the metric, of the network itself.

    validation: the frames that the metric asks for, as it hands them on; none where that is not known. shipped: pairs
    that are loaded. answers: of pairs to the frames of the metric. outputs: what a network ships with, none where that
    is not known. not_finite: on how many frames of the metric one of them is not, of the network itself.
    """

    name: str
    frames: Sequence[NDArray[np.uint8]]
    probes: Sequence[str]
    tensors: Sequence[dict[str, NDArray[np.float32]]]
    measured: Measured
    metric: Metric
    metric_name: str
    budget: Budget
    trials: Trials = field(default_factory=lambda: Trials(""))
    validation: Sequence[NDArray[np.uint8]] = ()
    shipped: Shipped = field(default_factory=Shipped)
    answers: Answers = field(default_factory=Answers)
    outputs: Sequence[str] = ()
    not_finite: int = 0

    def measure(self, crew: Crew, pair: Pair | None = None) -> tuple[Measured, int]:
        """The metric of what a crew runs, and on how many of its frames an output was not finite; the answers of a pair
        are kept.
        """
        finite = Finite(self.outputs)
        infer = finite.through(crew.over(self.validation))
        return self.metric(infer if pair is None else self.answers.through(pair.key, infer)), finite.not_finite

    def record(self, crew: Crew) -> list[dict[str, NDArray[np.float32]]]:
        """The probed tensors and the outputs of what a crew runs, on the parity frames."""
        return record(crew.over(self.frames), self.frames, [*self.probes, *self.outputs])

    def trial(self, crew: Crew, rows: Sequence[Mapping[str, NDArray[np.float32]]], pair: Pair | None = None) -> Trial:
        """All that is to be known of what a crew runs. rows: what `record` gave of it."""
        measured, not_finite = self.measure(crew, pair)
        outputs = digest_of(rows, self.outputs)
        return trial_of(compare(self.tensors, rows), measured, not_finite=not_finite, outputs=outputs)


def judge(pair: Pair, reference: Reference, believe: Callable[[Tensors], bool] = lambda rows: True) -> Candidate | str:
    """The pair's parity and metric, or why it can't run here. believe: whether what it gave on the parity frames can be
    what it is to compute; asked before its metric is measured.

    It passes when nothing lies further under the reference than the budget allows, and every output is finite on every
    frame of the metric on which the reference's are. Raises GateFailed when an fp32 engine does not give what the
    reference gives.
    """
    if pair.engine not in available_engines():
        return f"{pair.key}: the package is not installed"
    try:
        trial = reference.trials.recall(
            pair.probe_file, pair.engine, pair.computed_in, lambda: run_trial(pair, reference, believe), ships=pair.file
        )
    except EngineError as error:
        return f"{pair.key}: {error.message}"
    if pair.precision == "fp32" and trial.max_rel_error > FP32_REL_ERROR:
        raise GateFailed(
            f"{pair.engine} at fp32 differs from {reference.name} by {trial.max_rel_error:.2g} in {trial.tensor} "
            f"(frame {trial.frame}), more than {FP32_REL_ERROR:.2g}; nothing is shipped"
        )
    verdict = reference.budget.judge(reference.measured, trial.measured)
    note = f"{verdict.note.replace('points', f'points against {reference.name}', 1)}"
    finite = trial.not_finite <= reference.not_finite
    if not finite:
        note += f", NOT FINITE on {trial.not_finite} frames"
    passed = verdict.ok and finite
    hop = hop_of(pair.key, reference.metric_name, trial, passed=passed, note=note)
    return Candidate(pair, trial.measured, hop, trial.outputs)


def run_trial(pair: Pair, reference: Reference, believe: Callable[[Tensors], bool] = lambda rows: True) -> Trial:
    """Run a pair with probes over the parity frames, and over the validation set as it ships.

    An engine fuses other layers where inner tensors are outputs, so that the graph that ships may round otherwise.
    Where both give the same bits on every parity frame, one stands for the other. Raises EngineError where `believe`
    says no.
    """
    ships = _digest_as_it_ships(pair, reference)
    known = reference.trials.known(pair.probe_file, pair.engine, pair.computed_in)
    if known is not None and known.outputs == ships:
        return known
    with crew_of(pair.engine, pair.probe_file, pair.computed_in) as crew:
        rows = reference.record(crew)
        if not believe(rows):
            raise EngineError("it computes something else here")
        if pair.for_device or digest_of(rows, reference.outputs) == ships:
            return reference.trial(crew, rows, pair)
    with crew_of(pair.engine, pair.file, pair.precision) as crew:
        return reference.trial(crew, rows, pair)


def _digest_as_it_ships(pair: Pair, reference: Reference) -> str:
    if pair.for_device or not reference.outputs:
        return ""
    rows = record(infer_of(reference.shipped.engine(pair)), reference.frames, reference.outputs)
    return digest_of(rows, reference.outputs)


def hop_of(name: str, metric: str, trial: Trial, *, passed: bool, note: str) -> Hop:
    """A trial as the manifest keeps it."""
    own = scores_of(trial.measured)
    return Hop(
        hop=name,
        metric=metric,
        value=own.value,
        max_rel_error=trial.max_rel_error,
        cosine=trial.cosine,
        passed=passed,
        note=note,
        heads=own.heads if len(own.heads) > 1 else {},
        classes=own.classes,
        domains={name: scores_of(measured) for name, measured in trial.measured.domains.items()},
    )


def scores_of(measured: Measured) -> Scores:
    """What was measured on one set of frames, as the manifest keeps it."""
    classes = {head: {k: _finite(v) for k, v in values.items()} for head, values in measured.classes.items()}
    return Scores(value=measured.value, heads=dict(measured.heads), classes=classes)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def recorded(
    engine: EngineName, file: Path, precision: Precision, frames: Sequence[NDArray[np.uint8]], probes: Sequence[str]
) -> list[dict[str, NDArray[np.float32]]]:
    """What a graph on an engine gives for these frames. Raises EngineError."""
    loaded = load_engine(engine, file, precision=precision)
    try:
        return record(infer_of(loaded), frames, probes)
    finally:
        loaded.close()


def infer_of(engine: Engine) -> Infer:
    """An engine as a function of one frame."""
    name = engine.inputs[0].name
    return lambda frame: engine.infer({name: frame})


def time_candidates(
    candidates: Sequence[Candidate],
    frame: NDArray[np.uint8],
    *,
    runs: int,
    shipped: Shipped | None = None,
    on_round: Callable[[int], None] | None = None,
) -> list[Latency]:
    """Latency of every pair, all loaded at once and run in turn, so that noise meets all alike.

    After some runs those end whose median is beyond doubt above that of a pair within the budget: see `contenders`. The
    BASELINE stays to the end: what is compared with it was timed as often, in the same rounds.
    """
    stages = [*(n for n in SURE if n < runs), runs]
    with Shipped() as own:
        engines = {c.key: (shipped or own).engine(c.pair) for c in candidates}
        calls = {key: (lambda e=engine: e.infer({e.inputs[0].name: frame})) for key, engine in engines.items()}
        times: dict[str, list[float]] = {c.key: [] for c in candidates}
        done, left = 0, list(calls)
        for stage in stages:
            warmup = 0 if done else WARMUP
            more = measure({key: calls[key] for key in left}, runs=stage - done, warmup=warmup, on_round=on_round)
            for key, values in more.items():
                times[key] += values
            done = stage
            if stage < runs:
                within = {c.key for c in candidates if c.hop.passed and c.key in left}
                still = contenders({key: times[key] for key in left}, within)
                left = [key for key in left if key in still or key == BASELINE]
    rows = []
    for c in candidates:
        p50, p95, p99 = (float(v) for v in np.percentile(times[c.key], [50, 95, 99]))
        rows.append(
            Latency(
                engine=c.pair.engine,
                variant=c.pair.variant,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                runs=len(times[c.key]),
            )
        )
    return rows


def contenders(times_ms: Mapping[str, Sequence[float]], within: Collection[str]) -> list[str]:
    """Which of those that were timed may still be the fastest, given those within the budget; all have as many times.

    A median lies between the order statistics k and n + 1 - k of n times but for 1 in 512 with 10 runs and 1 in 388
    with 20, however times are distributed; a pair is out where that lies above the same of a pair within the budget.
    """
    sure = SURE[len(next(iter(times_ms.values())))]
    lower = {key: sorted(values)[sure - 1] for key, values in times_ms.items()}
    upper = [sorted(times_ms[key])[-sure] for key in within]
    return [key for key in times_ms if not upper or lower[key] <= min(upper)]


def choose(candidates: Sequence[Candidate], latencies: Sequence[Latency]) -> Chosen:
    """The fastest pair within the budget by p50, of those with all runs: others were slower while they took part.

    Raises GateFailed when none is within it.
    """
    runs = max((r.runs for r in latencies), default=0)
    times = {f"{r.engine}/{r.variant}": r for r in latencies}
    candidates = [c for c in candidates if times[c.key].runs == runs]
    within = [c for c in candidates if c.hop.passed]
    if not within:
        by_value = sorted(candidates, key=lambda c: c.hop.value if math.isfinite(c.hop.value) else -1.0)
        nearest = "".join(f"; nearest is {c.key}: {c.hop.note}" for c in by_value[-1:])
        raise GateFailed(
            f"no variant meets the accuracy budget{nearest}",
            remedy="raise --max-drop or give more calibration frames",
        )
    best = min(within, key=lambda c: times[c.key].p50_ms)
    refused = [
        f"{c.key} ({times[c.key].p50_ms:.2f} ms, {c.hop.note.split(',')[0]})"
        for c in candidates
        if not c.hop.passed and times[c.key].p50_ms < times[best.key].p50_ms
    ]
    reason = f"fastest within the budget: {times[best.key].p50_ms:.2f} ms, {best.hop.note}"
    if refused:
        reason += f"; faster but over the budget: {', '.join(refused)}"
    return Chosen(variant=best.pair.variant, engine=best.pair.engine, reason=reason)
