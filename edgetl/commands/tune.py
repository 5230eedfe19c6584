"""Fine-tune a pretrained network on labelled driving data: probe on frozen features, then train, keep the best."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from edgetl.commands.arguments import (
    CATEGORY_HW,
    FRAME_HW,
    add_dataset_arguments,
    count,
    first_process,
    names,
    no_empty_directory,
    prepare_run_directory,
    reading_of,
    say,
    seed,
    share_cores,
    size_wxh,
)
from edgetl_runtime.errors import InputError

RECIPES = ("probe-finetune", "probe", "full", "surgical")
SETTINGS = (
    "tasks", "layers", "recipe", "backbone", "weights", "use", "allow_license", "start", "teacher", "epochs",
    "probe_epochs", "batch", "head_lr", "backbone_lr", "freeze_stride", "norms", "surgical_strides", "balance",
    "patience", "average", "imitation", "mask_stride", "val_images", "val_every", "seed",
)  # fmt: skip
"""Settings of TuneConfig that are flags of the same name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl tune`."""
    add_dataset_arguments(parser)
    parser.add_argument(
        "--task", type=names, default=("detect",), dest="tasks", metavar="TASK,...", help="detect, segment, classify"
    )
    parser.add_argument("--layers", type=names, default=(), metavar="NAME,...", help="layers of masks (default: all)")
    parser.add_argument("--out", type=Path, help="run directory (default: runs/DATA-TASK)")
    parser.add_argument("--train", default="train", metavar="SPLIT", help="split to train on")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="split to choose the best by")
    parser.add_argument("--allow-leaks", action="store_true", help="train though the splits share images or groups")
    parser.add_argument(
        "--backbone",
        default="tf_efficientnet_lite0",
        help="a timm features_only network, or dfine-nano, dfine-small, rtdetrv2-r18, -r34, -r50",
    )
    parser.add_argument("--weights", default="package", help="`package`, `hub`, `none` (random) or a file")
    parser.add_argument(
        "--use", choices=["commercial", "research"], default="commercial", help="what weights must allow"
    )
    parser.add_argument("--allow-license", action="store_true", help="take weights whose licence forbids --use")
    parser.add_argument("--start", default="", metavar="CHECKPOINT", help="go on from this instead of weights")
    parser.add_argument("--teacher", default="", metavar="CHECKPOINT", help="a larger network to imitate too")
    parser.add_argument("--recipe", choices=RECIPES, default=RECIPES[0])
    parser.add_argument(
        "--surgical-strides", type=_strides, default=(), metavar="4,8,...", help="blocks that --recipe surgical trains"
    )
    parser.add_argument(
        "--size", type=size_wxh, metavar="WxH", help="network input (default: 640x352; 128x128 for categories alone)"
    )
    parser.add_argument("--crop", type=size_wxh, metavar="WxH", help="training crop (default: --size)")
    parser.add_argument("--zoom", type=_range, default=(0.75, 1.6), metavar="LOW,HIGH", help="random scale of crops")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--probe-epochs", type=int, default=2, help="passes over cached frozen features first")
    parser.add_argument("--batch", type=count, default=4)
    parser.add_argument("--head-lr", type=float, default=1.5e-3)
    parser.add_argument("--backbone-lr", type=float, default=6e-4)
    parser.add_argument("--freeze-stride", type=int, choices=[0, 4, 8], default=4, help="0 trains every layer")
    parser.add_argument(
        "--norms",
        choices=["frozen", "learnt"],
        default="frozen",
        help="statistics of pretrained batch norms; learnt ones need large batches",
    )
    parser.add_argument("--mask-stride", type=int, choices=[1, 2, 4], default=2, help="network pixels per mask pixel")
    parser.add_argument(
        "--balance", type=float, default=0.0, metavar="SHARE", help="repeat images of classes rarer than this"
    )
    parser.add_argument(
        "--patience", type=int, default=0, metavar="N", help="stop after N validations without gain (0: never)"
    )
    parser.add_argument(
        "--average", action=argparse.BooleanOptionalAction, default=True, help="try weights averaged with the probe's"
    )
    parser.add_argument("--imitation", type=float, default=1.0, help="weight of the teacher's loss")
    parser.add_argument(
        "--val-images",
        type=count,
        default=100,
        help="validation images used while training; its last check takes 250, or more",
    )
    parser.add_argument("--val-every", type=count, default=1, metavar="EPOCHS")
    parser.add_argument("--limit", type=count, metavar="N", help="train on N images spread over the split")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--force", action="store_true", help="move an existing --out aside")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Tune, and say where the best checkpoint is."""
    share_cores()
    import msgspec

    from edgetl.data.leaks import refuse_leaks
    from edgetl.training.config import TuneConfig
    from edgetl.training.tune import tune

    settings = {name: getattr(args, name) for name in SETTINGS}
    size_hw = args.size or (CATEGORY_HW if set(args.tasks) == {"classify"} else FRAME_HW)
    settings |= {"size_hw": size_hw, "crop_hw": args.crop or size_hw, "zoom": args.zoom}
    try:
        config = msgspec.convert(settings, TuneConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"wrong setting: {error}", remedy="see edgetl tune --help") from error
    reading = reading_of(args)
    train, val = (reading.read(args.data, split) for split in (args.train, args.val))
    refuse_leaks(train, val, allow=args.allow_leaks)
    if args.limit:
        train = train.take(args.limit)
    out = args.out or Path("runs") / f"{args.data.resolve().name}-{'-'.join(args.tasks)}"
    if args.resume and not (out / "last.pt").is_file():
        raise InputError(f"{out}: no last.pt to resume from", remedy="start without --resume")
    if first_process():
        needed = [args.data, *(Path(p) for p in (args.start, args.teacher, args.weights) if p)]
        prepare_run_directory(out, resume=args.resume, force=args.force, needed=needed)
    say(f"tune         {len(train)} images for {', '.join(args.tasks)} -> {out}; Ctrl-C saves, --resume goes on")
    with no_empty_directory(out):
        root = str(args.data.resolve())
        result = tune(train, val, out, config, resume=args.resume, data_root=root, reading=reading)
    early = "; stopped early, nothing improved" if result.stopped_early else ""
    say(
        f"tune         best {result.metric} {result.value:.3f} on {val.name} in {result.seconds:.0f} s{early}: "
        f"{result.best}"
    )
    if len(result.heads) > 1:
        say("             " + ", ".join(f"{name} {value:.3f}" for name, value in result.heads.items()))
    return {
        "checkpoint": str(result.best),
        "metric": result.metric,
        "value": result.value,
        "heads": result.heads,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "train_images": result.train_images,
        "stopped_early": result.stopped_early,
        "curve": str(out / "metrics.csv"),
    }


def _strides(text: str) -> tuple[int, ...]:
    parts = names(text)
    if not all(p in {"4", "8", "16", "32"} for p in parts):
        raise argparse.ArgumentTypeError(f"expected strides out of 4,8,16,32, found {text!r}")
    return tuple(int(p) for p in parts)


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(p) for p in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 < low <= high < math.inf:
        raise argparse.ArgumentTypeError(f"expected LOW,HIGH such as 0.75,1.6, found {text!r}")
    return low, high
