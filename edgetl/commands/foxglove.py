"""--foxglove: its flags, what is refused before anything is loaded, and the server that it starts."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.descriptions import describe
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.rig.sinks import RigSink
    from edgetl_runtime.sinks import Sink

_PORT = 8765


def add_foxglove_arguments(group: argparse._ActionsContainer) -> None:
    """--foxglove and its layout."""
    group.add_argument(
        "--foxglove",
        type=int,
        nargs="?",
        const=_PORT,
        metavar="PORT",
        help=f"live in Foxglove, on this machine only, on this port ({_PORT} where none is given; 0: any)",
    )
    group.add_argument(
        "--foxglove-layout",
        type=Path,
        metavar="JSON",
        help="write panels for this run's cameras and bundles, to be imported in Foxglove",
    )


def check_foxglove(args: argparse.Namespace) -> None:
    """Raise InputError where --bind would have to open it to others or the layout is in the way, MissingPackage
    without the SDK."""
    if args.foxglove_layout is not None:
        from edgetl_runtime.files import refuse_file

        if args.foxglove is None:
            raise InputError("--foxglove-layout is of --foxglove", remedy="add --foxglove")
        refuse_file(args.foxglove_layout, force=args.force)
    if args.foxglove is None:
        return
    from edgetl_runtime.foxglove.server import check_address
    from edgetl_runtime.imports import need
    from edgetl_runtime.web.access import LOOPBACK

    check_address(args.bind if args.web is None and args.bind is not None else LOOPBACK, args.foxglove)
    need("foxglove", extra="vehicle")


def open_foxglove(args: argparse.Namespace, bundle: Bundle, stack: ExitStack) -> list[Sink]:
    """The server that the flag asks for, closed by `stack`, and on stderr where it is."""
    if args.foxglove is None:
        return []
    from edgetl_runtime.foxglove import LAYOUT, FoxgloveSink

    sink = FoxgloveSink(bundle.manifest.heads, port=args.foxglove, name=f"edgetl: {bundle.manifest.name}")
    stack.callback(sink.close)
    sink.announce()
    _offer_layout(args, LAYOUT.read_bytes(), stack)
    return [sink]


def open_foxglove_rounds(
    args: argparse.Namespace, cameras: Mapping[str, object], bundles: Mapping[str, Bundle], stack: ExitStack
) -> list[RigSink]:
    """The same for several cameras or bundles. cameras: by name."""
    if args.foxglove is None:
        return []
    from edgetl_runtime.foxglove import FoxgloveRounds, rig_layout

    layout = rig_layout(list(cameras), list(bundles))
    sink = FoxgloveRounds(
        list(cameras),
        {name: bundle.manifest.heads for name, bundle in bundles.items()},
        port=args.foxglove,
        name=f"edgetl: {', '.join(bundles)}",
    )
    stack.callback(sink.close)
    sink.announce()
    if args.foxglove_layout is None:
        sys.stderr.write("Foxglove: --foxglove-layout FILE writes panels for these cameras and bundles\n")
    _offer_layout(args, layout, stack)
    return [sink]


def _offer_layout(args: argparse.Namespace, layout: bytes, stack: ExitStack) -> None:
    if args.foxglove_layout is None:
        return
    describe(args, args.foxglove_layout, layout, stack)
    sys.stderr.write(f"Foxglove: import the layout {args.foxglove_layout}\n")
