"""Compile a checkpoint into a bundle: ONNX, INT8, parity at every step, the fastest pair within the budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import count, points, say, share_cores

if TYPE_CHECKING:
    from edgetl_export.export import Exported

TARGETS = ("cpu", "rtx", "orin-nano", "orin-nx", "agx-orin", "thor", "drive-orin", "drive-thor")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl export`."""
    parser.add_argument(
        "model", metavar="MODEL", help="a run directory or checkpoint; with --spec model.onnx or module.py:function"
    )
    parser.add_argument(
        "--spec", type=Path, metavar="YAML", help="what a network from elsewhere takes in and gives out"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="bundle directory to write")
    parser.add_argument("--data", type=Path, help="dataset for calibration and metric (default: the one tuned on)")
    parser.add_argument("--train", default="train", metavar="SPLIT", help="split that calibration frames come from")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="split that the metric is measured on")
    parser.add_argument("--max-drop", type=points, default=0.5, help="points that INT8 or bf16 may lose of each metric")
    parser.add_argument("--calibration", type=count, default=64, metavar="N", help="calibration frames")
    parser.add_argument("--val-images", type=count, default=250, metavar="N", help="images for the metric")
    parser.add_argument(
        "--threshold", type=float, help="score from which a box or class is shown (default: the fitted ones)"
    )
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="NAME,NAME", help="targets to compile for")
    parser.add_argument("--name", help="the bundle's name (default: the name of --out)")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Export, and say what was chosen."""
    share_cores()
    import time

    from edgetl_export.summary import summary_json, summary_text
    from edgetl_export.targets import get_target
    from edgetl_runtime.errors import InputError

    started = time.monotonic()
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be from 0 to 1, found {args.threshold}")
    targets = tuple(t.strip() for t in args.targets.split(",") if t.strip())
    for target in targets:
        get_target(target)
    exported = _export(args, targets)
    say(summary_text(exported.manifest))
    document: dict[str, object] = {"bundle": str(args.out), **summary_json(exported.manifest)}
    document["seconds"] = round(time.monotonic() - started, 1)
    document["parts"] = exported.seconds
    say(f"bundle       {args.out} in {document['seconds']} s")
    return document


def _export(args: argparse.Namespace, targets: tuple[str, ...]) -> Exported:
    """A checkpoint, or a network from elsewhere with its spec."""
    from edgetl.bring import export_foreign, is_foreign
    from edgetl.exporting import export_checkpoint
    from edgetl_runtime.errors import InputError

    elsewhere = is_foreign(args.model)
    if elsewhere and args.spec is None:
        raise InputError(
            f"{args.model} is a network from elsewhere", remedy="give --spec FILE, which says how to read it"
        )
    if args.spec is not None and not elsewhere:
        raise InputError(
            f"--spec is for model.onnx and module.py:function, not for {args.model}",
            remedy="leave --spec out: a checkpoint knows all of it",
        )
    data, max_drop, name = args.data, args.max_drop / 100, args.name
    if args.spec is not None:
        return export_foreign(
            args.model,
            args.spec,
            args.out,
            data=data,
            train_split=args.train,
            val_split=args.val,
            max_drop=max_drop,
            calibration=args.calibration,
            val_images=args.val_images,
            threshold=args.threshold,
            targets=targets,
            name=name,
            force=args.force,
        )
    return export_checkpoint(
        Path(args.model),
        args.out,
        data=data,
        train_split=args.train,
        val_split=args.val,
        max_drop=max_drop,
        calibration=args.calibration,
        val_images=args.val_images,
        threshold=args.threshold,
        targets=targets,
        name=name or args.out.name,
        force=args.force,
    )
