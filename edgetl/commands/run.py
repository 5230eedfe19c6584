"""edgetl run: a bundle on a camera, a network stream, rendered driving, a video file or a folder of images."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import add_engine_dir, add_signature_argument, signature_json, threads
from edgetl.commands.can import add_can_arguments, check_can, open_can
from edgetl.commands.descriptions import put_descriptions
from edgetl.commands.engines import Engines, open_ladder, proof_line
from edgetl.commands.foxglove import add_foxglove_arguments, check_foxglove, open_foxglove
from edgetl.commands.geometry import add_calibration_argument, calibration_of
from edgetl.commands.notifying import open_notify
from edgetl.commands.pictures import add_picture_arguments, check_pictures, open_pictures
from edgetl.commands.recording import add_record_arguments, check_recording, start_recording
from edgetl.commands.rig import run_rig
from edgetl.commands.rig_arguments import add_rig_arguments, is_rig
from edgetl.commands.ros2 import add_ros2_arguments, check_ros2, open_ros2
from edgetl.commands.sigterm import sigterm_as_interrupt
from edgetl.commands.source import (
    SOURCES,
    add_source_arguments,
    described,
    injector_of,
    open_source,
    patience_of,
    size_hw_of,
)
from edgetl.commands.stderr import stderr_aside
from edgetl.commands.store import add_store_arguments, open_stored
from edgetl.commands.web import add_web_arguments, check_web, open_web
from edgetl_runtime.errors import InputError

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.engines import Engine
    from edgetl_runtime.golden import GoldenReport
    from edgetl_runtime.health import Event, Health
    from edgetl_runtime.ledger import Ledger
    from edgetl_runtime.result import Result
    from edgetl_runtime.session import Summary
    from edgetl_runtime.sinks import Sink
    from edgetl_runtime.tally import Tally

LEDGER_EVERY_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Runs a bundle on a camera (newest frame wins) or a file (every frame)."
    parser.add_argument("bundle", help="the bundle's folder, or a store of `edgetl update`")
    parser.add_argument("source", help=SOURCES)
    parser.add_argument("--threshold", type=float, help="score from which a box or category counts, 0 to 1")
    parser.add_argument("--track", action="store_true", help="give each object a number that it keeps between frames")
    parser.add_argument("--deadline-ms", type=float, default=0.0, help="mark results older than this as late")
    parser.add_argument("--max-frames", type=int, metavar="N", help="end after N results")
    parser.add_argument("--force", action="store_true", help="replace outputs that exist")
    add_signature_argument(parser)
    add_source_arguments(parser)
    add_rig_arguments(parser)
    add_store_arguments(parser)
    add_calibration_argument(parser)
    _add_engine_arguments(parser)
    _add_output_arguments(parser)
    add_ros2_arguments(parser)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    add_engine_dir(parser)
    group = parser.add_argument_group("engine and machine")
    group.add_argument("--engine", help="run on this engine instead of the chosen one")
    group.add_argument("--variant", help="run this variant instead of the chosen one")
    group.add_argument(
        "--threads", type=threads, default=0, metavar="N", help="of the engine, 0: its choice, auto: measured"
    )
    group.add_argument("--cpus", metavar="0,2-3", help="run on these cores only")
    group.add_argument(
        "--priority", type=int, metavar="1..99", help="real-time priority (SCHED_FIFO) of the loop, where it is allowed"
    )
    group.add_argument(
        "--ladder", type=Path, metavar="YAML", help="what to give up, in which order, while results are late"
    )
    group.add_argument(
        "--skip-golden",
        action="store_true",
        help="for development: don't replay a golden sample before the first frame",
    )


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where results go")
    add_picture_arguments(group)
    group.add_argument("--jsonl", type=Path, help="write one line of JSON for each result and event")
    add_web_arguments(group)
    add_record_arguments(group)
    add_can_arguments(group)
    add_foxglove_arguments(group)
    group.add_argument(
        "--prove",
        choices=("window", "source"),
        nargs="?",
        const="window",
        help="measure how old results really are by a time code that the camera sees: in a window here, or already",
    )


@stderr_aside()
def run(args: argparse.Namespace) -> dict[str, object]:
    """Run until the source ends or Ctrl-C; the ledger goes to stderr, the document is the summary."""
    from edgetl_runtime.health import Health
    from edgetl_runtime.prove import ProveSink
    from edgetl_runtime.schedule import parse_cpus, pin, raise_priority, set_opencv_threads
    from edgetl_runtime.sinks import notes_of
    from edgetl_runtime.tally import Tally

    check(args)
    set_opencv_threads(live=True)
    if args.cpus is not None:
        pin(parse_cpus(args.cpus))
    if is_rig(args):
        return run_rig(args, every_s=LEDGER_EVERY_S)
    injector, health = injector_of(args), Health()
    opened = open_stored(args)
    bundle = opened.bundle
    with ExitStack() as stack:
        stack.push(opened.ended)
        stack.enter_context(sigterm_as_interrupt())  # while it starts, too
        watching: list[Sink] = [
            *opened.sinks,
            *open_notify(stack),
            *open_web(args, bundle, stack),
            *open_can(args, bundle, health, stack),
            *open_foxglove(args, bundle, stack),
        ]
        camera = open_source(args, health, injector)
        stack.callback(camera.close)
        set_opencv_threads(live=camera.live)
        args.calibrated = calibration_of(args, camera)
        engines = Engines(args, bundle, injector)
        open_ladder(args.ladder, {"": engines}, health)
        engine, golden = engines.first()  # before outputs are replaced
        watching += open_ros2(args, bundle, camera, stack)  # before outputs are replaced, too
        sinks = [*watching, *_open_sinks(args, bundle, camera, stack), *_open_proof(args, camera, stack)]
        recorder = start_recording(args, bundle, camera, engine, variant=engines.picked.name, threads=engines.threads)
        if recorder is not None:
            sinks.append(recorder)
            stack.callback(recorder.close)
        put_descriptions(args)
        sys.stderr.write(
            f"{bundle.manifest.name}: {engines.picked.name} on {engine.name} ({engine.precision}) <- "
            f"{described(camera, health)}\n{proof_line(golden)}\n"
        )
        tally = Tally(bundle.manifest.heads)
        if args.priority is not None:
            raise_priority(args.priority)
        summary = _loop(args, bundle, camera, engines, engines.with_faults(engine), sinks, tally, golden, health)
    summary = dataclasses.replace(summary, notes=[*summary.notes, *notes_of(sinks)])
    recorded = recorder is not None and recorder.finished
    sys.stderr.write(_closing(summary, args, recorded=recorded) + "\n")
    signature = signature_json(bundle, opened.required)
    proof = next((sink.proof.as_json() for sink in sinks if isinstance(sink, ProveSink)), None)
    return {
        **summary.as_json(),
        "variant": engines.picked.name,
        "heads": tally.as_json(),
        "signature": signature,
        "recording": recorder.as_json() if recorder is not None else None,
        "proof": proof,
        **opened.document(),
    }


def _loop(
    args: argparse.Namespace,
    bundle: Bundle,
    camera: Camera,
    engines: Engines,
    engine: Engine,
    sinks: list[Sink],
    tally: Tally,
    golden: GoldenReport | None,
    health: Health,
) -> Summary:
    from edgetl_runtime.ledger import table
    from edgetl_runtime.loop import run as run_loop
    from edgetl_runtime.progress import Progress

    def report(ledger: Ledger) -> None:
        sys.stderr.write("\n" + table(ledger.snapshot()) + "\n")

    def tell(event: Event) -> None:
        what = event.detail if event.began else "over"
        sys.stderr.write(f"\n{event.state:<9} {event.condition}: {what}\n")

    totals = [n for n in (args.max_frames, camera.frame_count) if n]
    with Progress("run", min(totals, default=None), unit="frames") as progress:

        def step(result: Result) -> None:
            tally.add(result)
            progress.step(note=f"age {result.age_ms:.0f} ms")

        return run_loop(
            bundle,
            camera,
            engine=engine,
            threshold=args.threshold,
            deadline_ms=args.deadline_ms,
            track=args.track,
            calibration=args.calibrated,
            sinks=sinks,
            on_result=step,
            on_event=tell,
            on_ledger=report,
            every_s=LEDGER_EVERY_S,
            max_frames=args.max_frames,
            golden=golden or "skip",
            health=health,
            patience=patience_of(args),
            reload=engines.again,
            ladder=engines.ladder,
        )


def check(args: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is opened or loaded. Raises InputError, MissingPackage."""
    from edgetl_runtime.files import refuse_file
    from edgetl_runtime.pipeline import check_deadline
    from edgetl_runtime.schedule import check_priority, parse_cpus

    patience_of(args)
    size_hw_of(args)
    if args.cpus is not None:
        parse_cpus(args.cpus)
    if args.priority is not None:
        check_priority(args.priority)
    if args.max_frames is not None and args.max_frames < 1:
        raise InputError(f"--max-frames must be at least 1, found {args.max_frames}")
    check_deadline(args.deadline_ms)
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InputError(f"--threshold must be from 0 to 1, found {args.threshold:g}")
    outputs = [args.out, args.jsonl, args.record, args.can_dbc, args.foxglove_layout]
    files = [path.resolve() for path in outputs if path is not None]
    if twice := [path for path in files if files.count(path) > 1]:
        raise InputError(f"{twice[0]} can't be two outputs at once", remedy="give each another name")
    check_pictures(args)
    check_foxglove(args)
    check_web(args)
    if args.jsonl is not None:
        if args.jsonl.resolve() == Path(args.source).resolve():
            raise InputError(f"{args.jsonl} is the source itself", remedy="write to another file")
        refuse_file(args.jsonl, force=args.force)
    check_recording(args)
    check_can(args)
    check_ros2(args)


