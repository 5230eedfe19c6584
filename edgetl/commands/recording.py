"""--record: its flags, what is refused before anything is loaded, and the recorder that it makes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.recording.sink import RecordSink


def add_record_arguments(group: argparse._ActionsContainer) -> None:
    """--record and its bound."""
    group.add_argument(
        "--record", type=Path, metavar="MCAP", help="record frames, results and events for `edgetl replay` and Foxglove"
    )
    group.add_argument(
        "--record-budget-mb", type=float, default=0.0, metavar="MB", help="end the recording at this size (0: none)"
    )


def check_recording(args: argparse.Namespace) -> None:
    """Raise InputError or MissingPackage where the recording can't be made."""
    if args.record_budget_mb < 0:
        raise InputError(f"--record-budget-mb must not be below zero, found {args.record_budget_mb:g}")
    if args.record is None:
        if args.record_budget_mb:
            raise InputError("--record-budget-mb bounds a recording that is not made", remedy="give --record FILE.mcap")
        return
    from edgetl_runtime.imports import need
    from edgetl_runtime.recording.part import check_paths

    part = check_paths(args.record, force=args.force)
    if Path(args.source).resolve() in (args.record.resolve(), part.resolve()):
        raise InputError(f"{args.record} is the source itself", remedy="write to another file")
    need("zstandard", extra="vehicle")


def start_recording(
    args: argparse.Namespace, bundle: Bundle, camera: Camera, engine: Engine, *, variant: str, threads: int
) -> RecordSink | None:
    """The recorder that the flags ask for, and on stderr where it writes; None where they ask for none."""
    if args.record is None:
        return None
    from edgetl_runtime.recording.header import make_header
    from edgetl_runtime.recording.sink import RecordSink

    header = make_header(
        bundle,
        camera,
        engine,
        variant=variant,
        threads=threads,
        threshold=args.threshold,
        deadline_ms=args.deadline_ms,
        track=args.track,
        calibration=args.calibrated,
    )
    recorder = RecordSink(
        args.record,
        header,
        budget_bytes=int(args.record_budget_mb * 1e6),
        force=args.force,
        patient=not camera.live,
        say=lambda text: print_line(f"\nedgetl: {text}"),
    )
    print_line(f"recording to {recorder.part}, which becomes {args.record.name} when the run ends")
    return recorder


def print_line(text: str) -> None:
    """One line for a person, on stderr."""
    sys.stderr.write(text + "\n")
