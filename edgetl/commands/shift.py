"""How far data is from what a network was trained on: at which level, which images, and what to do.

REFERENCE and DATA are dataset directories, with :SPLIT behind (bdd:train bdd:night), or folders of plain images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.commands.arguments import check_page, count, say, seed, share_cores, size_wxh

if TYPE_CHECKING:
    from edgetl.data import Dataset
    from edgetl.shift.accuracy import AccuracyEstimate
    from edgetl.shift.measure import Shift


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `edgetl shift`."""
    parser.add_argument("reference", metavar="REFERENCE", help="DIRECTORY[:SPLIT] of the known domain (split: train)")
    parser.add_argument("data", metavar="DATA", help="DIRECTORY[:SPLIT] of the new images (split: val)")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="checkpoint, run directory or bundle that looks")
    parser.add_argument(
        "--validation",
        metavar="DIR[:SPLIT]",
        help="with --model: labelled images that it was not trained on, to estimate accuracy by (default: REFERENCE)",
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="without --model: a timm network")
    parser.add_argument("--weights", default="package", help="without --model: package, none or a file")
    parser.add_argument("--size", type=size_wxh, default=(192, 320), metavar="WxH", help="without --model: input size")
    parser.add_argument("--format", metavar="NAME", help="format of both sides (default: found out)")
    parser.add_argument("--group-pattern", metavar="REGEX", help="what in a file's name makes images dependent")
    parser.add_argument("--limit", type=count, default=250, metavar="N", help="N images a side, spread over it")
    parser.add_argument("--seed", type=seed, default=0, help="of the draws by which intervals are made")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with figures and pictures")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Measure, print a table and the advice, and return the document for --json."""
    share_cores()
    from edgetl.shift.measure import document_of, measure_shift
    from edgetl.shift.page import shift_page
    from edgetl.shift.source import Eye, groups_of, look, read_side, spread
    from edgetl_export.report.page import write_report
    from edgetl_runtime.errors import InputError

    check_page(args.page)
    if args.validation and args.model is None:
        raise InputError("--validation estimates the accuracy of a --model, and none is given", remedy="give both")
    reading = {"group_pattern": args.group_pattern, "format": args.format}
    reference = spread(read_side(args.reference, split="train", **reading), args.limit)
    data = spread(read_side(args.data, split="val", **reading), args.limit)
    eye = Eye(args.model, args.backbone, args.weights, args.size)
    features = look(eye, reference), look(eye, data)
    known = spread(read_side(args.validation, split="val", **reading), args.limit) if args.validation else reference
    estimates, notes = _estimates(args.model, known, data)
    if estimates and not args.validation:
        notes += (f"accuracy by {reference.name}: if the model was trained on it, give --validation instead",)
    groups = groups_of(args.reference, args.data, reference, data, shared=bool(args.group_pattern))
    shift = measure_shift(*features, *groups, estimates=estimates, seed=args.seed)
    _tell(shift, reference, data, notes)
    document: dict[str, object] = {"reference": reference.name, "data": data.name, "model": eye.name}
    document |= {"images": [len(reference), len(data)]} | document_of(shift, [str(s.image) for s in data.samples])
    document["notes"] = list(notes)
    if args.page is not None:
        write_report(args.page, shift_page(shift, reference, data, eye=eye.name, notes=notes))
        say(f"page {args.page}")
        document["page"] = str(args.page)
    return document


def _estimates(
    model: Path | None, reference: Dataset, data: Dataset
) -> tuple[tuple[AccuracyEstimate, ...], tuple[str, ...]]:
    """The accuracy of every head by estimate, and why there is none for others."""
    if model is None:
        return (), ()
    from edgetl.metrics.subject import open_subject
    from edgetl.shift.accuracy import estimate_heads

    with open_subject(model) as subject:
        return estimate_heads(subject, reference, data)


def _tell(shift: Shift, reference: Dataset, data: Dataset, notes: tuple[str, ...]) -> None:
    say(f"{data.name} ({len(data)} images) against {reference.name} ({len(reference)} images)")
    say(f"  {'features':<12}{'KID':>9}{'interval':>18}{'chance':>9}{'p':>7}{'neighbours':>12}{'interval':>14}")
    for level in (*shift.levels, shift.overall):
        k, n = level.kernel, level.neighbours
        say(
            f"  {level.name:<12}{k.value.value:>9.4f}{f'{k.value.low:.4f}..{k.value.high:.4f}':>18}{k.null:>9.4f}"
            f"{k.p_value:>7.3f}{n.value:>11.2f}x{f'{n.low:.2f}..{n.high:.2f}':>14}"
        )
    say(f"  {100 * shift.images.untypical:.0f} % of the images lie further off than 99 % of the reference")
    for e in shift.estimates:
        true = f", measured by its labels {100 * e.true:.1f} %" if e.true is not None else ""
        say(
            f"  {e.measure} of {e.head} here, estimated: {100 * e.estimate.value:.1f} % "
            f"({100 * e.estimate.low:.1f}..{100 * e.estimate.high:.1f}), by mean confidence {100 * e.by_mean:.1f} %"
            f"{true}; on labelled images {100 * e.on_reference:.1f} %"
        )
    for note in notes:
        say(f"  {note}")
    say(f"{'shifted' if shift.shifted else 'not shifted'} ({shift.amount})")
    for advice in shift.advice:
        say(f"- {advice.text}")
