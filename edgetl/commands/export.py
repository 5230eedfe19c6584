"""Compile a checkpoint into a bundle: ONNX, INT8, parity at every step, the fastest pair within the budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import (
    add_reading_arguments,
    class_points,
    count,
    points,
    reading_of,
    say,
    share_cores,
)
from edgetl.export_cache import export_key, keep, recall
from edgetl_runtime.errors import InputError
from edgetl_runtime.machine import machine

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
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="bundle directory to write")
    parser.add_argument(
        "--lint",
        action="store_true",
        help="make no bundle: say which target takes the graph of a checkpoint, or an ONNX file, and what to change",
    )
    parser.add_argument("--data", type=Path, help="dataset for calibration and metric (default: the one tuned on)")
    add_reading_arguments(parser, "its format (default: as it was tuned, else found out)")
    parser.add_argument("--train", default="train", metavar="SPLIT", help="split that calibration frames come from")
    parser.add_argument("--val", default="val", metavar="SPLIT", help="split that the metric is measured on")
    parser.add_argument(
        "--also-val",
        action="append",
        default=[],
        metavar="SPLIT",
        help="hold the budget on this split too, like night beside day; may be repeated",
    )
    parser.add_argument("--max-drop", type=points, default=0.5, help="points that INT8 or bf16 may lose of each metric")
    parser.add_argument(
        "--max-drop-class",
        type=class_points,
        action="append",
        default=[],
        metavar="CLASS=POINTS",
        help="points that one class may lose; may be repeated",
    )
    parser.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NAME=CLASS,CLASS",
        help="hold several classes, scored as one, to the budget too; may be repeated",
    )
    parser.add_argument("--calibration", type=count, default=64, metavar="N", help="calibration frames")
    parser.add_argument(
        "--calibration-data",
        action="append",
        default=[],
        metavar="DATA[:SPLIT]",
        help="choose them from this dataset or folder of images too, labelled or not; may be repeated",
    )
    parser.add_argument("--val-images", type=count, default=250, metavar="N", help="images for the metric")
    parser.add_argument(
        "--threshold", type=float, help="score from which a box or class is shown (default: the fitted ones)"
    )
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="NAME,NAME", help="targets to compile for")
    parser.add_argument("--name", help="the bundle's name (default: the name of --out)")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the bundle, as `edgetl sign` does")
    parser.add_argument("--force", action="store_true", help="replace an existing bundle")
    parser.add_argument("--simplify", action="store_true", help="try onnxslim first, kept only while parity holds")
    parser.add_argument("--fresh", action="store_true", help="measure again what a former export of the same measured")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Export, and say what was chosen."""
    share_cores()
    import time

    from edgetl_export.summary import summary_json, summary_text
    from edgetl_export.targets import get_target
    from edgetl_runtime.bundle import sign_bundle
    from edgetl_runtime.keys import key_id, read_private_key

    started = time.monotonic()
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be from 0 to 1, found {args.threshold}")
    targets = tuple(t.strip() for t in args.targets.split(",") if t.strip())
    for target in targets:
        get_target(target)
    if args.lint:
        from edgetl.linting import lint

        return lint(Path(args.model), targets, say)
    if args.out is None:
        raise InputError("the following arguments are required: --out", remedy="or check the graph only, with --lint")
    _check_spec(args)
    signer = read_private_key(args.sign) if args.sign is not None else None
    key = _key(args)
    manifest, parts = recall(key, args.out, force=args.force) if key and not args.fresh else None, {}
    cached = manifest is not None
    if manifest is None:
        exported = _export(args, targets)
        manifest, parts = exported.manifest, exported.seconds
        if key:
            keep(key, args.out, _data_folders(args))
    if signer is not None:
        sign_bundle(args.out, signer)
    say(summary_text(manifest))
    if cached:
        made = manifest.provenance.created
        say(f"unchanged    made {made}, nothing it depends on has changed; --fresh measures again")
    document: dict[str, object] = {"bundle": str(args.out), **summary_json(manifest)}
    document["seconds"] = round(time.monotonic() - started, 1)
    document["parts"] = parts
    document["cached"] = cached
    document["signed_by"] = key_id(signer.public) if signer is not None else None
    say(f"bundle       {args.out} in {document['seconds']} s")
    return document


def _export(args: argparse.Namespace, targets: tuple[str, ...]) -> Exported:
    """A checkpoint, or a network from elsewhere with its spec."""
    from edgetl.bring import export_foreign
    from edgetl.exporting import ExportOptions, export_checkpoint

    options = ExportOptions(
        data=args.data,
        reading=reading_of(args),
        train_split=args.train,
        val_split=args.val,
        also_val=args.also_val,
        max_drop=args.max_drop / 100,
        max_drop_class={name: value / 100 for name, value in args.max_drop_class},
        merge=args.merge,
        calibration=args.calibration,
        calibration_data=args.calibration_data,
        val_images=args.val_images,
        threshold=args.threshold,
        targets=targets,
        simplify=args.simplify,
        force=args.force,
    )
    if args.spec is not None:
        return export_foreign(args.model, args.spec, args.out, options, name=args.name)
    return export_checkpoint(Path(args.model), args.out, options, name=args.name or args.out.name)


def _check_spec(args: argparse.Namespace) -> None:
    """Raise InputError where --spec is missing, or given for a checkpoint."""
    from edgetl_export.foreign.module_file import is_foreign

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


def _key(args: argparse.Namespace) -> str:
    """What this export is kept under; "" where its files are not there, which the export itself will say.

    Raises InputError for a spec file that is wrong.
    """
    from edgetl_export.foreign.module_file import module_of
    from edgetl_export.foreign.spec_file import read_spec
    from edgetl_export.read_onnx import weight_files

    others = ("force", "fresh", "json", "config", "out", "sign", "lint")
    flags = {name: value for name, value in vars(args).items() if name not in others}
    flags["name"] = args.name or args.out.name
    files = [args.spec] if args.spec is not None else []
    module = module_of(args.model)
    model = Path(args.model) if module is None else module[0]
    files.append(model / "best.pt" if model.is_dir() else model)
    if not all(file.is_file() for file in files):
        return ""
    if args.spec is not None:
        flags["labels and anchors"] = [repr(head) for head in read_spec(args.spec).heads]
    if model.suffix.lower() == ".onnx":
        files += weight_files(model)
    if not all(file.is_file() for file in files):
        return ""
    flags["data"] = args.data and args.data.absolute()
    flags["calibration_data"] = [Path(text).absolute() for text in args.calibration_data]
    return export_key(files, flags, machine())


def _data_folders(args: argparse.Namespace) -> list[Path]:
    """Every folder that the bundle depends on: data, and the folder of a module that may read weights beside it.

    Of DIRECTORY:SPLIT it is the directory, of a data.yaml the one that it lies in and those of images and labels that
    it names.
    """
    from edgetl.data.yolo import folders_of
    from edgetl.shift.source import parted
    from edgetl.training.checkpoint import load_checkpoint
    from edgetl_export.foreign.module_file import module_of

    data = args.data or Path(load_checkpoint(Path(args.model)).card.data_root)
    module = module_of(args.model)
    beside = [] if module is None else [module[0].resolve().parent]
    places = [parted(text)[0] for text in (str(data), *args.calibration_data)]
    folders = [place.parent if place.is_file() else place for place in places]
    elsewhere = [folder for place in places for folder in folders_of(place)]
    return [folders[0], *beside, *folders[1:], *elsewhere]
