"""Networks trained elsewhere: an ONNX file or a torch module with a spec file, to a bundle like any other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetl.data import Dataset
from edgetl.exporting import ExportOptions, metric_of, parity_frames, provenance, trials_key
from edgetl.heads import Scorable, kinds_of
from edgetl.metrics.agreement import AGREEMENT, Agreement
from edgetl.metrics.align import align, left_out
from edgetl.metrics.predict import Frames, Infer
from edgetl.shift.source import read_side
from edgetl_export.budget import over_domains
from edgetl_export.export import Exported, ExportRequest, export, to_stderr
from edgetl_export.foreign.decoders import decoder_name
from edgetl_export.foreign.source import Foreign, foreign
from edgetl_export.foreign.spec_file import SpecFile, read_spec
from edgetl_export.publish import refuse_existing
from edgetl_runtime.errors import InputError
from edgetl_runtime.spec import ClassifyHead, DetectHead, Head


def export_foreign(
    network: str,
    spec_file: Path,
    out: Path,
    options: ExportOptions,
    *,
    name: str | None,
    say: Callable[[str], None] = to_stderr,
) -> Exported:
    """Export a network from elsewhere; options.data: frames like those that it will see, for ranges and for the metric.

    name: of the bundle, else the spec's. Raises InputError for a spec, a network or data that don't fit each other.
    """
    refuse_existing(out, force=options.force)
    spec = read_spec(spec_file)
    if options.data is None:
        raise InputError(
            "a network from elsewhere has no data on record", remedy="give --data with frames like those it will see"
        )
    brought = foreign(network, spec)
    heads = options.heads(brought.heads)
    ruled = _rules(spec, brought)
    names = {head: dict(rule.classes) for head, rule in ruled.items() if rule.classes}
    preprocess = spec.input.preprocess

    def read(split: str) -> tuple[Dataset, Dataset]:
        raw = read_side(str(options.data), split=split, **asdict(options.reading))
        return raw, align(raw, _judged(heads, ruled), names)

    raw_train, train = read(options.train_split)
    judged: list[Frames] = []
    for split in (options.val_split, *options.further_splits):
        raw_val, val = read(split)
        if raw_val.name in [each.dataset.name for each in judged]:
            raise InputError(
                f"--also-val {split}: {options.data} has no splits, so these are the images of {raw_val.name} again",
                remedy="leave it out, or give a dataset with splits",
            )
        unknown = left_out(raw_val, _judged(heads, ruled), names)
        if unknown:
            say(f"  left out of the metric, no label stands for them: {', '.join(unknown)}")
        judged.append(Frames(val.take(options.val_images), preprocess, title=f"{split} images"))
    frames = judged[0]
    parity = parity_frames(frames)
    reference = _Answers(brought.source.infer, heads, parity)
    metrics = []
    for each in judged:
        metrics.append(metric_of(each, _scored(heads, ruled, each, reference), options.merge))
        _refuse_nothing(metrics[-1](reference).heads, each)
    images, calibrated_on = options.calibrate(train, preprocess)
    request = ExportRequest(
        name=name or spec.name,
        source=replace(brought.source, infer=reference),
        heads=heads,
        preprocess=preprocess,
        calibration=images,
        calibrated_on=calibrated_on,
        frames=parity,
        metric=over_domains(metrics[0], dict(zip(options.further_splits, metrics[1:], strict=True))),
        metric_name=_metric_name(heads, ruled),
        budget=options.budget,
        validation=frames.images,
        further=[image for each in judged[1:] for image in each.images],
        targets=options.targets,
        provenance=provenance(
            architecture=f"{brought.kind} with " + ", ".join(decoder_name(d) for d in spec.heads),
            weights=spec.weights.source,
            weights_sha256=brought.sha256,
            weights_licence=spec.weights.licence,
            dataset=raw_train.name,
            dataset_sha256=raw_train.fingerprint(),
        ),
        latency_runs=options.latency_runs,
        dataset_classes=names,
        passes=options.passes,
        trials_key=trials_key(judged, heads, options.merge, [name for name, rule in ruled.items() if rule.agreement]),
    )
    return export(request, out, force=options.force, say=say)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one head is judged: by agreement or labels, and the dataset's names for its labels."""

    agreement: bool
    classes: Mapping[str, tuple[str, ...]]


