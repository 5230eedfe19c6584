"""--out, --view and --collect: their flags, what is refused before anything is loaded, and the sinks that they make."""

from __future__ import annotations

import argparse
import math
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError, UnfitBundle

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.rig.sinks import LaneName, RigSink
    from edgetl_runtime.sinks import Sink

_LONGEST = 80
"""So much of a bundle's name is in the name of a file, in letters."""


def add_picture_arguments(group: argparse._ActionsContainer) -> None:
    """--out, --view and --collect."""
    group.add_argument(
        "--out",
        type=Path,
        metavar="MP4",
        help="write an annotated video; with several cameras one of each, NAME.CAMERA.mp4, or CAMERA.mp4 in a folder "
        "that exists; with several bundles .BUNDLE before .mp4",
    )
    group.add_argument("--view", action="store_true", help="show a live window of each camera; q ends")
    group.add_argument(
        "--collect",
        type=Path,
        metavar="DIR",
        help="keep frames for labelling while many are unlike the training's; with several cameras or bundles in a "
        "folder of each camera",
    )
    group.add_argument(
        "--collect-mb",
        type=float,
        default=200.0,
        metavar="MB",
        help="most that the folder of --collect may hold; every camera may fill an equal part of it",
    )


def check_pictures(args: argparse.Namespace) -> None:
    """Raise InputError for what is wrong whichever bundles there are."""
    from edgetl_runtime.files import refuse_file

    if not 0 < args.collect_mb < math.inf:
        raise InputError(f"--collect-mb must be above zero, and a number of MB, found {args.collect_mb:g}")
    if args.out is None:
        return
    if not (args.also_camera or args.also_bundle):
        _refuse_source(args.out, [args.source])
        refuse_file(args.out, force=args.force)
    elif not args.out.is_dir() and args.out.suffix.lower() != ".mp4":
        raise InputError(
            f"--out of several cameras or bundles must end in .mp4 or be a folder that exists, found {args.out}",
            remedy="like --out drive.mp4, which gives drive.left.mp4 and so on",
        )


def open_pictures(args: argparse.Namespace, bundle: Bundle, camera: Camera, stack: ExitStack) -> list[Sink]:
    """What the flags ask for, closed by `stack`. Raises InputError, MissingPackage."""
    from edgetl_runtime.collect import CollectSink
    from edgetl_runtime.sinks import VideoSink, WindowSink

    _check_collect(args, [bundle])
    sinks: list[Sink] = []
    if args.out:
        sinks.append(VideoSink(args.out, fps=camera.fps, force=args.force))
    if args.view:
        sinks.append(WindowSink(bundle.manifest.name))
    if args.collect:
        sinks.append(CollectSink(args.collect, budget_mb=args.collect_mb))
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def check_rig_pictures(
    args: argparse.Namespace, sources: Mapping[str, str], bundles: Mapping[str, Bundle]
) -> dict[LaneName, Path]:
    """The video of each lane, none without --out. Raises InputError where one of them, or --collect, can't be made."""
    from edgetl_runtime.files import refuse_file

    _check_collect(args, bundles.values())
    if args.out is None:
        return {}
    videos = video_paths(args.out, sources, bundles)
    for path in videos.values():
        _refuse_source(path, sources.values())
        refuse_file(path, force=args.force)
    return videos


def open_rig_pictures(
    args: argparse.Namespace,
    cameras: Mapping[str, Camera],
    bundles: Mapping[str, Bundle],
    videos: Mapping[LaneName, Path],
    stack: ExitStack,
) -> list[RigSink]:
    """What the flags ask for, closed by `stack`. videos: as of `check_rig_pictures`."""
    from edgetl_runtime.collect import CollectSink
    from edgetl_runtime.rig.pictured import CollectRounds, WindowRounds
    from edgetl_runtime.rig.sinks import LaneSinks
    from edgetl_runtime.sinks import VideoSink, WindowSink

    heads = {name: bundle.manifest.heads for name, bundle in bundles.items()}
    sinks: list[RigSink] = []
    if videos:
        films = {
            lane: [VideoSink(path, fps=cameras[lane.camera].fps, force=args.force)] for lane, path in videos.items()
        }
        sinks.append(LaneSinks(heads, films))
    if args.view:
        sinks.append(WindowRounds(heads, {name: WindowSink(name) for name in cameras}))
    if args.collect:
        folders = {}
        for name in cameras:
            folders[name] = CollectSink(args.collect / name, budget_mb=args.collect_mb / len(cameras))
            stack.callback(folders[name].close)
        sinks.append(CollectRounds(folders))
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def tell_written(videos: Iterable[Path]) -> None:
    """On stderr, which of the videos there are."""
    for path in videos:
        if path.exists():
            sys.stderr.write(f"wrote {path}\n")


def video_paths(out: Path, cameras: Iterable[str], bundles: Iterable[str]) -> dict[LaneName, Path]:
    """NAME.CAMERA.mp4 for out=NAME.mp4, CAMERA.mp4 in it for a folder; with several bundles CAMERA.BUNDLE.

    A bundle's name, which may be anything, has _ for what is no letter, digit, dot or dash. Raises InputError where two
    become one.
    """
    from edgetl_runtime.rig.sinks import LaneName

    names, parts = list(bundles), {}
    for name in names:
        parts[name] = "." + re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_LONGEST] if len(names) > 1 else ""
    twice = [name for name in names if list(parts.values()).count(parts[name]) > 1]
    if twice:
        raise InputError(
            f"the videos of the bundles {' and '.join(map(repr, twice))} would have one name",
            remedy="give one another name: --also-bundle NAME=...",
        )
    folder, stem = (out, "") if out.is_dir() else (out.parent, f"{out.stem}.")
    return {
        LaneName(camera, bundle): folder / f"{stem}{camera}{parts[bundle]}.mp4"
        for camera in cameras
        for bundle in names
    }


def _check_collect(args: argparse.Namespace, bundles: Collection[Bundle]) -> None:
    if args.collect and all(bundle.manifest.domain is None for bundle in bundles):
        none = "this bundle has none" if len(bundles) == 1 else "none of these bundles has them"
        raise UnfitBundle(f"--collect needs the training domain's statistics, and {none}")


def _refuse_source(path: Path, sources: Iterable[str]) -> None:
    if any(path.resolve() == Path(source).resolve() for source in sources):
        raise InputError(f"{path} is the source itself", remedy="write to another file")