def _open_sinks(args: argparse.Namespace, bundle: Bundle, camera: Camera, stack: ExitStack) -> list[Sink]:
    from edgetl_runtime.sinks import JsonLinesSink

    sinks = open_pictures(args, bundle, camera, stack)
    if args.jsonl:
        sinks.append(JsonLinesSink(args.jsonl, bundle.manifest.heads, force=args.force))
        stack.callback(sinks[-1].close)
    return sinks


def _open_proof(args: argparse.Namespace, camera: Camera, stack: ExitStack) -> list[Sink]:
    """The time code on the screen where it is not in the picture already, and what reads it."""
    if args.prove is None:
        return []
    from edgetl_runtime.prove import CodeWindow, ProveSink, check_codes, held_frames

    if not camera.live:
        raise InputError("--prove is for a live camera", remedy="see `edgetl run --help` for sources")
    check_codes()
    if args.prove == "window":
        stack.callback(CodeWindow().close)
    sys.stderr.write("counting the frames that the camera keeps, and reading the time code\n")
    sink = ProveSink(held=held_frames(camera))
    stack.callback(sink.close)
    return [sink]


def _closing(summary: Summary, args: argparse.Namespace, *, recorded: bool) -> str:
    from edgetl_runtime.ledger import table

    rate = summary.processed / summary.seconds if summary.seconds else 0.0
    lines = [table(summary.stages)] if summary.stages else []
    lines.append(
        f"{summary.processed} of {summary.captured} frames in {summary.seconds:.1f} s ({rate:.1f}/s), "
        f"{summary.dropped} dropped, {summary.failed} failed, {summary.states.get('late', 0)} late, "
        f"{summary.rss_mb:.0f} MB"
    )
    if summary.interrupted:
        lines.append("interrupted; everything until then is written")
    lines += [f"note: {note}" for note in summary.notes]
    written = (args.out if summary.processed else None, args.jsonl, args.record if recorded else None)
    lines += [f"wrote {path}" for path in written if path is not None]
    return "\n".join(lines)
