"""--record: its flags, what is refused before anything is loaded, and the recorder that it makes."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import ExitStack

    from edgetl.commands.engines import Engines
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.recording.recorder import Recorder
    from edgetl_runtime.recording.sink import RecordRounds, RecordSink
    from edgetl_runtime.rig.network import Network


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
    if not 0 <= args.record_budget_mb < math.inf:
        raise InputError(f"--record-budget-mb must be 0 (none) or more, found {args.record_budget_mb:g}")
    if args.record is None:
        if args.record_budget_mb:
            raise InputError("--record-budget-mb bounds a recording that is not made", remedy="give --record FILE.mcap")
        return
    from edgetl_runtime.imports import need
    from edgetl_runtime.recording.part import check_paths

    part = check_paths(args.record, force=args.force)
    sources = [args.source, *(text.partition("=")[2] for text in args.also_camera)]
    if {Path(source).resolve() for source in sources} & {args.record.resolve(), part.resolve()}:
        raise InputError(f"{args.record} is the source itself", remedy="write to another file")
    need("zstandard", extra="vehicle")


def check_rig_recording(args: argparse.Namespace, cameras: Collection[str], bundles: Collection[str]) -> None:
    """Raise InputError where names of cameras or bundles can't be told apart in a recording."""
    from edgetl_runtime.rig.names import lane_prefixes

    if args.record is not None:
        lane_prefixes(list(cameras), list(bundles), "")


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
        args.record, header, budget_bytes=_budget(args), force=args.force, patient=not camera.live, say=_say
    )
    _announce(args, recorder)
    return recorder


def start_rig_recording(
    args: argparse.Namespace,
    cameras: Mapping[str, Camera],
    networks: Mapping[str, Network],
    engines: Mapping[str, Engines],
    calibrations: Mapping[str, Calibration],
    stack: ExitStack,
) -> list[RecordRounds]:
    """The same for several cameras and bundles, closed by `stack`."""
    if args.record is None:
        return []
    from edgetl_runtime.recording.header import make_rig_header, recorded_bundle, recorded_camera
    from edgetl_runtime.recording.sink import RecordRounds

    bundles = {
        name: recorded_bundle(
            network.bundle,
            network.engine,
            variant=engines[name].picked.name,
            threads=engines[name].threads,
            threshold=args.threshold,
            deadline_ms=args.deadline_ms,
            track=args.track,
        )
        for name, network in networks.items()
    }
    header = make_rig_header({n: recorded_camera(c, calibrations.get(n)) for n, c in cameras.items()}, bundles)
    patient = not any(camera.live for camera in cameras.values())
    recorder = RecordRounds(
        args.record, header, budget_bytes=_budget(args), force=args.force, patient=patient, say=_say
    )
    stack.callback(recorder.close)
    _announce(args, recorder)
    return [recorder]


def _budget(args: argparse.Namespace) -> int:
    return int(args.record_budget_mb * 1e6)


def _announce(args: argparse.Namespace, recorder: Recorder) -> None:
    print_line(f"recording to {recorder.part}, which becomes {args.record.name} when the run ends")


def _say(text: str) -> None:
    print_line(f"\nedgetl: {text}")


def print_line(text: str) -> None:
    """One line for a person, on stderr."""
    sys.stderr.write(text + "\n")
