"""The tasks' metrics of a checkpoint or of a bundle, on a labelled split."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import add_dataset_arguments, add_signature_argument, count, reading_of, say, share_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl evaluate`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a bundle, a run directory or a checkpoint file")
    add_dataset_arguments(parser)
    parser.add_argument("--split", default="val")
    parser.add_argument("--metric", choices=["ap50", "ap"], default="ap50", help="of boxes")
    parser.add_argument(
        "--merge", action="append", default=[], metavar="NAME=CLASS,CLASS", help="score several classes as one"
    )
    parser.add_argument("--min-height", type=float, default=0.0, metavar="PX", help="ignore lower boxes (source px)")
    parser.add_argument("--engine", help="engine of the bundle (default: the chosen one)")
    parser.add_argument("--variant", help="variant of the bundle (default: the chosen one)")
    parser.add_argument("--limit", type=count, metavar="N", help="N images spread over the split")
    add_signature_argument(parser)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Evaluate, and print the metrics by class."""
    share_cores()
    from edgetl.metrics.detection import Scoring, parse_merge
    from edgetl.metrics.predict import FramesOnce, evaluate
    from edgetl.metrics.subject import open_subject
    from edgetl_runtime.spec import task_of

    dataset = reading_of(args).read(args.data, args.split)
    if args.limit:
        dataset = dataset.take(args.limit)
    required = args.require_signature
    with open_subject(args.model, engine=args.engine, variant=args.variant, require_signature=required) as subject:
        aligned = subject.align(dataset)
        scoring = Scoring(merge=parse_merge(args.merge, aligned.classes), min_height_px=args.min_height)
        frames = FramesOnce(aligned, subject.preprocess)
        found = evaluate(subject.infer, frames, subject.kinds(aligned), scoring=scoring, title="evaluating")
    document: dict[str, object] = {"images": found.images, "engine": subject.engine, "variant": subject.variant}
    heads = {}
    tasks = {h.name: task_of(h) for h in subject.heads}
    for name, metric in found.heads.items():
        shown, value = (
            (args.metric, metric.more["ap"])
            if args.metric == "ap" and "ap" in metric.more
            else (metric.metric, metric.value)
        )
        say(
            f"{name}: {shown} {value:.4f}  "
            f"({subject.engine}/{subject.variant}, {found.images} images of {dataset.name})"
        )
        width = max(len(n) for n in metric.per_class)
        for label, each in metric.per_class.items():
            say(f"  {label:<{width}}  {each:.4f}")
        heads[name] = {"task": tasks[name], "metric": shown, "value": value, metric.metric: metric.value}
        heads[name] |= {**metric.more, "per_class": metric.per_class}
    if len(heads) == 1:
        return document | next(iter(heads.values()))
    return document | {"task": "several", "metric": found.metric, "value": found.value, "heads": heads}
