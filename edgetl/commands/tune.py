"""Fine-tune a pretrained network on labelled driving data: probe on frozen features, then train, keep the best."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import count, prepare_run_directory, say, share_cores, size_wxh
from edgetl_runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl tune`."""
    parser.add_argument("data", type=Path, metavar="DATA", help="COCO or YOLO directory")
    parser.add_argument("--task", choices=["detect"], default="detect")
    parser.add_argument("--out", type=Path, help="run directory (default: runs/DATA-TASK)")
    parser.add_argument("--train", default="train", metavar="SPLIT", help="split to train on")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="split to choose the best by")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="a timm features_only network")
    parser.add_argument("--weights", default="package", help="`package`, `none` (random) or a file")
    parser.add_argument("--size", type=size_wxh, default="640x352", metavar="WxH", help="network input")
    parser.add_argument("--crop", type=size_wxh, metavar="WxH", help="training crop (default: --size)")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--probe-epochs", type=int, default=2, help="passes over cached frozen features first")
    parser.add_argument("--batch", type=count, default=4)
    parser.add_argument("--head-lr", type=float, default=1.5e-3)
    parser.add_argument("--backbone-lr", type=float, default=6e-4)
    parser.add_argument("--freeze-stride", type=int, choices=[0, 4, 8], default=4, help="0 trains every layer")
    parser.add_argument("--val-images", type=count, default=100, help="validation images used while training")
    parser.add_argument("--val-every", type=count, default=1, metavar="EPOCHS")
    parser.add_argument("--limit", type=count, metavar="N", help="train on N images spread over the split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--force", action="store_true", help="move an existing --out aside")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Tune, and say where the best checkpoint is."""
    share_cores()
    import msgspec

    from edgetl.data import read_dataset
    from edgetl.training.config import TuneConfig
    from edgetl.training.tune import tune

    settings = {
        "task": args.task,
        "backbone": args.backbone,
        "weights": args.weights,
        "size_hw": args.size,
        "crop_hw": args.crop or args.size,
        "epochs": args.epochs,
        "probe_epochs": args.probe_epochs,
        "batch": args.batch,
        "head_lr": args.head_lr,
        "backbone_lr": args.backbone_lr,
        "freeze_stride": args.freeze_stride,
        "val_images": args.val_images,
        "val_every": args.val_every,
        "seed": args.seed,
    }
    try:
        config = msgspec.convert(settings, TuneConfig)
    except msgspec.ValidationError as error:
        raise InputError(f"wrong setting: {error}", remedy="see edgetl tune --help") from error
    train, val = read_dataset(args.data, args.train), read_dataset(args.data, args.val)
    if args.limit:
        train = train.take(args.limit)
    out = args.out or Path("runs") / f"{args.data.resolve().name}-{args.task}"
    if args.resume and not (out / "last.pt").is_file():
        raise InputError(f"{out}: no last.pt to resume from", remedy="start without --resume")
    prepare_run_directory(out, resume=args.resume, force=args.force)
    say(f"tune         {len(train)} images, {len(train.classes)} classes -> {out}; Ctrl-C saves, --resume goes on")
    result = tune(train, val, out, config, resume=args.resume, data_root=str(args.data.resolve()))
    say(f"tune         best AP50 {result.ap50:.3f} on {val.name} in {result.seconds:.0f} s: {result.best}")
    return {
        "checkpoint": str(result.best),
        "metric": "ap50",
        "value": result.ap50,
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "train_images": result.train_images,
        "curve": str(out / "metrics.csv"),
    }
