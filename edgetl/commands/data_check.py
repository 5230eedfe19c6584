"""`edgetl data check`: broken files, wrong boxes, odd classes and leaking splits, before anything is trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import say, size_wxh
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl.data import Dataset

MARKS = {"error": "ERROR  ", "warning": "warning", "note": "note   "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `edgetl data check`."""
    parser.add_argument("data", type=Path, metavar="DATA", help="data set directory, or a YOLO data.yaml")
    parser.add_argument("--format", metavar="FORMAT", help="DATA's format (default: found out)")
    parser.add_argument(
        "--split", action="append", default=[], metavar="NAME", help="only this split; may be repeated (default: all)"
    )
    parser.add_argument(
        "--group-pattern", metavar="RE", help="regular expression that finds an image's group in its file name"
    )
    parser.add_argument(
        "--size", type=size_wxh, default="640x352", metavar="WxH", help="network input to judge boxes by"
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with charts and pictures")
    parser.add_argument("--force", action="store_true", help="replace the page")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Check, and return the document for --json; its exit_status is 1 where there are errors."""
    import dataclasses

    from edgetl.data.check import check
    from edgetl.data.check_page import check_report
    from edgetl.data.listed import lines_without_file
    from edgetl_export.publish import refuse_existing
    from edgetl_export.report.page import write_report

    if args.page:
        refuse_existing(args.page, force=args.force)
    datasets, unreadable = _read(args)
    without_file = lines_without_file(args.data) if datasets else []
    found = check(datasets, size_hw=args.size, unreadable=unreadable, without_file=without_file)
    for f in found.findings:
        say(f"{MARKS[f.severity]} {f.split}: {f.text}" + (f"; {f.remedy}" if f.remedy else "") + f" [{f.code}]")
    counts = {name: found.count(name) for name in MARKS}
    images = sum(len(d) for d in datasets.values())
    say(f"check: {images} images, {counts['error']} errors, {counts['warning']} warnings, {counts['note']} notes")
    if args.page:
        title = f"Check of {args.data.resolve().name}"
        write_report(args.page, check_report(title, datasets, found, size_hw=args.size))
        say(f"check: see {args.page}")
    return {
        "data": str(args.data),
        "counts": counts,
        "findings": [dataclasses.asdict(f) for f in found.findings],
        "splits": {name: dataclasses.asdict(facts) for name, facts in found.splits.items()},
        "page": str(args.page) if args.page else None,
        "exit_status": 1 if counts["error"] else 0,
    }


def _read(args: argparse.Namespace) -> tuple[dict[str, Dataset], dict[str, InputError]]:
    """The splits that can be read, and why others can't. Raises InputError where it's no data set at all."""
    from edgetl.data import read_dataset, splits_of

    datasets, unreadable = {}, {}
    for name in args.split or sorted(splits_of(args.data, format=args.format), key=order_of):
        try:
            datasets[name] = read_dataset(args.data, name, args.group_pattern, args.format)
        except InputError as error:
            if args.split and name not in splits_of(args.data, format=args.format):
                raise
            unreadable[name] = error
    return datasets, unreadable


def order_of(split: str) -> tuple[int, str]:
    """Training first, then validation, then testing, then the others."""
    first = ("train", "val", "test")
    return next((i for i, name in enumerate(first) if split.startswith(name)), len(first)), split
