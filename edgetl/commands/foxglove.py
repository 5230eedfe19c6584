"""--foxglove: its flag, what is refused before anything is loaded, and the server that it starts."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.sinks import Sink

_PORT = 8765


def add_foxglove_arguments(group: argparse._ActionsContainer) -> None:
    """--foxglove."""
    group.add_argument(
        "--foxglove",
        type=int,
        nargs="?",
        const=_PORT,
        metavar="PORT",
        help=f"live in Foxglove, on this machine only, on this port ({_PORT} where none is given; 0: any)",
    )


def check_foxglove(args: argparse.Namespace) -> None:
    """Raise InputError where --bind would have to open it to others, MissingPackage without the SDK."""
    if args.foxglove is None:
        return
    from edgetl_runtime.foxglove.sink import check_bind
    from edgetl_runtime.imports import need

    if args.web is None and args.bind is not None:
        check_bind(args.bind)
    need("foxglove", extra="vehicle")


def open_foxglove(args: argparse.Namespace, bundle: Bundle, stack: ExitStack) -> list[Sink]:
    """The server that the flag asks for, closed by `stack`, and on stderr where it is."""
    if args.foxglove is None:
        return []
    from edgetl_runtime.foxglove.sink import FoxgloveSink

    sink = FoxgloveSink(bundle.manifest.heads, port=args.foxglove, name=f"edgetl: {bundle.manifest.name}")
    stack.callback(sink.close)
    sink.announce()
    return [sink]
