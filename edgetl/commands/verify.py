"""Check a bundle: every file's hash, the golden samples replayed on this machine and, given data, the metric."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edgetl.commands.arguments import (
    add_engine_dir,
    add_reading_arguments,
    add_signature_argument,
    count,
    points,
    reading_of,
    say,
    signature_json,
    signature_line,
)
from edgetl_runtime.spec import Hop, Provenance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl verify`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--engine", help="engine (default: the chosen one)")
    parser.add_argument("--variant", help="variant (default: the chosen one)")
    add_engine_dir(parser)
    parser.add_argument("--data", type=Path, help="also measure the metric on this dataset")
    add_reading_arguments(parser, "its format (default: found out)")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=count, metavar="N", help="N images spread over the split")
    parser.add_argument("--max-drop", type=points, default=0.5, help="points a metric may lie under the stored one")
    add_signature_argument(parser)


def run(args: argparse.Namespace) -> dict[str, object]:
    """Verify; the exit status is 1 when something does not hold."""
    from edgetl_runtime.bundle import open_bundle
    from edgetl_runtime.engines import choose, load_bundle_engine
    from edgetl_runtime.golden import replay_golden

    bundle = open_bundle(args.bundle, require_signature=args.require_signature)
    say(f"signature    {signature_line(bundle, args.require_signature)}")
    say(f"files        {len(bundle.manifest.files)} files match their SHA-256")
    picked, engine_name = choose(bundle, variant=args.variant, engine=args.engine, engine_dir=args.engine_dir)
    engine = load_bundle_engine(bundle, variant=picked.name, engine=args.engine, engine_dir=args.engine_dir)
    try:
        golden = replay_golden(bundle, engine, variant=picked.name)
    finally:
        engine.close()
    key = f"{engine_name}/{picked.name}"
    versions = engine_versions(bundle.manifest.provenance, engine_name)
    if versions and versions["here"] != versions["exported"]:
        say(f"engine       {engine_name} {versions['here']} here, {versions['exported']} where it was exported")
    say(
        f"golden       {golden.compared} frames on {key}: worst relative error {golden.worst_rel_error:.2e}, "
        f"allowed {golden.tolerance:.0e}: {'ok' if golden.ok else 'FAILED'}"
    )
    if golden.why:
        say(f"             {golden.why}")
    if len(golden.heads) > 1:
        say("             " + ", ".join(f"{name} {error:.2e}" for name, error in golden.heads.items()))
    ok, metric = golden.ok, None
    if args.data is not None:
        metric = _metric(args, key, bundle.manifest.hops)
        ok = ok and bool(metric["ok"])
    say("verified" if ok else "NOT verified")
    return {
        "ok": ok,
        "exit_status": 0 if ok else 1,
        "engine": engine_name,
        "variant": picked.name,
        "engine_versions": versions,
        "hops": msgspec.to_builtins(bundle.manifest.hops),
        "golden": {"compared": golden.compared, "worst_rel_error": golden.worst_rel_error},
        "metric": metric,
        "signature": signature_json(bundle, args.require_signature),
    }


def engine_versions(provenance: Provenance, engine: str) -> dict[str, str]:
    """The engine's package, `here` and where the bundle was `exported`; empty where either is not known."""
    from edgetl.versions import package_versions

    here, exported = package_versions().get(engine), provenance.packages.get(engine)
    return {"here": here, "exported": exported} if here and exported else {}


def _metric(args: argparse.Namespace, key: str, hops: tuple[Hop, ...]) -> dict[str, object]:
    """The metric of every labelled head now, against what the manifest stores for this pair."""
    from edgetl.metrics.predict import FramesOnce, evaluate
    from edgetl.metrics.subject import open_subject

    dataset = reading_of(args).read(args.data, args.split)
    if args.limit:
        dataset = dataset.take(args.limit)
    with open_subject(
        args.bundle,
        engine=args.engine,
        variant=args.variant,
        engine_dir=args.engine_dir,
        require_signature=args.require_signature,
    ) as subject:
        aligned = subject.align(dataset)
        frames = FramesOnce(aligned, subject.preprocess)
        found = evaluate(subject.infer, frames, subject.kinds(aligned), title="evaluating")
    stored = stored_values(hops, key, found.values)
    heads: dict[str, dict[str, object]] = {}
    for name, metric in found.heads.items():
        before = stored.get(name)
        ok = before is None or metric.value >= before - args.max_drop / 100
        heads[name] = {"metric": metric.metric, "value": metric.value, "stored": before, "ok": ok}
        against = "nothing stored" if before is None else f"stored {before:.4f}: {'ok' if ok else 'FAILED'}"
        say(f"metric       {name}: {metric.metric} {metric.value:.4f} on {dataset.name}, {against}")
    return {
        "name": found.metric,
        "value": found.value,
        "stored": sum(stored.values()) / len(stored) if stored else None,
        "images": found.images,
        "ok": all(h["ok"] for h in heads.values()),
        "heads": heads,
    }


def stored_values(hops: tuple[Hop, ...], key: str, names: Iterable[str]) -> dict[str, float]:
    """The metric that the manifest stores for the pair `key`, by those of the heads `names` that it has one for.

    Of a graph for TensorRT it is stored under the graph's name alone: another engine computed it where it was exported.
    A hop over one head has its figure in `value` alone; it is that head's where one head is asked for. Agreement with
    the network before it was compiled is no figure that labels give.
    """
    from edgetl.metrics.agreement import AGREEMENT

    known_as = (key, key.removeprefix("tensorrt/"))
    hop = next((h for h in hops if h.hop in known_as), None)
    asked = tuple(names)
    if hop is None or hop.metric == AGREEMENT:
        return {}
    if hop.heads:
        return {name: hop.heads[name] for name in asked if name in hop.heads}
    return {asked[0]: hop.value} if len(asked) == 1 else {}
