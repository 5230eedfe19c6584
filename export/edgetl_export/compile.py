"""From a source to one float graph that every variant is made from; each step is held against the source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgetl_export.candidates import Reference, hop_of
from edgetl_export.crew import crew_of
from edgetl_export.graph import load_model, save_model, without_outputs
from edgetl_export.locate import locate, swapped_channels
from edgetl_export.parity import Infer, Parity, compare, record
from edgetl_export.passes import PASSES, Pass
from edgetl_export.source import Source
from edgetl_export.to_onnx import tensor_spec
from edgetl_export.trials import Trial
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.spec import Hop, TensorSpec

EXPORT_REL_ERROR = 1e-3
"""What a float graph may differ from its source by."""
FLOAT_DROP = 1e-3
"""What the metric of a float graph may lie over the budget, 0..1: two equal scores in another order are no fault."""
LAYER_REL_ERROR = 1e-2
"""From where on a layer counts as broken when the first bad one is looked for: one layer's rounding is far below."""


@dataclass(frozen=True, slots=True)
class FloatGraph:
    """probe_file: ONNX with the probes as outputs, file: as it ships; model: the former, loaded."""

    probe_file: Path
    file: Path
    model: ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A source's own ONNX file, and what is to be said of it."""

    path: Path
    note: str


def write_onnx(source: Source, work: Path) -> Written:
    """Write the source's ONNX into `work`."""
    path = work / "onnx.onnx"
    return Written(path, source.write(path))


def compile_float(
    source: Source,
    written: Written,
    reference: Reference,
    work: Path,
    ship: Path,
    *,
    passes: Sequence[Pass] = PASSES,
    say: Callable[[str], None],
) -> tuple[FloatGraph, list[Hop]]:
    """Put the source's ONNX through the passes, and gate every step.

    Raises GateFailed that names the first step and the first layer that broke the network.
    """
    steps = [_gated("onnx", written.note, written.path, None, reference)]
    for each in passes:
        say(f"  {each.name}")
        before, after = steps[-1], work / f"{each.name}.onnx"
        model, note = each.run(load_model(before.path))
        save_model(model, after)
        try:
            step = _gated(each.name, note, after, before, reference)
            if each.optional:
                _measured([step], reference)
        except GateFailed as error:
            if not each.optional:
                raise
            step = replace(before, name=each.name, note=f"left out: {error.message}")
        steps.append(step)
    hops = []
    for alike in _alike(steps):
        trial = _measured(alike, reference)
        hops += [hop_of(s.name, reference.metric_name, trial, passed=True, note=s.note) for s in alike]
    path = steps[-1].path
    model = load_model(path)
    file = ship / "model.fp32.onnx"
    save_model(without_outputs(model, source.probes), file)
    specs = tuple(tensor_spec(o) for o in model.graph.output if o.name in source.outputs)
    return FloatGraph(path, file, model, tuple(tensor_spec(i) for i in model.graph.input), specs), hops


@dataclass(frozen=True, slots=True)
class _Step:
    """One float graph whose tensors held: its file, that of the step before, and what it gave on the parity frames."""

    name: str
    note: str
    path: Path
    before: Path | None
    rows: list[dict[str, NDArray[np.float32]]]


def _gated(name: str, note: str, path: Path, before: _Step | None, reference: Reference) -> _Step:
    """Compare a float graph with the source on ONNX Runtime, tensor by tensor; one that did not change is not run."""
    if before is not None and path.read_bytes() == before.path.read_bytes():
        return replace(before, name=name, note=note)
    with crew_of("onnxruntime", path, "fp32") as crew:
        rows = reference.record(crew)
        step = _Step(name, note, path, before.path if before else None, rows)
        _check(step, reference, compare(reference.tensors, rows), crew.over(()))
    return step


def _alike(steps: Sequence[_Step]) -> list[list[_Step]]:
    """The steps, those together that follow one another with the same bits on every parity frame."""
    groups = [[steps[0]]]
    for step in steps[1:]:
        if _same_bits(groups[-1][-1].rows, step.rows):
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def _measured(alike: Sequence[_Step], reference: Reference) -> Trial:
    """The metric of steps that give the same bits, measured on the last of them, which stands for all.

    Raises GateFailed where it fell, for the first of them whose own did.
    """
    try:
        return _measured_alone(alike[-1], reference)
    except GateFailed:
        for step in alike[:-1]:
            _measured_alone(step, reference)
        raise


def _measured_alone(step: _Step, reference: Reference) -> Trial:
    def run() -> Trial:
        with crew_of("onnxruntime", step.path, "fp32") as crew:
            return reference.trial(crew, step.rows)

    trial = reference.trials.recall(step.path, "onnxruntime", "fp32", run)
    _check_metric(step, reference, trial)
    return trial


def _same_bits(a: Sequence[Mapping[str, NDArray[np.float32]]], b: Sequence[Mapping[str, NDArray[np.float32]]]) -> bool:
    return all(np.array_equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


def _check(step: _Step, reference: Reference, parity: Parity, infer: Infer) -> None:
    """Raise GateFailed with all that can be said about what broke."""
    if parity.max_rel_error <= EXPORT_REL_ERROR:
        return
    text = (
        f"the step {step.name!r} broke the network: {parity.tensor} differs by {parity.max_rel_error:.2g} "
        f"on frame {parity.frame}, more than {EXPORT_REL_ERROR:.0e}"
    )
    if step.before is not None:
        parting = locate(step.before, step.path, reference.frames[parity.frame], limit=LAYER_REL_ERROR)
        text += f"; {parting or 'every layer that both graphs have agrees'}"
    elif swapped_channels(infer, lambda other: _agrees(other, reference)):
        text += "; with red and blue of the frame swapped it agrees: the channel order is wrong"
    raise GateFailed(f"{text}; nothing is shipped")


def _check_metric(step: _Step, reference: Reference, trial: Trial) -> None:
    """Raise GateFailed where the metric fell although tensors agree: what differs is small beside the rest of them."""
    verdict = reference.budget.judge(reference.measured, trial.measured)
    if verdict.drop <= verdict.limit + FLOAT_DROP and trial.not_finite <= reference.not_finite:
        return
    strange = f", not finite on {trial.not_finite} frames" if trial.not_finite > reference.not_finite else ""
    parting = None
    if step.before is not None:
        parting = locate(step.before, step.path, reference.frames[0], limit=LAYER_REL_ERROR)
    raise GateFailed(
        f"the step {step.name!r} broke the network: {verdict.note} against {reference.name}{strange}, though tensors "
        f"agree to {EXPORT_REL_ERROR:.0e}{f'; {parting}' if parting else ''}; nothing is shipped",
        remedy="give more validation images, or raise --max-drop",
    )


def _agrees(infer: Infer, reference: Reference) -> bool:
    rows = record(infer, reference.frames, reference.probes)
    return compare(reference.tensors, rows).max_rel_error <= EXPORT_REL_ERROR
