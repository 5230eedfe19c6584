"""Run a recording's frames through a bundle again and compare every result, bit for bit."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands import arguments
from edgetl.commands.arguments import add_engine_dir, add_signature_argument, count, signature_json
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.recording.format import RecordingHeader
    from edgetl_runtime.recording.reader import Recording
    from edgetl_runtime.recording.replay import ReplayReport
    from edgetl_runtime.result import Result
    from edgetl_runtime.sinks import Sink

SHOWN = 10
"""Differing frames that are described on stderr; --json has more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl replay`."""
    parser.description = (
        "Runs the frames of a recording through a bundle and compares the results bit for bit: status 0 where all are "
        "equal, 1 where one differs. Variant, engine, threads, threshold, tracking and calibration are the recorded "
        "run's."
    )
    parser.add_argument("recording", type=Path, help="what `edgetl run --record` wrote; .part.mcap after a crash")
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--out", type=Path, metavar="MP4", help="write an annotated video of the replay")
    parser.add_argument("--jsonl", type=Path, help="write one line of JSON for each result of the replay")
    parser.add_argument("--engine", help="run on this engine instead of the recorded one")
    parser.add_argument("--variant", help="run this variant instead of the recorded one")
    add_engine_dir(parser)
    parser.add_argument("--threshold", type=float, help="score from which a box or category counts, 0 to 1")
    parser.add_argument("--max-frames", type=count, metavar="N", help="end after N frames")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_signature_argument(parser)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Replay; the exit status is 1 when a result differs."""
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.recording.reader import Recording

    _check(args)
    with ExitStack() as stack:
        recording = stack.enter_context(Recording(args.recording))
        bundle = open_bundle(args.bundle, require_signature=args.require_signature)
        engine, variant = _engine(args, bundle, recording.header)
        stack.callback(engine.close)
        differs = _other_conditions(recording.header, bundle, engine, variant)
        header = recording.header
        say(f"{header.bundle}: {variant} on {engine.name} ({engine.precision}) <- {args.recording}")
        for line in differs:
            say(f"note: {line}")
        sinks = _open_sinks(args, bundle, recording, stack)
        report = _replay(args, recording, bundle, engine, sinks)
    if not report.compared:
        raise InputError(
            f"{args.recording} holds no frame that can be replayed" + "".join(f"; {_plain(n)}" for n in report.notes)
        )
    ok = report.equal == report.compared
    _tell(report, [p for p in (args.out, args.jsonl) if p])
    notes = [*differs, *report.notes]
    return {
        **report.as_json(),
        "notes": notes,
        "ok": ok,
        "exit_status": 0 if ok else 1,
        "engine": engine.name,
        "precision": engine.precision,
        "variant": variant,
        "signature": signature_json(bundle, args.require_signature),
    }


def say(text: str) -> None:
    """Lines for a person. What a file says of itself must not steer the terminal."""
    arguments.say("\n".join(_plain(line) for line in text.split("\n")))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _fps(recorded: float) -> float:
    return recorded if 1 <= recorded <= 1000 else 30.0


def _check(args: argparse.Namespace) -> None:
    from edgetl_runtime.files import refuse_file

    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be from 0 to 1, found {args.threshold:g}")
    for path in (args.out, args.jsonl):
        if path is None:
            continue
        if path.resolve() == args.recording.resolve():
            raise InputError(f"{path} is the recording itself", remedy="write to another file")
        refuse_file(path, force=args.force)


def _engine(args: argparse.Namespace, bundle: Bundle, header: RecordingHeader) -> tuple[Engine, str]:
    from edgetl_runtime.engines import choose, load_bundle_engine

    name, variant = args.engine or header.engine, args.variant or header.variant
    picked, _ = choose(bundle, variant=variant, engine=name, engine_dir=args.engine_dir)
    engine = load_bundle_engine(
        bundle, variant=picked.name, engine=name, threads=header.threads, engine_dir=args.engine_dir
    )
    return engine, picked.name


def _other_conditions(header: RecordingHeader, bundle: Bundle, engine: Engine, variant: str) -> list[str]:
    """What is not as it was when the recording was made, each in a line."""
    from edgetl_runtime.machine import machine
    from edgetl_runtime.recording.header import manifest_sha256

    found = []
    sha256 = manifest_sha256(bundle)
    if sha256 != header.manifest_sha256:
        found.append(
            f"this is another bundle than the recorded run's: manifest {sha256[:12]}, recorded {header.bundle} with "
            f"{header.manifest_sha256[:12]}"
        )
    now = (variant, engine.name, engine.precision)
    if now != (header.variant, header.engine, header.precision):
        found.append(
            f"{variant} on {engine.name} ({engine.precision}), recorded with {header.variant} on {header.engine} "
            f"({header.precision})"
        )
    if (here := machine()) != header.machine:
        found.append(f"recorded on another machine, which may round otherwise: {header.machine}; this is {here}")
    return found


def _open_sinks(args: argparse.Namespace, bundle: Bundle, recording: Recording, stack: ExitStack) -> list[Sink]:
    from edgetl_runtime.sinks import JsonLinesSink, VideoSink

    sinks: list[Sink] = []
    if args.out:
        sinks.append(VideoSink(args.out, fps=_fps(recording.header.fps), force=args.force))
    if args.jsonl:
        sinks.append(JsonLinesSink(args.jsonl, bundle.manifest.heads, force=args.force))
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def _replay(
    args: argparse.Namespace, recording: Recording, bundle: Bundle, engine: Engine, sinks: list[Sink]
) -> ReplayReport:
    from edgetl_runtime.progress import Progress
    from edgetl_runtime.recording.replay import replay

    header = recording.header
    with Progress("replay", args.max_frames, unit="frames") as progress:

        def step(result: Result) -> None:
            progress.step()

        return replay(
            recording,
            bundle,
            engine,
            threshold=header.threshold if args.threshold is None else args.threshold,
            deadline_ms=header.deadline_ms,
            track=header.track,
            calibration=header.calibration,
            sinks=sinks,
            max_frames=args.max_frames,
            on_result=step,
        )


def _tell(report: ReplayReport, outputs: list[Path]) -> None:
    from edgetl_runtime.ledger import table

    say(table(report.stages))
    for difference in report.differing[:SHOWN]:
        for line in difference.lines():
            say(line)
    differing = report.compared - report.equal
    if differing > SHOWN:
        say(f"... and {differing - SHOWN} frames more")
    for note in report.notes:
        say(f"note: {note}")
    for path in outputs:
        if path.exists():
            say(f"wrote {path}")
    if differing:
        say(f"{differing} of {report.compared} results DIFFER from the recording, {report.equal} are equal")
    else:
        say(f"all {report.compared} results are equal to the recording, bit for bit")
