"""--web: its flags, what is refused before anything is loaded, and the live page that it opens."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.rig.sinks import RigSink
    from edgetl_runtime.sinks import Sink


def add_web_arguments(group: argparse._ActionsContainer) -> None:
    """--web and who may look."""
    group.add_argument("--web", type=int, metavar="PORT", help="live page, metrics and probes on this port; 0: any")
    group.add_argument("--bind", metavar="ADDRESS", help="address of --web (default: this machine only)")
    group.add_argument("--token", help="what --web asks for; made where --bind opens it to others")


def check_web(args: argparse.Namespace) -> None:
    """Raise InputError for flags that go with --web alone, and for what is no port."""
    if args.web is None and (args.bind is not None or args.token is not None):
        raise InputError("--bind and --token are of --web", remedy="add --web PORT")
    if args.web is not None and not 0 <= args.web <= 65535:
        raise InputError(f"a port is from 0 to 65535, found {args.web}")


def open_web(args: argparse.Namespace, bundle: Bundle, stack: ExitStack) -> list[Sink]:
    """The live page, before anything slow: it says that the run is starting."""
    if args.web is None:
        return []
    from edgetl_runtime.web import WebSink

    sink = WebSink(bundle.manifest.heads, port=args.web, bind=_bind(args), token=args.token)
    stack.callback(sink.close)
    sink.announce()
    return [sink]


def open_rig_web(
    args: argparse.Namespace, cameras: Collection[str], bundles: Mapping[str, Bundle], stack: ExitStack
) -> list[RigSink]:
    """The same of every bundle on every camera."""
    if args.web is None:
        return []
    from edgetl_runtime.rig.sinks import LaneName
    from edgetl_runtime.web.live import LivePage
    from edgetl_runtime.web.rounds import WebRounds

    lanes = [LaneName(camera, bundle) for camera in cameras for bundle in bundles]
    heads = {name: bundle.manifest.heads for name, bundle in bundles.items()}
    page = LivePage(lanes, heads, port=args.web, bind=_bind(args), token=args.token)
    stack.callback(page.close)
    page.announce()
    return [WebRounds(page)]


def _bind(args: argparse.Namespace) -> str:
    from edgetl_runtime.web.access import LOOPBACK

    return LOOPBACK if args.bind is None else str(args.bind)
