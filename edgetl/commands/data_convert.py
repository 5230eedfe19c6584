"""`edgetl data convert`: a data set in another format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgetl_runtime.progress import Progress

FORMATS = "coco, yolo, voc, kitti, bdd, folders (a folder for each class) or masks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `edgetl data convert`."""
    parser.add_argument("source", type=Path, metavar="SRC", help="data set directory, or a YOLO data.yaml")
    parser.add_argument("out", type=Path, metavar="DST", help="directory to create")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"{FORMATS}")
    parser.add_argument(
        "--from", dest="source_format", metavar="FORMAT", help="SRC's format (default: found out); also cityscapes"
    )
    parser.add_argument(
        "--split", action="append", default=[], metavar="NAME", help="only this split; may be repeated (default: all)"
    )
    parser.add_argument(
        "--group-pattern", metavar="RE", help="regular expression that finds an image's group in its file name"
    )
    parser.add_argument("--drop", action="store_true", help="leave out, and count, what the format can't hold")
    parser.add_argument("--force", action="store_true", help="replace DST once the new one is whole")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Convert, and return the document for --json. Raises InputError for wrong input."""
    from edgetl.data import read_dataset, splits_of
    from edgetl.data.write import check_writable, write_dataset_as, written_format
    from edgetl_export.publish import refuse_existing

    target = written_format(args.to)
    refuse_existing(args.out, force=args.force)
    names = args.split or splits_of(args.source, format=args.source_format)
    splits = {name: read_dataset(args.source, name, args.group_pattern, args.source_format) for name in names}
    check_writable(target, splits, args.out, drop=args.drop)
    with Progress("convert", sum(map(len, splits.values())), unit="image") as bar:
        done = write_dataset_as(target, splits, args.out, drop=args.drop, force=args.force, on_image=bar.step)
    for name, counts in done.splits.items():
        sys.stderr.write(f"{args.out}: {name}: {counts['images']} images, {counts['objects']} boxes\n")
    for what, count in done.dropped.items():
        sys.stderr.write(f"{args.out}: left out: {count} {what}\n")
    return {"out": str(args.out), "format": done.format, "splits": done.splits, "dropped": done.dropped}
