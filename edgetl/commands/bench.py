"""edgetl bench: latency percentiles of a bundle, every engine and variant here."""

from __future__ import annotations

import argparse
import sys

from edgetl.commands.arguments import add_engine_dir
from edgetl_runtime.errors import InputError
from edgetl_runtime.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = "Measures every engine and variant of a bundle in turns, on a golden frame."
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--runs", type=int, default=200, help="runs of each pair (default 200)")
    parser.add_argument("--seconds", type=float, help="stop after this time even if runs are left")
    add_engine_dir(parser)
    parser.add_argument("--threads", type=int, default=0, help="threads of each engine (default: its own)")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Measure, and print one line for each pair to stderr."""
    from edgetl_runtime.bench import bench_bundle
    from edgetl_runtime.bundle import open_bundle

    if args.runs < 1 or args.threads < 0 or (args.seconds is not None and args.seconds <= 0):
        raise InputError("--runs and --seconds must be above zero, --threads not below")
    bundle = open_bundle(args.bundle)
    with Progress("bench", args.runs, unit="runs") as progress:
        document = bench_bundle(
            bundle,
            runs=args.runs,
            seconds=args.seconds,
            threads=args.threads,
            engine_dir=args.engine_dir,
            on_round=lambda done: progress.step(done - progress.done),
        )
    sys.stderr.write(_text(document) + "\n")
    return document


def _text(document: dict[str, object]) -> str:
    rows, skipped, chosen = document["rows"], document["skipped"], document["chosen"]
    assert isinstance(rows, list) and isinstance(skipped, list) and isinstance(chosen, dict)
    lines = [f"{'engine':<12} {'variant':<10} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'runs':>6}"]
    for r in rows:
        mark = "  chosen" if (r["engine"], r["variant"]) == (chosen["engine"], chosen["variant"]) else ""
        figures = f"{r['p50_ms']:9.2f} {r['p95_ms']:9.2f} {r['p99_ms']:9.2f} {r['runs']:6}"
        lines.append(f"{r['engine']:<12} {r['variant']:<10} {figures}{mark}")
    if document["baseline_p50_ms"] is not None:
        lines.append(f"baseline     {document['baseline']} with default options: {document['baseline_p50_ms']:.2f} ms")
    if document["speedup"] is not None:
        lines.append(f"speedup      {document['speedup']:.2f}x")
    lines += [f"not run      {s['engine']}/{s['variant']}: {s['why']}" for s in skipped]
    return "\n".join(lines)
