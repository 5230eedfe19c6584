"""`edgetl data render`: a labelled data set, or a clip, of rendered driving scenes."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress

DOMAIN_CHOICES = ("day", "night", "fog", "rain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `edgetl data render`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="directory to create; with --clip a file ending in .mp4")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--images", type=int, metavar="N", help="render N stills as a COCO data set with masks")
    what.add_argument("--clip", type=float, metavar="SECONDS", help="render a drive as MP4 with labels beside it")
    parser.add_argument("--domain", default="day", metavar="NAME", help="day (default), night, fog or rain")
    parser.add_argument("--size", default="640x360", metavar="WxH", help="picture size in pixels (default 640x360)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed renders the same pictures (default 0)")
    parser.add_argument("--fps", type=float, default=30.0, help="frames per second of a clip (default 30)")
    parser.add_argument(
        "--val", type=float, default=0.2, metavar="SHARE", help="share of the stills for validation (default 0.2)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that render stills (default: one for each core)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT once the new one is whole")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Render, and return the document for --json. Raises InputError for wrong input."""
    from edgetl.roadworld.write import Written, calibration_path, labels_path, write_clip, write_dataset

    size_hw = parse_size(args.size)
    document: dict[str, object] = {"out": str(args.out), "domain": args.domain, "seed": args.seed}
    done: Written
    if args.clip is not None:
        if not (0 < args.clip <= 3600 and 0 < args.fps <= 1000):
            raise InputError(f"can't render {args.clip:g} s at {args.fps:g} frames/s", remedy="use positive numbers")
        frames = max(round(args.clip * args.fps), 1)
        with Progress("render", frames, unit="frame") as bar:
            done = write_clip(
                args.out,
                seconds=args.clip,
                fps=args.fps,
                size_hw=size_hw,
                domain=args.domain,
                seed=args.seed,
                force=args.force,
                on_frame=bar.step,
            )
        document |= {"kind": "clip", "frames": done.images, "fps": args.fps, "labels": str(labels_path(args.out))}
        document["calibration"] = str(calibration_path(args.out))
    else:
        with Progress("render", args.images, unit="image") as bar:
            done = write_dataset(
                args.out,
                images=args.images,
                domain=args.domain,
                size_hw=size_hw,
                seed=args.seed,
                force=args.force,
                val_fraction=args.val,
                workers=args.workers,
                on_image=bar.step,
            )
        document |= {"kind": "dataset", "images": done.images}
    counted = ", ".join(f"{n} {name}" for name, n in done.per_class.items() if n)
    sys.stderr.write(
        f"{args.out}: {done.images} pictures, {done.objects} objects ({counted}), {done.ignored} ignored\n"
    )
    return document | {
        "size_hw": list(size_hw), "objects": done.objects, "ignored": done.ignored, "per_class": done.per_class
    }  # fmt: skip


def parse_size(text: str) -> tuple[int, int]:
    """'640x360' (width x height) as (360, 640). Raises InputError for anything else."""
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    if not match:
        raise InputError(f"--size {text!r} is not WIDTHxHEIGHT", remedy="write it like 640x360")
    return int(match[2]), int(match[1])
