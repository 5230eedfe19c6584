"""The task's metric of a checkpoint or of a bundle, on a labelled split."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import count, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl evaluate`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a bundle, a run directory or a checkpoint file")
    parser.add_argument("data", type=Path, metavar="DATA", help="COCO or YOLO directory")
    parser.add_argument("--split", default="val")
    parser.add_argument("--metric", choices=["ap50", "ap"], default="ap50")
    parser.add_argument(
        "--merge", action="append", default=[], metavar="NAME=CLASS,CLASS", help="score several classes as one"
    )
    parser.add_argument("--min-height", type=float, default=0.0, metavar="PX", help="ignore lower boxes (source px)")
    parser.add_argument("--engine", help="engine of the bundle (default: the chosen one)")
    parser.add_argument("--variant", help="variant of the bundle (default: the chosen one)")
    parser.add_argument("--limit", type=count, metavar="N", help="N images spread over the split")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Evaluate, and print the metric by class."""
    from edgetl.data import read_dataset
    from edgetl.metrics.detection import Scoring, average_precision, parse_merge
    from edgetl.metrics.predict import Frames, predict
    from edgetl.metrics.subject import open_subject

    dataset = read_dataset(args.data, args.split)
    if args.limit:
        dataset = dataset.take(args.limit)
    scoring = Scoring(merge=parse_merge(args.merge, dataset.classes), min_height_px=args.min_height)
    with open_subject(args.model, engine=args.engine, variant=args.variant) as subject:
        frames = Frames(subject.align(dataset), subject.preprocess)
        found = predict(subject.infer, frames, max_detections=subject.max_detections, title="evaluating")
    metric = average_precision(frames.truths, found, subject.labels, scoring)
    value = metric.ap50 if args.metric == "ap50" else metric.ap
    width = max(len(n) for n in metric.per_class)
    say(f"{args.metric} {value:.4f}  ({subject.engine}/{subject.variant}, {metric.images} images of {dataset.name})")
    for name, ap50 in metric.per_class.items():
        say(f"  {name:<{width}}  AP50 {ap50:.4f}")
    return {
        "task": "detect",
        "metric": args.metric,
        "value": value,
        "ap50": metric.ap50,
        "ap": metric.ap,
        "per_class": metric.per_class,
        "images": metric.images,
        "engine": subject.engine,
        "variant": subject.variant,
    }
