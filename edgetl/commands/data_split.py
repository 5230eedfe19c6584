"""`edgetl data split`: training, validation and test sets of whole groups, with the classes in balance."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import say, seed
from edgetl_runtime.errors import GateFailed
from edgetl_runtime.progress import Progress

if TYPE_CHECKING:
    from edgetl.data import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `edgetl data split`."""
    parser.add_argument("data", type=Path, metavar="DATA", help="data set directory, or a YOLO data.yaml")
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to create")
    parser.add_argument(
        "--shares", type=shares, default="train=0.8,val=0.1,test=0.1", metavar="NAME=SHARE,...", help="adding up to 1"
    )
    parser.add_argument(
        "--by", choices=["group", "look"], default="group", help="look: also keep pictures that look the same together"
    )
    parser.add_argument(
        "--from", dest="sources", action="append", default=[], metavar="SPLIT",
        help="split of DATA to take images from; may be repeated (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--group-pattern", metavar="RE", help="regular expression that finds an image's group in its file name"
    )
    parser.add_argument("--format", metavar="FORMAT", help="DATA's format (default: found out)")
    parser.add_argument("--drop", action="store_true", help="leave out, and count, what the format can't hold")
    parser.add_argument("--seed", type=seed, default=0, help="the same seed gives the same splits")
    parser.add_argument("--force", action="store_true", help="replace OUT once the new one is whole")


def shares(text: str) -> dict[str, float]:
    """`train=0.8,val=0.2` as names and shares."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not (name and equals) or name in found or not 0 < value <= 1:
            raise argparse.ArgumentTypeError(f"expected NAME=SHARE,... such as train=0.8,val=0.2, found {text!r}")
        found[name] = value
    return found


def run(args: argparse.Namespace) -> dict[str, object]:
    """Split, write, prove that nothing leaks, and return the document for --json."""
    from edgetl.data.formats import format_of
    from edgetl.data.leaks import copies
    from edgetl.data.split import pooled, same_picture_pairs, split_by_group
    from edgetl.data.write import check_writable, write_dataset_as, written_format
    from edgetl_export.publish import refuse_existing

    refuse_existing(args.out, force=args.force)
    target = written_format(args.format or format_of(args.data).name)
    whole = pooled(_read(args), args.data.resolve().name)
    groups = _groups(whole, by=args.by)
    together = same_picture_pairs(whole) if args.by == "look" else copies(whole)
    splits = split_by_group(whole, args.shares, seed=args.seed, together=together)
    check_writable(target, splits, args.out, drop=args.drop)
    leaks = _prove(splits, full=args.by == "look")
    with Progress("split", len(whole), unit="image") as bar:
        done = write_dataset_as(target, splits, args.out, drop=args.drop, force=args.force, on_image=bar.step)
    for name, dataset in splits.items():
        share = 100 * len(dataset) / len(whole)
        say(f"{args.out}: {name}: {len(dataset)} images ({share:.1f} %, wanted {100 * args.shares[name]:g} %)")
    return {
        "out": str(args.out),
        "format": done.format,
        "by": args.by,
        "seed": args.seed,
        "groups": groups,
        "splits": done.splits,
        "dropped": done.dropped,
        "leaks": leaks,
    }


def _read(args: argparse.Namespace) -> list[Dataset]:
    from edgetl.commands.data_check import order_of
    from edgetl.data import read_dataset, splits_of
    from edgetl.data.read import same_classes

    names = args.sources or sorted(splits_of(args.data, format=args.format), key=order_of)
    parts = [read_dataset(args.data, name, args.group_pattern, args.format) for name in names]
    for part in parts[1:]:
        same_classes(parts[0], part)
    return parts


def _groups(dataset: Dataset, *, by: str) -> int:
    """How many groups there are; says so where there are none, for then nothing keeps a drive together."""
    from edgetl.data.leaks import groups_of

    count = len(groups_of(dataset))
    if not count and by == "group":
        say(
            "warning: no groups are known, so this splits by image and frames of one drive may stand on both sides; "
            "state them with --group-pattern"
        )
    return count


def _prove(splits: dict[str, Dataset], *, full: bool) -> int:
    """The number of leaks between the splits: by group and file, with `full` by look too. Raises GateFailed for any."""
    from edgetl.data.leaks import find_leaks

    for a, b in itertools.combinations(splits, 2):
        leaks = find_leaks(splits[a], splits[b], full=full)
        if leaks:
            raise GateFailed(
                f"{leaks.summary()}: {leaks.line(leaks.pairs[0])}", remedy="report this: it must not happen"
            )
    return 0
