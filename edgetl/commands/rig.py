"""edgetl run with several cameras or several bundles."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from edgetl.commands.arguments import signature_json, signatures_json
from edgetl.commands.can import open_can_rounds
from edgetl.commands.descriptions import put_descriptions
from edgetl.commands.engines import Engines, open_ladder, proof_line
from edgetl.commands.foxglove import open_foxglove_rounds
from edgetl.commands.geometry import calibrations_of
from edgetl.commands.notifying import open_notify
from edgetl.commands.pictures import check_rig_pictures, open_rig_pictures, tell_written
from edgetl.commands.recording import check_rig_recording, start_rig_recording
from edgetl.commands.rig_arguments import bundles_of, sources_of
from edgetl.commands.ros2 import check_ros2_topics, open_ros2_rounds
from edgetl.commands.sigterm import sigterm_as_interrupt
from edgetl.commands.source import described, injector_of, open_source, patience_of
from edgetl.commands.web import open_rig_web

if TYPE_CHECKING:
    from edgetl_runtime.bundle import Bundle
    from edgetl_runtime.cameras import Camera
    from edgetl_runtime.geometry.calibration import Calibration
    from edgetl_runtime.health import Health
    from edgetl_runtime.inject import Injector
    from edgetl_runtime.rig.network import Network
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.round import RigEvent
    from edgetl_runtime.rig.sharing import Letterboxes
    from edgetl_runtime.rig.sinks import RigPublisher, RigSink
    from edgetl_runtime.rig.summary import RigSummary
    from edgetl_runtime.tally import Tally


def run_rig(args: argparse.Namespace, *, every_s: float) -> dict[str, object]:
    """Run until every source ends, --max-frames or Ctrl-C; the document is the summary, by camera and bundle too.

    --inject is for SOURCE and BUNDLE only, so that the others show what they make of it.
    """
    from edgetl_runtime.health import Health
    from edgetl_runtime.rig.opening import check_boxes, check_rig
    from edgetl_runtime.rig.rig import Rig
    from edgetl_runtime.rig.sharing import Letterboxes
    from edgetl_runtime.rig.sinks import RigPublisher
    from edgetl_runtime.schedule import raise_priority
    from edgetl_runtime.sinks import notes_of
    from edgetl_runtime.tally import Tally

    sources = sources_of(args)
    injector = injector_of(args)
    bundles = bundles_of(args)
    check_rig(bundles, sources, args.gather_ms)
    videos = check_rig_pictures(args, sources, bundles)
    check_rig_recording(args, sources, bundles)
    check_ros2_topics(args, bundles)
    check_boxes(bundles.values(), track=args.track, place=bool(args.calibration))
    health = {name: Health() for name in sources}
    boxes = {name: Letterboxes() for name in sources}
    tallies = {name: Tally(bundle.manifest.heads) for name, bundle in bundles.items()}
    engines = {n: Engines(args, b, injector if i == 0 else None) for i, (n, b) in enumerate(bundles.items())}
    own_health = Health()
    ladder = open_ladder(args.ladder, engines, own_health, cameras=sources)
    with ExitStack() as stack:
        stack.enter_context(sigterm_as_interrupt())  # while it starts and ends, too
        sinks = _open_notify(stack)
        sinks += open_rig_web(args, sources, bundles, stack)
        sinks += open_can_rounds(args, sources, bundles, ladder, stack)
        sinks += open_foxglove_rounds(args, sources, bundles, stack)
        cameras = _open_cameras(args, sources, health, injector, stack)
        calibrations = calibrations_of(args, cameras)
        networks = _open_networks(args, bundles, engines, boxes, calibrations, stack)
        sinks += open_ros2_rounds(args, bundles, calibrations, stack)  # before outputs are replaced
        pictured = open_rig_pictures(args, cameras, bundles, videos, stack)
        sinks += [*_open_sinks(args, bundles, stack), *pictured]
        recorders = start_rig_recording(args, cameras, networks, engines, calibrations, stack)
        sinks += recorders

        publisher = RigPublisher(sinks)
        rig = Rig(
            cameras,
            networks,
            boxes,
            gather_ms=args.gather_ms,
            patience=patience_of(args),
            health=health,
            ladder=ladder,
            own_health=own_health,
            max_frames=args.max_frames,
            every_s=every_s,
            on_event=partial(_tell, publisher),
            on_ledger=_report,
        )
        sys.stderr.write(f"rounds gather for {rig.gather_ms:g} ms\n")
        if args.priority is not None:
            raise_priority(args.priority)
        summary = _drive(args, rig, publisher, tallies)
    notes = [*summary.total.notes, *notes_of([publisher.broken, *sinks])]
    summary = dataclasses.replace(summary, total=dataclasses.replace(summary.total, notes=notes))
    sys.stderr.write(_closing(summary, args, recorded=any(r.finished for r in recorders)) + "\n")
    tell_written(videos.values())
    recording = next((recorder.as_json() for recorder in recorders), None)
    return {**_document(args, summary, bundles, engines, tallies), "recording": recording}


def _open_notify(stack: ExitStack) -> list[RigSink]:
    from edgetl_runtime.rig.sinks import NotifyRounds

    return [NotifyRounds(sink) for sink in open_notify(stack)]


def _open_sinks(args: argparse.Namespace, bundles: dict[str, Bundle], stack: ExitStack) -> list[RigSink]:
    from edgetl_runtime.rig.lines import RoundLines

    sinks: list[RigSink] = []
    if args.jsonl:
        sinks.append(RoundLines(args.jsonl, {n: b.manifest.heads for n, b in bundles.items()}, force=args.force))
    for sink in sinks:
        stack.callback(sink.close)
    return sinks


def _drive(args: argparse.Namespace, rig: Rig, publisher: RigPublisher, tallies: dict[str, Tally]) -> RigSummary:
    from edgetl_runtime.progress import Progress

    counts = [seat.feed.camera.frame_count for seat in rig.seats.values()]
    frames = sum(n for n in counts if n) if all(counts) else None
    totals = [n for n in (args.max_frames, frames) if n]
    interrupted = False
    put_descriptions(args)
    with Progress("run", min(totals, default=None), unit="frames") as progress:
        try:
            with rig:
                publisher.begin(rig)
                for made in rig:
                    t0 = time.perf_counter()
                    publisher.write(made)
                    rig.ledger.add("publish", (time.perf_counter() - t0) * 1e3)
                    for results in made.results.values():
                        for name, result in results.items():
                            tallies[name].add(result)
                    progress.step(len(made.frames), note=f"skew {made.skew_ms:.0f} ms")
                    del made
                    if any(s.stop for s in publisher.sinks):
                        break
        except KeyboardInterrupt:
            interrupted = True
    return rig.summary(interrupted=interrupted)


def _document(
    args: argparse.Namespace,
    summary: RigSummary,
    bundles: dict[str, Bundle],
    engines: dict[str, Engines],
    tallies: dict[str, Tally],
) -> dict[str, object]:
    signatures = {name: signature_json(bundle, args.require_signature) for name, bundle in bundles.items()}
    heads = {name: tally.as_json() for name, tally in tallies.items()}
    of_bundles = {
        name: {**row, "variant": engines[name].picked.name, "heads": heads[name], "signature": signatures[name]}
        for name, row in summary.bundles.items()
    }
    return {
        **summary.as_json(),
        "bundles": of_bundles,
        "variant": ", ".join(dict.fromkeys(e.picked.name for e in engines.values())),
        "heads": {f"{name}/{head}": row for name, by_head in heads.items() for head, row in by_head.items()},
        "signature": signatures_json(list(signatures.values())),
        "proof": None,
    }


def _open_cameras(
    args: argparse.Namespace,
    sources: dict[str, str],
    health: dict[str, Health],
    injector: Injector | None,
    stack: ExitStack,
) -> dict[str, Camera]:
    from edgetl_runtime.rig.opening import FOR_EVER

    cameras: dict[str, Camera] = {}
    for name, source in sources.items():
        own = argparse.Namespace(**(vars(args) | {"source": source, "give_up_s": FOR_EVER}))
        camera = open_source(own, health[name], None if cameras else injector)
        stack.callback(camera.close)
        cameras[name] = camera
        sys.stderr.write(f"{name} <- {described(camera, health[name])}\n")
    return cameras


def _open_networks(
    args: argparse.Namespace,
    bundles: dict[str, Bundle],
    engines: dict[str, Engines],
    boxes: dict[str, Letterboxes],
    calibrations: dict[str, Calibration],
    stack: ExitStack,
) -> dict[str, Network]:
    from edgetl_runtime.rig.network import Network

    networks = {}
    for name, bundle in bundles.items():
        engine, golden = engines[name].first()
        stack.callback(engine.close)
        networks[name] = Network(
            name,
            bundle,
            engines[name].with_faults(engine),
            boxes,
            patience=patience_of(args),
            threshold=args.threshold,
            deadline_ms=args.deadline_ms,
            track=args.track,
            calibrations=calibrations,
            reload=engines[name].again,
            golden=golden,
        )
        sys.stderr.write(
            f"{name}: {engines[name].picked.name} on {engine.name} ({engine.precision}); {proof_line(golden)}\n"
        )
    return networks


def _tell(publisher: RigPublisher, event: RigEvent) -> None:
    what = event.event.detail if event.event.began else "over"
    where = " on ".join(name for name in (event.bundle, event.camera) if name) or "all"
    sys.stderr.write(f"\n{event.event.state:<9} {where}: {event.event.condition}: {what}\n")
    publisher.event(event)


def _report(rig: Rig) -> None:
    from edgetl_runtime.ledger import table

    sys.stderr.write("\n" + table(rig.summary().total.stages) + "\n")


def _closing(summary: RigSummary, args: argparse.Namespace, *, recorded: bool) -> str:
    from edgetl_runtime.ledger import table

    total = summary.total
    lines = [table(total.stages)] if total.stages else []
    for name, row in summary.cameras.items():
        lines.append(
            f"{name:<12} {row['processed']} of {row['captured']} frames ({row['per_s']}/s), {row['dropped']} dropped, "
            f"{row['failed']} failed"
        )
    lines.append(
        f"{total.processed} of {total.captured} frames in {summary.rounds} rounds and {total.seconds:.1f} s, "
        f"skew p99 {summary.skew_ms.get('p99_ms', 0.0):.1f} ms, {total.states.get('late', 0)} results late, "
        f"{total.rss_mb:.0f} MB"
    )
    if total.interrupted:
        lines.append("interrupted; everything until then is written")
    lines += [f"note: {note}" for note in total.notes]
    lines += [f"wrote {path}" for path in (args.jsonl, args.record if recorded else None) if path is not None]
    return "\n".join(lines)
