"""The whole way, offline: render driving scenes, fine-tune, export, verify, run a clip, write a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.commands.arguments import say, seed, share_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl demo`."""
    parser.add_argument("--out", type=Path, default=Path("edgetl-demo"), help="directory to write")
    parser.add_argument("--compare", action="store_true", help="also tune from random weights, same budget")
    parser.add_argument("--domain", choices=["day", "night", "fog", "rain"], default="day")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--force", action="store_true", help="replace an existing --out")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Run the demo, and say what lies where."""
    share_cores()
    from edgetl.demo import DemoConfig, demo
    from edgetl_export.publish import refuse_existing

    refuse_existing(args.out, force=args.force)
    config = DemoConfig(domain=args.domain, seed=args.seed)
    document = demo(args.out, config, compare=args.compare, force=args.force)
    say("")
    say(f"report       {document['report']}")
    say(f"clip         {document['clip']}")
    say(f"bundle       {document['bundle']}")
    say(f"done in {document['seconds']} s; next: edgetl run {document['bundle']} 0 --view, or edgetl tune YOUR_DATA")
    return document
