"""Adapt a checkpoint to unlabelled frames of a new domain; a gate decides, and the old checkpoint stays as it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import (
    add_reading_arguments,
    count,
    no_empty_directory,
    points,
    prepare_run_directory,
    reading_of,
    say,
    seed,
    share_cores,
    size_wxh,
)
from edgetl_runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl adapt`."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a run directory or a checkpoint file")
    parser.add_argument(
        "unlabelled", metavar="DATA[:SPLIT]", help="frames of the new domain: dataset or folder of images"
    )
    parser.add_argument("--out", type=Path, help="run directory to write (default: CHECKPOINT's, with -adapted)")
    parser.add_argument("--data", type=Path, help="the labelled data it was tuned on (default: as the checkpoint says)")
    add_reading_arguments(parser, "the labelled data's format (default: as it was tuned, else found out)")
    parser.add_argument("--train", default="train", metavar="SPLIT")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="labelled split on which nothing may be lost")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of self-training")
    parser.add_argument("--batch", type=count, default=4)
    parser.add_argument("--crop", type=size_wxh, metavar="WxH", help="training crop (default: the network's size)")
    parser.add_argument("--max-loss", type=points, default=0.5, help="points of the metric that --val may lose")
    parser.add_argument("--val-images", type=count, default=250, metavar="N")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--force", action="store_true", help="move an existing --out aside")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Adapt, and say what the gate decided."""
    share_cores()
    import msgspec

    from edgetl.adapt.adapt import AdaptConfig, adapt
    from edgetl.shift.source import read_side
    from edgetl.training.checkpoint import load_checkpoint

    card = load_checkpoint(args.checkpoint).card
    root, reading = card.data_from(args.data, reading_of(args))
    if not root.is_dir() and not root.is_file():
        raise InputError(f"{root}: the labelled data is not there any more", remedy="give it with --data")
    settings = {
        "rounds": args.rounds,
        "batch": args.batch,
        "crop_hw": args.crop,
        "max_loss": args.max_loss / 100,
        "val_images": args.val_images,
        "seed": args.seed,
    }
    try:
        config = msgspec.convert(settings, AdaptConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"wrong setting: {error}", remedy="see edgetl adapt --help") from error
    unlabelled = read_side(args.unlabelled, split="train")
    train, val = reading.read(root, args.train), reading.read(root, args.val)
    out = args.out or _beside(args.checkpoint)
    needed = [args.checkpoint, root, *(s.image for s in unlabelled.samples)]
    prepare_run_directory(out, resume=False, force=args.force, needed=needed, resumable=False)
    with no_empty_directory(out):
        adapted = adapt(args.checkpoint, unlabelled, train, val, out, config)
    for stage in adapted.stages:
        guess = "" if stage.evidence.estimate is None else f", estimate {stage.evidence.estimate:.3f}"
        say(f"{stage.name:<26}{adapted.metric} {100 * stage.evidence.value:.1f}{guess}; {stage.verdict.reason}")
    if adapted.checkpoint is None:
        say(f"adapt        nothing was accepted; the old checkpoint {args.checkpoint} stays the best")
    else:
        say(f"adapt        {adapted.checkpoint}; the old checkpoint {args.checkpoint} is as it was")
    return {
        "accepted": adapted.checkpoint is not None,
        "exit_status": 0 if adapted.checkpoint else 1,
        "checkpoint": str(adapted.checkpoint or args.checkpoint),
        "metric": adapted.metric,
        "stages": [
            {
                "name": s.name,
                "value": s.evidence.value,
                "estimate": s.evidence.estimate,
                "accepted": s.verdict.accepted,
                "reason": s.verdict.reason,
            }
            for s in adapted.stages
        ],
    }


def _beside(checkpoint: Path) -> Path:
    """The run directory's name with -adapted, beside it, also where that is `.` or `..`."""
    run_directory = checkpoint if checkpoint.is_dir() else checkpoint.parent
    whole = run_directory.resolve()
    name = f"{whole.name}-adapted"
    return whole.with_name(name) if run_directory.name in {"", ".."} else run_directory.with_name(name)
