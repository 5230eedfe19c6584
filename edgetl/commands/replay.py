"""Run a recording's frames through its bundles again and compare every result, bit for bit."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands import arguments
from edgetl.commands.arguments import (
    add_engine_dir,
    add_signature_argument,
    count,
    plain,
    signature_json,
    signatures_json,
)
from edgetl.commands.replay_bundles import bundles_of
from edgetl.commands.replay_outputs import open_sinks
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.recording.format import RecordedBundle, RecordingHeader
    from edgetl_runtime.recording.reader import Recording
    from edgetl_runtime.recording.replay import ReplayReport
    from edgetl_runtime.result import Result
    from edgetl_runtime.sinks import Sink

SHOWN = 10
"""Differing frames that are described on stderr; --json has more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl replay`."""
    parser.description = (
        "Runs the frames of a recording through its bundles and compares the results bit for bit: status 0 where all "
        "are equal, 1 where one differs. Variant, engine, threads, threshold, tracking and calibration are the "
        "recorded run's."
    )
    parser.add_argument("recording", type=Path, help="what `edgetl run --record` wrote; .part.mcap after a crash")
    parser.add_argument(
        "bundles",
        nargs="+",
        metavar="[NAME=]BUNDLE",
        help="the bundle's folder; of several every one, with its name in the recording where it is another than then",
    )
    parser.add_argument("--partial", action="store_true", help="replay the bundles that are given, and no others")
    parser.add_argument(
        "--out", type=Path, metavar="MP4", help="write an annotated video of the replay; of one camera and one bundle"
    )
    parser.add_argument("--jsonl", type=Path, help="write one line of JSON for each result of the replay")
    parser.add_argument("--engine", help="run on this engine instead of the recorded one")
    parser.add_argument("--variant", help="run this variant instead of the recorded one")
    add_engine_dir(parser)
    parser.add_argument("--threshold", type=float, help="score from which a box or category counts, 0 to 1")
    parser.add_argument("--max-frames", type=count, metavar="N", help="end after N results")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_signature_argument(parser)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A bundle that is replayed."""

    bundle: Bundle
    engine: Engine
    variant: str

    def __str__(self) -> str:
        return f"{self.variant} on {self.engine.name} ({self.engine.precision})"


def run(args: argparse.Namespace) -> dict[str, object]:
    """Replay; the exit status is 1 when a result differs."""
    from edgetl_runtime.recording.reader import Recording

    _check(args)
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(args.recording))
        header = recording.header
        bundles = bundles_of(header, args.bundles, partial=args.partial, require_signature=args.require_signature)
        loaded = {name: _load(args, bundle, header.bundles[name], stack) for name, bundle in bundles.items()}
        differs = _other_conditions(header, loaded)
        for name, one in loaded.items():
            say(f"{name}: {one} <- {args.recording}")
        for line in differs:
            say(f"note: {line}")
        sinks = open_sinks(args, header, bundles, stack)
        report = _replay(args, recording, loaded, sinks)
    if not report.compared:
        raise InputError(
            f"{args.recording} holds no frame that can be replayed" + "".join(f"; {plain(n)}" for n in report.notes)
        )
    ok = report.equal == report.compared
    _tell(report, [p for p in (args.out, args.jsonl) if p], several=len(list(header.lanes)) > 1)
    return {
        **report.as_json(),
        "notes": [*differs, *report.notes],
        "ok": ok,
        "exit_status": 0 if ok else 1,
        **_bundles_json(args, loaded),
    }


def _bundles_json(args: argparse.Namespace, loaded: Mapping[str, _Loaded]) -> dict[str, object]:
    """What ran, by bundle and in all."""
    signatures = {name: signature_json(one.bundle, args.require_signature) for name, one in loaded.items()}
    rows = {
        name: {"engine": one.engine.name, "precision": one.engine.precision, "variant": one.variant}
        for name, one in loaded.items()
    }
    together = {
        key: ", ".join(dict.fromkeys(row[key] for row in rows.values())) for key in ("engine", "precision", "variant")
    }
    bundles = {name: {**row, "signature": signatures[name]} for name, row in rows.items()}
    return {**together, "signature": signatures_json(list(signatures.values())), "bundles": bundles}


def say(text: str) -> None:
    """Lines for a person. What a file says of itself must not steer the terminal."""
    arguments.say("\n".join(plain(line) for line in text.split("\n")))


def _check(args: argparse.Namespace) -> None:
    from edgetl_runtime.files import refuse_file

    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be from 0 to 1, found {args.threshold:g}")
    outputs = [path for path in (args.out, args.jsonl) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError(f"{args.out} can't be two outputs at once", remedy="give each another name")
    for path in outputs:
        if path.resolve() == args.recording.resolve():
            raise InputError(f"{path} is the recording itself", remedy="write to another file")
        refuse_file(path, force=args.force)


def _load(args: argparse.Namespace, bundle: Bundle, run: RecordedBundle, stack: ExitStack) -> _Loaded:
    from edgetl_runtime.engines import choose, load_bundle_engine

    name, variant = args.engine or run.engine, args.variant or run.variant
    picked, _ = choose(bundle, variant=variant, engine=name, engine_dir=args.engine_dir)
    engine = load_bundle_engine(
        bundle, variant=picked.name, engine=name, threads=run.threads, engine_dir=args.engine_dir
    )
    stack.callback(engine.close)
    return _Loaded(bundle, engine, picked.name)


def _other_conditions(header: RecordingHeader, loaded: Mapping[str, _Loaded]) -> list[str]:
    """What is not as it was when the recording was made, each in a line."""
    from edgetl_runtime.machine import machine
    from edgetl_runtime.recording.header import manifest_sha256

    found = []
    for name, one in loaded.items():
        run, sha256 = header.bundles[name], manifest_sha256(one.bundle)
        where = f"{name}: " if len(header.bundles) > 1 else ""
        if sha256 != run.manifest_sha256:
            found.append(
                f"{where}this is another bundle than the recorded run's: manifest {sha256[:12]}, recorded {run.bundle} "
                f"with {run.manifest_sha256[:12]}"
            )
        recorded = f"{run.variant} on {run.engine} ({run.precision})"
        if str(one) != recorded:
            found.append(f"{where}{one}, recorded with {recorded}")
    if (here := machine()) != header.machine:
        found.append(f"recorded on another machine, which may round otherwise: {header.machine}; this is {here}")
    return found


def _replay(
    args: argparse.Namespace,
    recording: Recording,
    loaded: Mapping[str, _Loaded],
    sinks: Mapping[tuple[str, str], list[Sink]],
) -> ReplayReport:
    from edgetl_runtime.progress import Progress
    from edgetl_runtime.recording.replay import replay_all, replayed_lanes

    bundles = {name: (one.bundle, one.engine) for name, one in loaded.items()}
    lanes = replayed_lanes(recording.header, bundles, threshold=args.threshold, sinks=sinks)
    with Progress("replay", args.max_frames, unit="frames") as progress:

        def step(result: Result) -> None:
            progress.step()

        return replay_all(recording, lanes, max_frames=args.max_frames, on_result=step)


def _tell(report: ReplayReport, outputs: list[Path], *, several: bool) -> None:
    from edgetl_runtime.ledger import table

    say(table(report.stages))
    for difference in report.differing[:SHOWN]:
        for line in difference.lines(lane=several):
            say(line)
    differing = report.compared - report.equal
    if differing > SHOWN:
        say(f"... and {differing - SHOWN} frames more")
    for note in report.notes:
        say(f"note: {note}")
    for path in outputs:
        if path.exists():
            say(f"wrote {path}")
    if several:
        for camera, bundles in report.lanes.items():
            for bundle, lane in bundles.items():
                say(f"{bundle} on {camera}: {lane.equal} of {lane.compared} results are equal")
    if differing:
        say(f"{differing} of {report.compared} results DIFFER from the recording, {report.equal} are equal")
    else:
        say(f"all {report.compared} results are equal to the recording, bit for bit")
