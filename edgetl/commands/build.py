"""edgetl build: a bundle's TensorRT engines on this device."""

from __future__ import annotations

import argparse
import sys

from edgetl.commands.arguments import add_engine_dir
from edgetl_runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "Builds the TensorRT engine of every variant that the bundle has for TensorRT, on the device that will run it; "
        "proves its precision, compares its outputs with the golden samples, and times it. An engine that is up to "
        "date is kept."
    )
    parser.add_argument("bundle", help="the bundle's folder")
    add_engine_dir(parser)
    parser.add_argument("--workspace-mb", type=int, default=1024, help="most memory for the builder's workspace")
    parser.add_argument("--variant", help="build this one only")
    parser.add_argument("--force", action="store_true", help="build again what is up to date")
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="give up on one engine after this time")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Build; people's text goes to stderr."""
    from edgetl_runtime.build import build_bundle
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.tensorrt.jobs import Options
    from edgetl_runtime.tensorrt.worker import WORKER

    if args.workspace_mb < 1 or not args.timeout_s > 0:
        raise InputError("--workspace-mb and --timeout-s must be above zero")
    options = Options(
        worker=WORKER,
        engine_dir=args.engine_dir,
        workspace_mb=args.workspace_mb,
        variant=args.variant,
        force=args.force,
        timeout_s=args.timeout_s,
    )
    document = build_bundle(open_bundle(args.bundle), options, say=_say)
    where = f" --engine-dir {args.engine_dir}" if args.engine_dir else ""
    _say(f"run it       edgetl run {args.bundle} SOURCE --engine tensorrt{where}")
    return document


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