def _rules(spec: SpecFile, brought: Foreign) -> dict[str, _Rule]:
    """By head. The heads of a decoder share what the spec says; each takes the labels that it has."""
    rules, heads = {}, iter(brought.heads)
    for decoder, count in zip(spec.heads, brought.heads_each, strict=True):
        for head in (next(heads) for _ in range(count)):
            classes = {k: v for k, v in decoder.dataset_classes.items() if k in head.labels}
            rules[head.name] = _Rule(decoder.metric == AGREEMENT, classes)
    return rules


def _judged(heads: Sequence[Head], rules: Mapping[str, _Rule]) -> tuple[Head, ...]:
    """The heads that labels judge."""
    return tuple(h for h in heads if not rules[h.name].agreement)


class _Answers:
    """The reference network, run once for each frame.

    Of what it gives the heads' outputs are kept, for the frames `whole` all of it.
    """

    def __init__(self, infer: Infer, heads: Sequence[Head], whole: Sequence[NDArray[np.uint8]]) -> None:
        self._infer, self._names = infer, [name for h in heads for name in h.outputs]
        self._whole = {id(frame) for frame in whole}
        self._kept: dict[int, dict[str, NDArray[np.generic]]] = {}

    def __call__(self, frame: NDArray[np.uint8]) -> Mapping[str, NDArray[np.generic]]:
        if id(frame) not in self._kept:
            found = self._infer(frame)
            names = list(found) if id(frame) in self._whole else self._names
            self._kept[id(frame)] = {n: np.array(found[n]) for n in names}
        return self._kept[id(frame)]


def _scored(
    heads: Sequence[Head], rules: Mapping[str, _Rule], frames: Frames, reference: _Answers
) -> tuple[Scorable, ...]:
    """What to score each head by. Raises InputError for a head that wants labels and has none."""
    scored: list[Scorable] = []
    for kind in kinds_of(heads, frames.dataset):
        if rules[kind.head.name].agreement:
            scored.append(Agreement(kind.head, [reference(image) for image in frames.images]))
        elif kind.labelled(frames.dataset):
            scored.append(kind)
        else:
            raise InputError(
                f"{frames.dataset.name} has no labels for the head {kind.head.name} ({_some(kind.head.labels)})",
                remedy="map its classes with dataset_classes in the spec, or write `metric: agreement` there: the "
                "compiled network is then judged by the answers that it gave before",
            )
    return tuple(scored)


def _refuse_nothing(values: Mapping[str, float], frames: Frames) -> None:
    """Raise InputError for a head that no frame says anything about."""
    for head, value in values.items():
        if not math.isfinite(value):
            raise InputError(
                f"there is nothing to judge the head {head} by in {len(frames)} images of {frames.dataset.name}: no "
                "object of its labels, or with `metric: agreement` none that the network itself is sure of",
                remedy="give more or other images, map classes with dataset_classes, or lower the spec's threshold",
            )


def _some(labels: Sequence[str], most: int = 8) -> str:
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")


def _metric_name(heads: Sequence[Head], rules: Mapping[str, _Rule]) -> str:
    """The one head's metric, `agreement` where all are judged so, else `mean`; `mean+agreement` of both sorts."""
    agreeing = [rules[h.name].agreement for h in heads]
    if all(agreeing):
        return AGREEMENT
    if len(heads) > 1:
        return f"mean+{AGREEMENT}" if any(agreeing) else "mean"
    return {DetectHead: "ap50", ClassifyHead: "accuracy"}.get(type(heads[0]), "miou")
